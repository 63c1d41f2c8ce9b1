//! libclamav in processes of its own: the same answers, and what becomes of those that crash, hang, or are taken over.
//!
//! Each test is a process, because [`Isolation::start`] wants one with a single thread. A library that is compiled of `shim.c` and
//! preloaded lets an object decide what happens where it is scanned. What this program does is decided by an environment variable.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod endings;
mod hostile;
mod processes;
#[path = "../support/mod.rs"]
mod support;
mod taken_over;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use scanlib::{
    Engine, EngineBuilder, EngineScan, Isolation, IsolationOptions, Library, Payload, Request,
};

/// What a process of this program is to do.
const ROLE: &str = "SCANLIB_TEST_ROLE";
/// A secret in the environment of every role.
pub(crate) const SECRET_VARIABLE: &str = "SCANLIB_TEST_SECRET";
/// No test takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// A test in a process of its own.
type Role = fn(&Isolation);

const TESTS: &[(&str, Role)] = &[
    ("scans_answer_as_in_this_process", answers::scans),
    (
        "published_signatures_find_in_log_messages_what_they_find_in_this_process",
        answers::published_signatures,
    ),
    ("files_and_pipes_answer_as_in_this_process", answers::files),
    (
        "files_of_many_kinds_answer_as_in_this_process",
        answers::kinds,
    ),
    ("loads_report_as_in_this_process", answers::loads),
    ("loads_fail_as_in_this_process", answers::failing_loads),
    ("a_crash_costs_its_object_and_no_other", endings::crash),
    (
        "what_crashes_only_beside_others_is_answered",
        endings::crash_beside_others,
    ),
    ("an_outage_is_short", endings::outage),
    (
        "a_thousand_crashes_leave_no_descriptor_process_or_file",
        endings::leaks,
    ),
    ("a_scan_that_hangs_is_killed_at_its_limit", endings::hang),
    (
        "processes_that_are_killed_at_random_change_no_answer",
        endings::killed_at_random,
    ),
    (
        "without_its_template_an_engine_says_that_it_is_lost",
        endings::template_killed,
    ),
    (
        "without_the_spawner_an_engine_says_that_it_is_lost",
        endings::spawner_killed,
    ),
    ("a_stopped_template_is_given_up", endings::template_stopped),
    (
        "a_crash_while_signatures_are_loaded_fails_the_load",
        endings::crash_while_loading,
    ),
    ("an_engine_that_is_dropped_leaves_nothing", endings::dropped),
    (
        "a_directory_that_is_removed_or_replaced_is_noticed_and_another_engine_uses_it",
        endings::tmp_dir_replaced,
    ),
    (
        "an_engine_is_drained_before_the_next_one_is_built",
        endings::drained,
    ),
    (
        "all_processes_end_with_the_main_process",
        endings::main_killed,
    ),
    (
        "a_scan_that_takes_too_much_memory_fails_alone",
        endings::memory,
    ),
    (
        "a_process_that_was_taken_over_can_do_nothing_outside_its_directory",
        taken_over::confined,
    ),
    (
        "a_file_that_is_scanned_cannot_be_changed_by_its_scan",
        taken_over::files,
    ),
    (
        "an_answer_out_of_protocol_costs_its_own_scan",
        hostile::nonsense,
    ),
    (
        "a_flood_of_answers_is_bounded_in_time_and_memory",
        hostile::floods,
    ),
    (
        "descriptors_that_are_sent_along_are_closed",
        hostile::descriptors,
    ),
    (
        "a_process_that_reads_nothing_does_not_hang_its_callers",
        hostile::deaf,
    ),
    (
        "whatever_a_process_leaves_in_its_directory_is_removed",
        hostile::directories,
    ),
];

/// Processes that tests start besides.
const HELPERS: &[(&str, Role)] = &[("wait", endings::wait)];

fn main() -> ExitCode {
    match std::env::var(ROLE) {
        Ok(role) if role == "probe" => {
            taken_over::unconfined();
            ExitCode::SUCCESS
        }
        Ok(role) => {
            // What is open when the spawner is forked, and not closed by `exec`: no scanning process must have it.
            let secret = std::env::var_os("SCANLIB_TEST_SECRET_FILE").map(|path| {
                rustix::fs::open(path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            });
            let isolation = Isolation::start().unwrap();
            let mut roles = TESTS.iter().chain(HELPERS);
            let (_, run) = roles.find(|(name, _)| *name == role).unwrap();
            run(&isolation);
            drop(secret);
            ExitCode::SUCCESS
        }
        Err(_) => tests(),
    }
}

fn tests() -> ExitCode {
    let arguments = Arguments::from_args();
    let dir = tempfile::tempdir().unwrap();
    let shim = match arguments.list {
        true => None,
        false => compile_shim(dir.path()),
    };
    if shim.is_none() && !arguments.list {
        let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        eprintln!("left out: the tests of isolation, for want of a C compiler (cc)");
        return if ci {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let secret_file = dir.path().join("secret");
    fs::write(&secret_file, secret("file")).unwrap();
    let trials = TESTS.iter().map(|&(name, _)| {
        let shim = shim.clone();
        let secret_file = secret_file.clone();
        Trial::test(name, move || {
            let mut command = role(name);
            command
                .env("LD_PRELOAD", shim.unwrap_or_default())
                .env(SECRET_VARIABLE, secret("variable"))
                .env("SCANLIB_TEST_SECRET_FILE", secret_file);
            let (status, output) = run(command, PATIENCE);
            for line in output.lines() {
                if line.starts_with("measured: ") || line.starts_with("left out: ") {
                    eprintln!("{name}: {line}");
                }
            }
            match status.success() {
                true => Ok(()),
                false => Err(Failed::from(format!("{status}\n{output}"))),
            }
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(dir);
    conclusion.exit_code()
}

/// A text that nothing else holds.
pub(crate) fn secret(of: &str) -> String {
    format!("the-secret-of-a-{of}-{}", 0x5ec2e7)
}

fn compile_shim(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isolation/shim.c");
    let shim = dir.join("shim.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&shim, &source])
        .args(["-ldl", "-pthread"])
        .output();
    let output = match compiled {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("cc: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(shim)
}

/// This program in another role. The environment, the preloaded library among it, is passed on.
pub(crate) fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, name).stdin(Stdio::null());
    command
}

/// Runs a command to its end, or kills it; returns what it printed.
pub(crate) fn run(mut command: Command, patience: Duration) -> (ExitStatus, String) {
    let mut output = tempfile::tempfile().unwrap();
    let copy = |file: &File| Stdio::from(file.try_clone().unwrap());
    let mut child = command
        .stdout(copy(&output))
        .stderr(copy(&output))
        .spawn()
        .unwrap();
    let until = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= until {
            child.kill().unwrap();
            child.wait().unwrap();
            break ExitStatus::from_raw(libc_sigkill());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    output.rewind().unwrap();
    let mut text = Vec::new();
    output.read_to_end(&mut text).unwrap();
    (status, String::from_utf8_lossy(&text).into_owned())
}

fn libc_sigkill() -> i32 {
    rustix::process::Signal::KILL.as_raw()
}

/// A builder with the shipped signature.
pub(crate) fn builder() -> EngineBuilder {
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    builder.builtin_signatures().unwrap()
}

pub(crate) fn threads(number: usize) -> IsolationOptions {
    IsolationOptions::default().threads(NonZeroUsize::new(number).unwrap())
}

/// An isolated engine with the shipped signature and this number of threads.
pub(crate) fn engine(isolation: &Isolation, number: usize) -> Engine {
    let builder = builder().isolation(isolation, threads(number));
    builder.compile().unwrap()
}

pub(crate) fn scan(engine: &Engine, object: &[u8]) -> EngineScan {
    engine
        .scan(Payload::Bytes(object), &Request::new())
        .unwrap()
}

/// Whether it is the right answer for an object without anything to find.
pub(crate) fn is_clean(scan: &EngineScan) -> bool {
    scan.names.is_empty() && scan.incomplete.is_none() && !scan.type_ignored
}

/// Whether EICAR was found, and nothing else happened.
pub(crate) fn is_eicar(scan: &EngineScan) -> bool {
    scan.names == ["Embedded.Test.Eicar.UNOFFICIAL"] && scan.incomplete.is_none()
}
