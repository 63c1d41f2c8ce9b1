//! The flags of `scanner-bin scan`, most of them clamscan's, and the hard places of a file system.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scanner-bin");

/// A directory on memory where there is one, with a database and a tree of files.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// `tree` holds a clean, an infected and an empty file, links, a FIFO, and infected files in two directories.
    fn new() -> Scene {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let scene = Scene { dir };
        // Two signatures of our own: any file with one of these words.
        let word = |word: &str| hex::encode(word);
        let signatures = format!(
            "Test.Red:0:*:{}\nTest.Blue:0:*:{}\n",
            word("red-marker"),
            word("blue-marker")
        );
        scene.write("words.ndb", signatures);
        scene.write("tree/clean.txt", "hello, world\n");
        scene.write("tree/bad.txt", "this has the red-marker in it\n");
        scene.write("tree/empty", "");
        scene.write("tree/sub/bad.bin", "this has the blue-marker in it\n");
        scene.write("tree/sub/other/bad.bin", "red-marker and blue-marker\n");
        symlink("clean.txt", scene.path("tree/link")).unwrap();
        symlink(".", scene.path("tree/loop")).unwrap();
        mkfifo(&scene.path("tree/fifo"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// `scan` with the database, in the scene's directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["scan", "--database", "words.ndb"])
            .args(arguments);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in ["NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        command
    }

    fn scan(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    fn clamscan(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("clamscan");
        command.args(["--database", "words.ndb"]).args(arguments);
        let output = command.current_dir(self.dir.path()).output();
        Said::of(output.expect("clamscan is installed by `tests/setup test`"))
    }
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What a program said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        Said {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn lines(&self) -> BTreeSet<&str> {
        self.out.lines().collect()
    }

    /// The object of `--stats json`.
    fn stats(&self) -> Value {
        serde_json::from_str(self.err.lines().last().unwrap()).unwrap()
    }
}

#[test]
fn what_is_printed_and_the_exit_status_are_clamscans() {
    let scene = Scene::new();
    scene.write("list", "tree/clean.txt\ntree/sub/\r\ntree/bad.txt");
    let shared: &[&[&str]] = &[
        &["tree"],
        &["-r", "tree"],
        &["-ri", "tree/"],
        &["-r", "-o", "tree"],
        &["--recursive=yes", "--infected", "tree"],
        &["--recursive=no", "--suppress-ok-results", "tree"],
        &["-r", "-z", "tree"],
        &["-r", "--allmatch=yes", "-i", "tree"],
        &["-r", "--exclude=\\.bin$", "tree"],
        &["-r", "--exclude", "clean", "--exclude", "tree/bad", "tree"],
        &["-r", "--exclude-dir=other", "tree"],
        &["-r", "--exclude-dir=/sub/", "tree"],
        &["-r", "--include=\\.txt$", "tree"],
        &[
            "-r",
            "--include=txt",
            "--include=empty",
            "--exclude=bad",
            "tree",
        ],
        &["-r", "--include-dir=sub", "tree"],
        &["-r", "--include-dir=^tree", "tree"],
        &["-r", "--exclude=^tree", "tree"],
        &["-r", "--exclude=^/", "tree"],
        &["-r", "--exclude-dir=^/", "tree"],
        &["-r", "--exclude=clean", "tree/clean.txt", "tree/sub"],
        &["tree/clean.txt", "tree/link", "tree/empty"],
        &["tree/loop"],
        &["-f", "list"],
        &["--file-list=list", "--recursive"],
        &["--quiet", "-r", "tree"],
        &[
            "--max-filesize=1M",
            "--max-scansize=4M",
            "--max-recursion=5",
            "--max-files=100",
            "--max-scantime=60000",
            "-r",
            "tree",
        ],
        &[
            "--max-filesize=0",
            "--max-scansize=0",
            "--max-files=0",
            "--max-scantime=0",
            "tree",
        ],
        &[
            "--scan-pe=yes",
            "--heuristic-alerts",
            "--remove=no",
            "tree/clean.txt",
        ],
    ];
    for arguments in shared {
        let arguments = [&["--no-summary"], *arguments].concat();
        let (theirs, ours) = (scene.clamscan(&arguments), scene.scan(&arguments));
        // A FIFO inside a directory is not mentioned by clamscan at all.
        let mut lines = ours.lines();
        lines.remove("tree/fifo: Not a regular file");
        lines.remove("tree/loop/fifo: Not a regular file");
        assert_eq!(lines, theirs.lines(), "{arguments:?}: {}", ours.err);
        assert_eq!(ours.code, theirs.code, "{arguments:?}: {}", ours.err);
    }
}

#[test]
fn flags_that_change_what_is_examined_are_refused_and_others_ignored_with_a_warning() {
    let scene = Scene::new();
    for flag in [
        "--scan-archive=no",
        "--cvdcertsdir=/etc",
        "--follow-dir-symlinks=2",
        "--max-htmlnormalize=5M",
        "--fail-if-cvd-older-than=7",
    ] {
        let said = scene.scan(&[flag, "tree/bad.txt"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{flag}");
        let name = flag.split('=').next().unwrap();
        assert!(
            said.err
                .contains(&format!("clamscan's {name} is not supported: ")),
            "{}",
            said.err
        );
    }
    assert!(scene.path("tree/bad.txt").exists());

    let said = scene.scan(&[
        "-v",
        "--debug",
        "--gen-json",
        "--no-summary",
        "tree/bad.txt",
    ]);
    assert_eq!(said.code, 1);
    let warnings: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.contains("is ignored"))
        .collect();
    assert_eq!(warnings.len(), 3, "{}", said.err);

    for wrong in [
        &["--recursive=maybe", "tree"][..],
        &["--max-filesize=1X", "tree"],
        &["--max-recursion=101", "tree"],
        &["--max-recursion=0", "tree"],
        &["--exclude=(", "tree"],
        &["--file-list=missing"],
        &["--move=missing", "tree"],
        &["--log=missing/log", "tree"],
        &["--format=jsonl", "--stdout", "tree"],
        &["--lines", "--copy=.", "tree"],
        &["-", "-"],
        &["-f", "-", "-"],
        &[],
    ] {
        let said = scene.scan(wrong);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{wrong:?}");
        assert!(!said.err.is_empty());
    }
}

#[test]
fn every_limit_makes_what_meets_it_partial_and_never_ok() {
    let scene = Scene::new();
    // Five archives, each in the next.
    let mut archive = zip("a.txt", b"an innocent text");
    for _ in 0..4 {
        archive = zip("inner.zip", &archive);
    }
    scene.write("nested.zip", archive);
    scene.write("large.txt", "a line of text\n".repeat(3 << 20));
    let cases = [
        (&["--max-filesize=100", "nested.zip"][..], "max_filesize"),
        (&["--max-scansize=600", "nested.zip"], "max_scansize"),
        (&["--max-recursion=3", "nested.zip"], "max_recursion"),
        (&["--max-files=2", "nested.zip"], "max_files"),
        (&["--max-scantime=1", "large.txt"], "max_scantime"),
    ];
    for (arguments, reason) in cases {
        let said = scene.scan(&[arguments, &["--stats=json"]].concat());
        assert_eq!(said.code, 2, "{arguments:?}: {}{}", said.out, said.err);
        assert!(
            said.out.ends_with(" PARTIAL\n"),
            "{arguments:?}: {}",
            said.out
        );
        assert_eq!(
            said.stats()["not_examined"][reason],
            1,
            "{arguments:?}: {}",
            said.err
        );
        assert_eq!(said.stats()["partial"], 1);
        assert_eq!(said.stats()["clean"], 0);
    }
    let said = scene.scan(&["nested.zip", "large.txt"]);
    assert_eq!((said.code, said.lines().len()), (0, 2), "{}", said.out);

    let said = scene.scan(&["-r", "--max-dir-recursion=1", "tree"]);
    assert!(
        said.lines()
            .contains("tree/sub: not entered, deeper than --max-dir-recursion PARTIAL")
    );
    let said = scene.scan(&["-ri", "--max-dir-recursion=1", "--exclude=bad", "tree"]);
    assert_eq!(said.code, 2, "{}", said.out);
}

/// An archive with one member, stored as it is, without checksum.
fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let len = (bytes.len() as u32).to_le_bytes();
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x5a, 0, 0, 0, 0][..],
        &len,
        &len,
        &(name.len() as u16).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), bytes].concat();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name.as_bytes()].concat();
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0",
        &(central.len() as u32).to_le_bytes()[..],
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, central, end].concat()
}

#[test]
fn signatures_are_chosen_by_flags() {
    let scene = Scene::new();
    let unwanted = hex::encode("hello");
    scene.write(
        "unwanted.ndu",
        format!("PUA.Test.Greeting:0:*:{unwanted}\n"),
    );
    let scan = |flags: &[&str]| {
        let both = [&["-i", "--database=unwanted.ndu", "tree/clean.txt"], flags].concat();
        scene.scan(&both)
    };
    assert_eq!(scan(&["--detect-pua=no"]).code, 0);
    let said = scan(&["--detect-pua"]);
    assert_eq!(
        said.out,
        "tree/clean.txt: PUA.Test.Greeting.UNOFFICIAL FOUND\n"
    );
    // Nothing in this directory is signed by the publisher: no signature is left, and that is an error.
    scene.write(
        "folder/words.ndb",
        fs::read(scene.path("words.ndb")).unwrap(),
    );
    let official = |value: &str| {
        let output = Command::new(PROGRAM)
            .args(["scan", value, "--database=folder", "tree/bad.txt"])
            .current_dir(scene.dir.path())
            .output();
        Said::of(output.unwrap())
    };
    assert_eq!(official("--official-db-only=no").code, 1);
    let said = official("--official-db-only");
    assert_eq!(said.code, 2, "{}{}", said.out, said.err);
    assert!(said.out.is_empty());

    // An archive with the bit that says "encrypted".
    let mut encrypted = zip("secret.txt", b"nobody can read this text");
    encrypted[6] |= 1;
    let central = memchr::memmem::find(&encrypted, b"PK\x01\x02").unwrap();
    encrypted[central + 8] |= 1;
    scene.write("encrypted.zip", encrypted);
    assert_eq!(scene.scan(&["encrypted.zip"]).code, 0);
    let said = scene.scan(&["--alert-encrypted", "encrypted.zip"]);
    assert_eq!(said.out, "encrypted.zip: Heuristics.Encrypted.Zip FOUND\n");
}

#[test]
fn infected_files_are_put_aside_and_nothing_is_overwritten() {
    let scene = Scene::new();
    fs::create_dir(scene.path("aside")).unwrap();
    let aside = |name: &str| fs::read_to_string(scene.path("aside").join(name)).unwrap();
    let said = scene.scan(&["-ri", "--copy=aside", "tree"]);
    assert_eq!(said.code, 1);
    assert_eq!(aside("bad.txt"), "this has the red-marker in it\n");
    let pair = BTreeSet::from([aside("bad.bin"), aside("bad.bin.001")]);
    assert_eq!(pair.len(), 2, "two files of one name: {pair:?}");
    assert!(scene.path("tree/bad.txt").exists());
    let mode = scene.path("aside/bad.txt").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    // What lies in the quarantine stays there, also when it is scanned.
    let said = scene.scan(&["-ri", "--move=aside", "tree", "aside"]);
    assert_eq!(said.code, 1);
    for moved in ["tree/bad.txt", "tree/sub/bad.bin", "tree/sub/other/bad.bin"] {
        assert!(!scene.path(moved).exists(), "{moved}: {}", said.out);
    }
    assert!(scene.path("tree/clean.txt").exists());
    assert_eq!(
        fs::read_dir(scene.path("aside")).unwrap().count(),
        6,
        "{}",
        said.out
    );
    assert_eq!(aside("bad.txt.001"), "this has the red-marker in it\n");
    let target = scene.path("aside").canonicalize().unwrap();
    let line = format!("tree/bad.txt: moved to '{}/bad.txt.001'", target.display());
    assert!(said.lines().contains(line.as_str()), "{}", said.out);

    // A link on the command line stays, and its file is moved.
    let file = scene.write("file", "red-marker");
    symlink(&file, scene.path("link")).unwrap();
    assert_eq!(scene.scan(&["--move=aside", "link"]).code, 1);
    assert!(!file.exists() && scene.path("link").is_symlink());

    let mut child = scene.command(&["--move=aside", "--stats=json", "-"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"red-marker")
        .unwrap();
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 1);
    assert!(
        said.out.starts_with("stdin: Test.Red.UNOFFICIAL FOUND\n"),
        "{}",
        said.out
    );
    assert_eq!(said.stats()["not_put_aside"], 1);
}

#[test]
fn the_log_gets_what_quiet_hides_and_is_appended_to() {
    let scene = Scene::new();
    let flags = ["-r", "--quiet", "--color=always", "--log", "log"];
    let said = scene.scan(&[&flags[..], &["tree", "missing"]].concat());
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(
        said.err.starts_with("missing: No such file"),
        "only errors: {}",
        said.err
    );
    assert_eq!(said.err.lines().count(), 1);
    let once = fs::read_to_string(scene.path("log")).unwrap();
    for line in [
        "tree/clean.txt: OK\n",
        "tree/bad.txt: Test.Red.UNOFFICIAL FOUND\n",
        "Infected files: 3\n",
    ] {
        assert!(once.contains(line), "{once}");
    }
    assert!(!once.contains('\u{1b}'), "{once}");
    scene.scan(&["--log", "log", "tree/clean.txt"]);
    let twice = fs::read_to_string(scene.path("log")).unwrap();
    assert!(twice.starts_with(&once) && twice.len() > once.len());
}

/// Two lines that libclamav has to look at, one of them for its bytes, and one that it has not.
#[test]
fn the_summary_says_what_the_prefilter_cleared_and_what_libclamav_looked_at() {
    let scene = Scene::new();
    let lines = "an ordinary line\nthis has the red-marker in it\n\nwith a \x01 in it\n";
    scene.write("lines", lines);
    let flags = ["--lines", "--views=raw", "--rules=off"];
    let scan = |more: &[&str]| scene.scan(&[&flags[..], more, &["lines"]].concat());
    let stats = scan(&["--stats=json"]).stats();
    let looked = &stats["prefilter"];
    assert_eq!(
        looked["causes"],
        serde_json::json!({ "bytes": 1, "signature": 1 })
    );
    assert_eq!(
        (&looked["cleared"], &looked["scanned"]),
        (&1.into(), &2.into())
    );
    assert_eq!(looked["off"], Value::Null);
    assert!(looked["audits"].as_u64() <= Some(1), "{looked}");
    assert_eq!(stats["signatures_left_out"], 0);
    let summary = scan(&[]).err;
    assert!(
        summary.contains("\nPrefilter: 1 views cleared, 2 scanned by libclamav, "),
        "{summary}"
    );

    let off = scan(&["--prefilter=off", "--stats=json"]).stats();
    let looked = &off["prefilter"];
    assert_eq!(
        (&looked["cleared"], &looked["scanned"]),
        (&0.into(), &3.into())
    );
    assert_eq!(looked["off"], "the prefilter is not asked for");
    assert_eq!(looked["causes"], serde_json::json!({ "off": 3 }));
}

#[test]
fn what_is_left_out_is_not_found_by_a_scan_and_the_summary_says_so() {
    let scene = Scene::new();
    let said = scene.scan(&["-r", "--leave-out=Test.Red", "tree"]);
    let mut found: Vec<_> = said
        .lines()
        .into_iter()
        .filter(|line| line.ends_with("FOUND"))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "tree/sub/bad.bin: Test.Blue.UNOFFICIAL FOUND",
            "tree/sub/other/bad.bin: Test.Blue.UNOFFICIAL FOUND",
        ]
    );
    assert!(
        said.err
            .contains("\nKnown viruses: 1\nSignatures left out: 1\n"),
        "{}",
        said.err
    );
    let said = scene.scan(&[
        "-r",
        "--leave-out=Test.Rad.UNOFFICIAL",
        "--stats=json",
        "tree",
    ]);
    assert!(
        said.err
            .starts_with("scanner-bin: warning: Test.Rad.UNOFFICIAL cannot be excluded: "),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("; the nearest is Test.Red\n"),
        "{}",
        said.err
    );
    assert_eq!(said.stats()["signatures_left_out"], 0);
    assert_eq!(said.stats()["infected"], 3);
}

#[test]
fn the_log_only_profile_finds_what_is_in_text_and_the_summary_says_what_is_left_out() {
    let scene = Scene::new();
    scene.write(
        "more.ndb",
        "My.Text:7:*:6e6565646c65\nMy.Program:1:*:6e6565646c65\n",
    );
    scene.write("line", "a needle\n");
    let flags = ["--lines", "--rules=off", "--database=more.ndb", "line"];
    for (profile, counts) in [
        ("full", "\nKnown viruses: 4\n"),
        ("log-only", "\nKnown viruses: 3\nSignatures left out: 1\n"),
    ] {
        let profile = format!("--profile={profile}");
        let said = scene.scan(&[&flags[..], &[&*profile]].concat());
        assert!(said.err.contains(counts), "{}", said.err);
        assert!(
            said.lines()
                .iter()
                .any(|line| line.contains("My.Text.UNOFFICIAL FOUND"))
        );
    }
}

#[test]
fn statistics_are_one_object_and_agree_with_the_rows() {
    let scene = Scene::new();
    scene.write("tree/large.txt", "x".repeat(2000));
    let flags = [
        "-r",
        "--max-filesize=1K",
        "--exclude=clean",
        "--stats=json",
        "--threads=3",
    ];
    let said = scene.scan(&[&flags[..], &["--format=jsonl", "tree", "missing"]].concat());
    let stats = said.stats();
    let rows: Vec<Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!(stats["infected"], count("threat"));
    assert_eq!(stats["partial"], count("partial"));
    assert_eq!(stats["errors"], count("error"));
    assert_eq!(stats["empty"], count("skipped"));
    assert_eq!(stats["clean"], count("clean"));
    assert_eq!(
        [
            "scanned",
            "infected",
            "partial",
            "errors",
            "empty",
            "directories",
            "threads",
            "known_signatures"
        ]
        .map(|key| stats[key].as_u64().unwrap()),
        [4, 3, 1, 1, 1, 3, 3, 2]
    );
    assert_eq!(
        stats["not_examined"],
        serde_json::json!({ "max_filesize": 1, "unreadable": 1 })
    );
    let left_out = serde_json::json!({ "excluded": 1, "symbolic_link": 2, "special_file": 1 });
    assert_eq!(stats["left_out"], left_out);
    assert_eq!(stats["exit_status"], said.code);
    assert!(stats["seconds"].as_f64().unwrap() > 0.0 && stats["bytes"].as_u64().unwrap() > 0);

    // Without -r the directories below are left out, which is said and not counted as scanned.
    assert_eq!(
        scene.scan(&["--stats=json", "tree"]).stats()["left_out"]["subdirectory"],
        1
    );

    let said = scene.scan(&["--stdout", "tree/clean.txt"]);
    assert!(
        said.out.contains("Scanned files: 1\n") && !said.err.contains("SUMMARY"),
        "{}",
        said.err
    );
    let said = scene.scan(&["--lines", "--rules=off", "tree/bad.txt"]);
    assert!(said.err.contains("Infected lines: 1\n"), "{}", said.err);
}

#[test]
fn without_a_database_the_one_of_the_system_is_not_used() {
    let scene = Scene::new();
    let output = Command::new(PROGRAM)
        .args(["scan", "--stats=json", "tree/bad.txt"])
        .current_dir(scene.dir.path())
        .output()
        .unwrap();
    let said = Said::of(output);
    assert!(
        said.err.contains("built-in test signature only"),
        "{}",
        said.err
    );
    assert_eq!(said.stats()["known_signatures"], 1);
    assert_eq!(said.stats()["builtin_only"], true);
}

#[test]
fn a_list_of_paths_may_come_from_a_pipe_and_hold_any_bytes() {
    let scene = Scene::new();
    let odd = OsStr::from_bytes(b"odd \xff\x1b[31m name");
    fs::write(scene.dir.path().join(odd), "red-marker").unwrap();
    let mut list = b"tree/clean.txt\n\ntree/vanished\n".to_vec();
    list.extend(odd.as_bytes());
    let run = |flags: &[&str]| {
        let mut command = scene.command(flags);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&list).unwrap();
        Said::of(child.wait_with_output().unwrap())
    };
    let said = run(&["--files-from=-", "tree/empty"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        lines,
        [
            "tree/empty: Empty file",
            "tree/clean.txt: OK",
            "tree/vanished: No such file or directory (os error 2) ERROR",
            r"odd \xff\u{1b}[31m name: Test.Red.UNOFFICIAL FOUND",
        ],
        "paths of the command line first, then the list"
    );
    assert_eq!(said.code, 1);

    let said = run(&["-f", "-", "--format=jsonl", "-i"]);
    let row: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    use base64::Engine as _;
    let bytes = base64::prelude::BASE64_STANDARD.decode(row["path_base64"].as_str().unwrap());
    assert_eq!(bytes.unwrap(), odd.as_bytes(), "the name is not lost");
    assert!(!said.out.contains('\u{1b}'));
}

#[test]
fn loops_fifos_and_dangling_links_neither_hang_nor_pass_as_clean() {
    let scene = Scene::new();
    symlink("ring-b", scene.path("ring-a")).unwrap();
    symlink("ring-a", scene.path("ring-b")).unwrap();
    symlink("nowhere", scene.path("dangling")).unwrap();
    let started = Instant::now();
    for (name, what) in [
        ("ring-a", "Too many levels of symbolic links"),
        ("dangling", "No such file or directory"),
        ("tree/fifo", "is neither a file nor a directory"),
        ("/dev/null", "is neither a file nor a directory"),
    ] {
        let said = scene.scan(&[name]);
        assert_eq!(said.code, 2, "{name}");
        assert!(
            said.out.contains(what) && said.out.ends_with(" ERROR\n"),
            "{}",
            said.out
        );
        assert_eq!(scene.scan(&["--lines", name]).code, 2, "{name}");
    }
    let said = scene.scan(&["-r", "-i", "tree", "tree/loop"]);
    assert_eq!(
        said.lines().len(),
        6,
        "each file once for each name: {}",
        said.out
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_directory_or_file_that_may_not_be_read_is_an_error_in_its_place() {
    let scene = Scene::new();
    let (directory, file) = (scene.path("tree/sub"), scene.path("tree/clean.txt"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything: it becomes somebody else, who can read the program.
    fs::set_permissions(scene.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = scene.path("program");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    if scene.dir.path().metadata().unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    command.args(["scan", "-r", "--stats=json", "--database=words.ndb", "tree"]);
    let said = Said::of(command.current_dir(scene.dir.path()).output().unwrap());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["tree/sub", "tree/clean.txt"] {
        let line = format!("{name}: Permission denied (os error 13) ERROR");
        assert!(
            said.lines().contains(line.as_str()),
            "{}{}",
            said.out,
            said.err
        );
    }
    assert!(
        said.lines()
            .contains("tree/bad.txt: Test.Red.UNOFFICIAL FOUND")
    );
    assert_eq!(said.stats()["not_examined"]["unreadable"], 2);
    assert_eq!(said.code, 1);
}

#[test]
fn colours_are_used_when_wanted_only() {
    let scene = Scene::new();
    let red = "tree/bad.txt: \u{1b}[1m\u{1b}[31mTest.Red.UNOFFICIAL FOUND\u{1b}[0m\n";
    let plain = "tree/bad.txt: Test.Red.UNOFFICIAL FOUND\n";
    let scan = |flags: &[&str], variable: Option<(&str, &str)>| {
        let mut command = scene.command(&[flags, &["--no-summary", "tree/bad.txt"]].concat());
        command.envs(variable);
        Said::of(command.output().unwrap()).out
    };
    assert_eq!(scan(&[], None), plain, "a pipe");
    assert_eq!(scan(&["--color=always"], Some(("NO_COLOR", "1"))), red);
    assert_eq!(scan(&[], Some(("CLICOLOR_FORCE", "1"))), red);
    assert_eq!(
        scan(&["--color=never"], Some(("CLICOLOR_FORCE", "1"))),
        plain
    );
}

/// What a terminal gets: `script` of util-linux lends one.
fn on_a_terminal(scene: &Scene, shell: &str) -> String {
    let command = format!("{PROGRAM} scan --database words.ndb {shell}");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "typescript"])
        .current_dir(scene.dir.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("`script` of util-linux is installed everywhere");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether the system lends terminals at all; a bare root directory without `/dev/pts` does not.
fn has_terminals() -> bool {
    let tried = Command::new("script")
        .args(["--quiet", "--return", "--command", "true", "/dev/null"])
        .stdin(Stdio::null())
        .output();
    let has = tried.is_ok_and(|output| output.status.success());
    if !has {
        // libtest swallows `eprintln!` of a test that passes; this reaches the person who runs it.
        let told = writeln!(
            std::io::stderr(),
            "left out: colours and progress on a terminal; the system lends none (is /dev/pts mounted?)"
        );
        told.unwrap();
    }
    has
}

#[test]
fn a_terminal_gets_colours_and_a_progress_bar_and_a_pipe_gets_neither() {
    if !has_terminals() {
        return;
    }
    let scene = Scene::new();
    // Long enough for the bar to be drawn more than once.
    for n in 0..6 {
        scene.write(
            &format!("more/{n}.txt"),
            format!("line {n} of text\n").repeat(1 << 20),
        );
    }
    let seen = on_a_terminal(&scene, "-r tree more");
    assert!(
        seen.contains("\u{1b}[31mTest.Red.UNOFFICIAL FOUND\u{1b}[0m"),
        "{seen:?}"
    );
    assert!(
        seen.contains("scanned, ") && seen.contains("/s, "),
        "no bar: {seen:?}"
    );
    assert!(seen.contains(" left"), "no time left: {seen:?}");
    assert!(seen.contains("Infected files: 3"), "{seen:?}");

    let seen = on_a_terminal(&scene, "-r --no-progress --color never tree more");
    assert!(
        !seen.contains("scanned, ") && !seen.contains('\u{1b}'),
        "{seen:?}"
    );

    // Results in a file, the bar on the terminal.
    let seen = on_a_terminal(&scene, "-r tree more >results");
    assert!(seen.contains("scanned, "), "{seen:?}");
    let results = fs::read_to_string(scene.path("results")).unwrap();
    assert!(
        !results.contains('\u{1b}') && results.contains("tree/clean.txt: OK\n"),
        "{results:?}"
    );

    let said = scene.scan(&["-r", "tree", "more"]);
    assert!(
        !said.err.contains("scanned, ") && !said.err.contains('\u{1b}'),
        "{}",
        said.err
    );
}

#[test]
fn nobody_has_to_listen_on_either_output() {
    let scene = Scene::new();
    let arguments = ["-r", "--remove=no", "-v", "--bell", "tree", "missing"];
    let mut command = scene.command(&arguments);
    // Pipes whose other ends are closed before anything is written.
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    // 101 would be a panic; what was found until the pipe broke decides.
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0..=2)), "{code:?}");
    for flags in [&["--quiet"][..], &["--stdout"], &["--stats=json"]] {
        let mut command = scene.command(&[flags, &["-r", "tree", "missing"]].concat());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{flags:?}");
    }
}

#[test]
fn a_bell_sounds_for_a_threat_only() {
    let scene = Scene::new();
    assert!(
        scene
            .scan(&["--bell", "--no-summary", "tree/bad.txt"])
            .err
            .contains('\x07')
    );
    assert!(
        !scene
            .scan(&["--bell", "--no-summary", "tree/clean.txt"])
            .err
            .contains('\x07')
    );
}

#[test]
fn the_short_help_fits_a_screen_and_the_long_one_says_what_differs_from_clamscan() {
    let help = |flag| {
        let output = Command::new(PROGRAM).args(["scan", flag]).output().unwrap();
        Said::of(output).out
    };
    let short = help("-h");
    assert!(
        short.lines().count() <= 40,
        "{} lines",
        short.lines().count()
    );
    assert!(short.lines().all(|line| line.chars().count() <= 100));
    assert!(short.contains("Examples:\n"), "{short}");
    let long = help("--help");
    for said in [
        "PARTIAL",
        "--remove",
        "standard error",
        "Examples:\n",
        "--max-filesize",
    ] {
        assert!(long.contains(said), "{said}: {long}");
    }
}
