//! The examples do what their first lines say. `cargo test` builds them before it runs this.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use scanlib::eicar;

const SIGNATURE: &str = "Embedded.Test.Eicar.UNOFFICIAL";

/// Where cargo puts examples: beside the folder of this test's own program.
fn example(name: &str) -> Command {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    folder.pop();
    let program = folder.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is missing: `cargo test` without a filter on targets builds it, or `cargo build --examples`",
        program.display()
    );
    Command::new(program)
}

/// Exit status and standard output.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "");
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn scan_file_answers_as_clamscan_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("line\nbreak");
    let shown = format!("{}/line\\nbreak", dir.path().display());
    fs::write(&file, eicar::text()).unwrap();
    let found = (Some(1), format!("{shown}: {SIGNATURE} FOUND\n"));
    assert_eq!(run(example("scan_file").arg(&file)), found);

    fs::write(&file, "harmless").unwrap();
    let clean = (Some(0), format!("{shown}: OK\n"));
    assert_eq!(run(example("scan_file").arg(&file)), clean);

    let database = dir.path().join("own.ndb");
    fs::write(&database, "Own:0:*:6861726d6c657373\n").unwrap();
    let found = (Some(1), format!("{shown}: Own.UNOFFICIAL FOUND\n"));
    assert_eq!(run(example("scan_file").args([&file, &database])), found);
}

#[test]
fn share_engine_counts_what_all_threads_found() {
    let expected = "4 threads: 100 of 1000 objects are infected\n";
    assert_eq!(
        run(&mut example("share_engine")),
        (Some(0), expected.to_owned())
    );
}

#[test]
fn reload_keeps_the_old_detector_when_the_database_is_broken() {
    let (status, output) = run(&mut example("reload"));
    assert_eq!(status, Some(0), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    let [first, refused, still, now, last] = lines[..] else {
        panic!("{output}")
    };
    assert_eq!(first, "first: None, says detector 1");
    assert!(
        refused.starts_with("refused: ") && refused.contains("demo.ndb"),
        "{refused}"
    );
    assert_eq!(still, "still: None, says detector 1");
    assert_eq!(now, "now: Some(\"Gargoyle.UNOFFICIAL\"), says detector 2");
    assert_eq!(last, "scans went on meanwhile");
}

#[test]
fn async_program_gets_the_verdict_of_each_task() {
    let (status, output) = run(&mut example("async_program"));
    assert_eq!(status, Some(0), "{output}");
    let (clean, infected) = output.split_once('\n').unwrap();
    assert_eq!(clean, "Clean");
    assert!(
        infected.starts_with("Infected(") && infected.contains(SIGNATURE),
        "{infected}"
    );
}

/// Killed with the test, however it ends.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ask(socket: &PathBuf, object: &[u8]) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.write_all(object).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn tiny_service_answers_many_clients_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("scan.sock");
    let _service = Service(example("tiny_service").arg(&socket).spawn().unwrap());
    std::thread::scope(|scope| {
        for n in 0..20 {
            let socket = &socket;
            scope.spawn(move || {
                let large = "x".repeat(2 << 20);
                let infected = format!("{large} {}", eicar::text());
                assert_eq!(
                    ask(socket, infected.as_bytes()),
                    format!("FOUND {SIGNATURE}\n"),
                    "{n}"
                );
                assert_eq!(ask(socket, large.as_bytes()), "OK\n", "{n}");
            });
        }
    });
}
