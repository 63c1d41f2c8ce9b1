//! `scanner-bin scan` among those who do not wish it well: files that change or are swapped while they are scanned, and logs
//! that are compressed, damaged or made to unpack without an end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};
use scanner_bin::random::SplitMix;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scanner-bin");

/// How often a moment is looked for in a program that runs by itself.
const ATTEMPTS: u32 = 200;

fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("scan").args(arguments).stdin(Stdio::null());
    command
}

fn scan(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn rows(output: &Output) -> Vec<Value> {
    let rows = text(&output.stdout);
    let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

// ---------------------------------------------------------------------------------------------
// Files that change

/// What a process has read so far, in bytes.
fn bytes_read(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines()
        .find_map(|line| line.strip_prefix("rchar: "))?
        .parse()
        .ok()
}

fn is_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|s| s.contains("State:\tT"))
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Runs `scan`, stops it in the middle of reading a file of `len` bytes, has `change` applied to the file, and lets it go on.
fn changed_in_the_middle(
    arguments: &[&str],
    path: &Path,
    len: u64,
    change: impl Fn(&File),
) -> Output {
    const BEGUN: u64 = 4 << 20;
    for _ in 0..ATTEMPTS {
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        let mut command = command(arguments);
        let mut child = command
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none()
            && bytes_read(child.id()).is_some_and(|read| read < BEGUN)
        {
            std::thread::sleep(Duration::from_micros(200));
        }
        if child.try_wait().unwrap().is_none() {
            signal(&child, Signal::STOP);
            while child.try_wait().unwrap().is_none() && !is_stopped(child.id()) {
                std::thread::sleep(Duration::from_micros(200));
            }
            let read = bytes_read(child.id()).unwrap_or(u64::MAX);
            let caught = (BEGUN..len).contains(&read);
            if caught {
                change(&file);
            }
            // It may have ended just before it could be stopped.
            if child.try_wait().unwrap().is_none() {
                signal(&child, Signal::CONT);
            }
            let output = child.wait_with_output().unwrap();
            if caught {
                return output;
            }
        }
    }
    panic!("no scan was caught in the middle of reading");
}

fn rewrite(file: &File) {
    file.write_all_at(b"other", 1000).unwrap();
}

fn truncate(file: &File) {
    file.set_len(1000).unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_scanned_is_partial_and_never_clean() {
    let dir = directory();
    let path = dir.path().join("file");
    let ways: [&[&str]; 2] = [
        // libclamav reads the file.
        &["--format=jsonl"],
        // The file is read into memory.
        &["--format=jsonl", "--views=raw,body,guarded"],
    ];
    for arguments in ways {
        for change in [rewrite, truncate] {
            let output = changed_in_the_middle(arguments, &path, 95 << 20, change);
            let row = &rows(&output)[0];
            assert_eq!(row["status"], "partial", "{arguments:?}: {row}");
            assert_eq!(row["limits"], serde_json::json!(["changed"]), "{row}");
            assert_eq!(code(&output), 2);
        }
    }
    // The same file at rest.
    File::create(&path).unwrap().set_len(95 << 20).unwrap();
    let output = scan(&["--format=jsonl", path.to_str().unwrap()]);
    assert_eq!(rows(&output)[0]["status"], "clean");
}

#[test]
fn a_file_of_lines_that_changes_while_it_is_read_is_partial() {
    let dir = directory();
    let path = dir.path().join("log");
    for change in [rewrite, truncate] {
        // A single line, which is too long to be scanned: only what is said of the file matters here.
        let output = changed_in_the_middle(&["--lines", "--format=jsonl"], &path, 1 << 30, change);
        let rows = rows(&output);
        let last = rows.last().unwrap();
        assert_eq!(last["line"], Value::Null, "{last}");
        assert_eq!(last["limits"], serde_json::json!(["changed"]), "{last}");
        assert_eq!(last["status"], "partial");
        assert_eq!(code(&output), 2);
    }
}

// ---------------------------------------------------------------------------------------------
// Files that are swapped

/// A signature of our own, a tree with infected and clean files, and files elsewhere with the same names.
struct Trap {
    dir: tempfile::TempDir,
}

/// Files of each kind.
const FILES: usize = 30;
const INFECTED: &str = "this has the red-marker in it";

impl Trap {
    fn new() -> Trap {
        let dir = directory();
        let word = hex::encode("red-marker");
        fs::write(dir.path().join("words.ndb"), format!("Red:0:*:{word}\n")).unwrap();
        let trap = Trap { dir };
        for name in ["tree/flip", "elsewhere"] {
            fs::create_dir_all(trap.path(name)).unwrap();
        }
        symlink(trap.path("elsewhere"), trap.path("tree/flop")).unwrap();
        trap
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn scan(&self, arguments: &[&str]) -> Output {
        let mut command = command(&["--database=words.ndb"]);
        let command = command.args(arguments).current_dir(self.dir.path());
        command.output().unwrap()
    }

    /// Every regular file below a directory, with what it holds.
    fn files(&self, below: &str) -> BTreeMap<PathBuf, String> {
        let files = walkdir::WalkDir::new(self.path(below)).into_iter();
        let files = files
            .map(Result::unwrap)
            .filter(|f| f.file_type().is_file());
        files
            .map(|file| {
                (
                    file.path().to_owned(),
                    fs::read_to_string(file.path()).unwrap(),
                )
            })
            .collect()
    }
}

/// Exchanges two names in a loop while something else is done.
fn flipping<T>(one: &Path, other: &Path, work: impl FnOnce(&AtomicU64) -> T) -> T {
    let (done, flips) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                flips.fetch_add(1, Ordering::Relaxed);
                if flips.load(Ordering::Relaxed).is_multiple_of(16) {
                    // Each of the two is there for a while, too.
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        let result = work(&flips);
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn nothing_is_touched_through_a_directory_that_flips_with_a_symbolic_link() {
    for action in ["--move=aside", "--copy=aside", "--remove"] {
        let trap = Trap::new();
        fs::create_dir(trap.path("aside")).unwrap();
        for n in 0..FILES {
            // Infected in the tree, and clean elsewhere under the same name.
            fs::write(trap.path("elsewhere").join(format!("f{n}")), "clean").unwrap();
            // Nobody has named this directory: what is infected in it is not to be touched either.
            let infected = format!("elsewhere/infected{n}");
            fs::write(trap.path(&infected), format!("elsewhere {INFECTED}")).unwrap();
        }
        let elsewhere = trap.files("elsewhere");
        let mut put = 0;
        let (flip, flop) = (trap.path("tree/flip"), trap.path("tree/flop"));
        for round in 0..5 {
            for n in 0..FILES {
                let name = format!("f{n}");
                // Whichever of the two is the directory now.
                let real = if flip.is_symlink() { &flop } else { &flip };
                fs::write(real.join(name), INFECTED).unwrap();
                fs::write(real.join(format!("clean{n}")), "clean").unwrap();
            }
            let before = trap.files("tree").len();
            let output = flipping(&flip, &flop, |_| trap.scan(&["-ri", action, "tree"]));
            assert_eq!(
                trap.files("elsewhere"),
                elsewhere,
                "{action}, round {round}"
            );
            let aside = trap.files("aside");
            assert!(aside.values().all(|held| held == INFECTED), "{aside:?}");
            put += aside.len() + before - trap.files("tree").len();
            let clean = trap
                .files("tree")
                .into_values()
                .filter(|held| held == "clean");
            assert_eq!(clean.count(), FILES, "{action}: {}", text(&output.stdout));
            for file in aside.keys() {
                fs::remove_file(file).unwrap();
            }
        }
        // Not in every round is the directory found.
        let output = trap.scan(&["-ri", action, "tree"]);
        put += trap.files("aside").len();
        assert!(action == "--remove" || put > 0, "{}", text(&output.stdout));
    }
}

#[test]
fn nothing_that_is_not_infected_is_moved_or_removed_when_files_swap_their_names() {
    for action in ["--move=aside", "--copy=aside", "--remove"] {
        let trap = Trap::new();
        fs::create_dir(trap.path("aside")).unwrap();
        let (one, other) = (trap.path("tree/flip/one"), trap.path("tree/flip/other"));
        fs::write(&other, "clean").unwrap();
        let clean = other.metadata().unwrap().ino();
        for _ in 0..12 {
            // Whichever name is free, or holds the infected file.
            let name = if one.metadata().is_ok_and(|m| m.ino() == clean) {
                &other
            } else {
                &one
            };
            fs::write(name, INFECTED).unwrap();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Fails once one of them is gone.
                        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).ok();
                    }
                });
                let _output = trap.scan(&["-r", action, "tree"]);
                done.store(true, Ordering::Relaxed);
            });
            let kept: Vec<_> = trap.files("tree").into_iter().collect();
            let is_kept = |(path, held): &(PathBuf, String)| {
                held == "clean" && path.metadata().unwrap().ino() == clean
            };
            let kept: Vec<_> = kept.into_iter().filter(is_kept).collect();
            assert_eq!(kept.len(), 1, "{action}: the clean file stays what it is");
            if kept[0].0 != one && kept[0].0 != other {
                // Its name was taken when it came back.
                fs::rename(&kept[0].0, &other).unwrap();
            }
            for (file, held) in trap.files("aside") {
                assert_eq!(held, INFECTED, "{action}");
                fs::remove_file(file).unwrap();
            }
        }
    }
}

#[test]
fn a_file_with_several_names_is_put_aside_under_each_of_them() {
    let trap = Trap::new();
    fs::create_dir(trap.path("aside")).unwrap();
    fs::write(trap.path("tree/a"), INFECTED).unwrap();
    fs::hard_link(trap.path("tree/a"), trap.path("tree/b")).unwrap();
    fs::hard_link(trap.path("tree/a"), trap.path("tree/c")).unwrap();
    let output = trap.scan(&["-ri", "--move=aside", "tree"]);
    assert!(trap.files("tree").is_empty(), "{}", text(&output.stdout));
    assert_eq!(trap.files("aside").len(), 3);
}

#[test]
fn infected_files_are_removed_only_when_asked_and_nothing_else_is() {
    let trap = Trap::new();
    fs::write(trap.path("tree/bad"), INFECTED).unwrap();
    fs::write(trap.path("tree/good"), "clean").unwrap();
    let (link, file) = (trap.path("link"), trap.path("file"));
    fs::write(&file, INFECTED).unwrap();
    symlink(&file, &link).unwrap();
    trap.scan(&["-r", "--remove=no", "tree", "link"]);
    assert!(trap.path("tree/bad").exists() && file.exists());
    let output = trap.scan(&["-r", "--remove", "--stats=json", "tree", "link"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("tree/bad: removed\n"), "{shown}");
    assert_eq!(code(&output), 1);
    assert!(!trap.path("tree/bad").exists());
    // A link on the command line stays, and its file is removed.
    assert!(!file.exists() && link.is_symlink());
    let left: Vec<_> = trap.files("tree").into_keys().collect();
    assert_eq!(left, [trap.path("tree/good")]);
    for with in [&["--move=tree"][..], &["--copy=tree"], &["--lines"]] {
        let refused = trap.scan(&[&["--remove"], with, &["tree"]].concat());
        assert_eq!(code(&refused), 2);
        assert!(text(&refused.stderr).contains("--remove cannot be used with"));
    }
}

#[test]
fn a_file_is_moved_to_another_file_system_whole_or_not_at_all() {
    let trap = Trap::new();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if disk.path().metadata().unwrap().dev() == trap.path("tree").metadata().unwrap().dev() {
        eprintln!("left out: there is no second file system to move files to");
        return;
    }
    let long = format!("{INFECTED}{}", "x".repeat(300_000));
    fs::write(trap.path("tree/bad"), &long).unwrap();
    let target = format!("--move={}", disk.path().display());
    let output = trap.scan(&["-r", &target, "tree"]);
    assert_eq!(code(&output), 1);
    assert!(trap.files("tree").is_empty(), "{}", text(&output.stdout));
    assert_eq!(fs::read_to_string(disk.path().join("bad")).unwrap(), long);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
}

// ---------------------------------------------------------------------------------------------
// Compressed logs

/// The text in each format, with the extension of its files.
fn packed(text: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text).unwrap();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(text).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(text).unwrap();
    let mut zst = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    // As the program zstd does.
    zst.include_checksum(true).unwrap();
    zst.write_all(text).unwrap();
    [
        ("gz", gz.finish().unwrap()),
        ("bz2", bz2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zst.finish().unwrap()),
    ]
}

fn log_with_a_threat() -> String {
    format!(
        "Oct 20 host app: hello\nOct 20 host app: {}\nlast\n",
        scanlib::eicar::text()
    )
}

#[test]
fn compressed_logs_are_read_as_the_lines_that_they_hold() {
    let dir = directory();
    let log = log_with_a_threat();
    let plain = dir.path().join("log");
    fs::write(&plain, &log).unwrap();
    let said = |output: &Output| -> Vec<Value> {
        let rows = rows(output).into_iter();
        rows.map(|mut row| {
            row["path"] = Value::Null;
            row
        })
        .collect()
    };
    let want = said(&scan(&[
        "--lines",
        "--format=jsonl",
        plain.to_str().unwrap(),
    ]));
    assert_eq!(want.len(), 3);
    assert_eq!(want[1]["status"], "threat");
    for (extension, bytes) in packed(log.as_bytes()) {
        // By any name, and twice in one file.
        for name in [format!("log.{extension}"), "messages.1".to_owned()] {
            let path = dir.path().join(name);
            fs::write(&path, &bytes).unwrap();
            let output = scan(&["--lines", "--format=jsonl", path.to_str().unwrap()]);
            assert_eq!(said(&output), want, "{extension}");
            assert_eq!(code(&output), 1, "{extension}");
            let input = File::open(&path).unwrap();
            let mut from_stdin = command(&["--lines", "--format=jsonl", "-"]);
            let output = from_stdin.stdin(input).output().unwrap();
            assert_eq!(said(&output), want, "{extension} on standard input");
        }
        let path = dir.path().join("two");
        fs::write(&path, [&bytes[..], &bytes].concat()).unwrap();
        let output = scan(&["--lines", "--format=jsonl", path.to_str().unwrap()]);
        let statuses: Vec<_> = rows(&output)
            .into_iter()
            .map(|r| r["status"].clone())
            .collect();
        assert_eq!(
            statuses,
            ["clean", "threat", "clean", "clean", "threat", "clean"],
            "{extension}"
        );
    }
}

#[test]
fn a_damaged_log_is_an_error_after_the_lines_before_the_damage() {
    let dir = directory();
    let mut log = log_with_a_threat();
    // Compresses badly, so that the damage is far from the beginning.
    let mut random = SplitMix::new(1);
    for _ in 0..60_000 {
        let state = random.number();
        log.push_str(&format!(
            "{:x}{}",
            state >> 33,
            if state >> 60 == 0 { "\n" } else { "" }
        ));
    }
    for (extension, bytes) in packed(log.as_bytes()) {
        let path = dir.path().join(format!("log.{extension}"));
        let mut damaged = bytes.clone();
        let end = damaged.len() - 200;
        damaged[end] ^= 0x55;
        for (what, bytes) in [
            ("cut off", &bytes[..bytes.len() - 100]),
            ("damaged", &damaged),
        ] {
            fs::write(&path, bytes).unwrap();
            let output = scan(&["--lines", "--format=jsonl", path.to_str().unwrap()]);
            let rows = rows(&output);
            let last = rows.last().unwrap();
            assert_eq!(last["status"], "error", "{extension}, {what}: {last}");
            assert_eq!(last["path"], path.to_str().unwrap());
            let error = last["error"].as_str().unwrap();
            assert!(error.contains("damaged, cut off"), "{extension}: {error}");
            assert_eq!(rows[1]["status"], "threat", "{extension}, {what}");
            assert_eq!(code(&output), 1);
        }
    }
    // The same without a threat, and what is compressed otherwise.
    let cut = &packed(b"one\ntwo\n")[0].1[..20];
    for (name, bytes) in [
        ("log.gz", cut),
        ("log.gz", b""),
        ("log.bz2", b"no bzip2 data"),
        ("log", b"\x04\x22\x4d\x18 lz4"),
        ("log", b"PK\x03\x04 zip"),
        ("log.br", b"brotli has no first bytes of its own"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = scan(&["--lines", path.to_str().unwrap()]);
        assert_eq!(code(&output), 2, "{name}");
        let shown = text(&output.stdout);
        let named = format!("{}: ", path.display());
        assert!(shown.lines().last().unwrap().starts_with(&named), "{shown}");
        assert!(shown.ends_with(" ERROR\n"), "{shown}");
    }
}

#[test]
fn a_line_that_unpacks_without_an_end_is_cut_and_reported() {
    let dir = directory();
    let path = dir.path().join("bomb");
    let zeros = vec![0; 8 << 20];
    for (extension, bytes) in packed(&zeros) {
        // A hundred streams of 8 MiB each in a few hundred kilobytes at most.
        fs::write(&path, bytes.repeat(100)).unwrap();
        let output = scan(&[
            "--lines",
            "--format=jsonl",
            "--max-scansize=16M",
            path.to_str().unwrap(),
        ]);
        let rows = rows(&output);
        assert_eq!(rows[0]["status"], "partial", "{extension}");
        assert_eq!(rows[0]["limits"][0], "max_message_bytes", "{extension}");
        assert_eq!(rows[1]["status"], "error", "{extension}");
        let error = rows[1]["error"].as_str().unwrap();
        assert!(error.contains("--max-scansize"), "{extension}: {error}");
        assert_eq!(code(&output), 2);
    }
}

#[test]
fn more_threads_than_the_machine_can_use_are_refused_with_the_bound() {
    let refused = scan(&["--threads=1000000", "/etc/hostname"]);
    assert_eq!(code(&refused), 2);
    let said = text(&refused.stderr);
    assert!(said.contains("between 1 and "), "{said}");
    assert_eq!(code(&scan(&["--threads=64", "/etc/hostname"])), 0);
}

#[test]
fn a_tree_deeper_than_directories_are_held_open_is_scanned_to_its_end() {
    let trap = Trap::new();
    let deep: PathBuf = std::iter::repeat_n("d", 100).collect();
    let deep = trap.path("tree").join(deep);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bad"), INFECTED).unwrap();
    for n in 0..3 {
        fs::write(trap.path("tree").join(format!("good{n}")), "clean").unwrap();
    }
    fs::create_dir(trap.path("aside")).unwrap();
    let output = trap.scan(&["-r", "--move=aside", "tree"]);
    assert_eq!(code(&output), 1);
    assert!(!deep.join("bad").exists(), "{}", text(&output.stdout));
    assert_eq!(trap.files("aside").len(), 1);
    assert_eq!(trap.files("tree").len(), 3);
    let ok = text(&output.stdout);
    assert_eq!(
        ok.lines().filter(|l| l.ends_with(": OK")).count(),
        3,
        "{ok}"
    );
}
