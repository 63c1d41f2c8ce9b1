//! How often signature files are read while an engine is built: once by this crate, besides libclamav's own loading.
//!
//! One test in a program of its own, because the kernel counts what the whole process reads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;

use scanlib::{EngineBuilder, Library, Profile};

/// Bytes of the signature file, large beside everything else that is read meanwhile.
const SIZE: usize = 8 << 20;

/// libclamav reads a file twice: it counts the signatures for its progress, then loads them.
const BY_LIBCLAMAV: f64 = 2.0;

/// Bytes that this process has requested with `read` and its like (`rchar` of proc(5)).
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let field = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    field.unwrap().parse().unwrap()
}

#[test]
fn signature_files_are_read_once_besides_libclamav() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = String::with_capacity(SIZE + 100);
    let mut number = 0;
    // Hashes of files of a megabyte, which the profile for logs excludes.
    while file.len() < SIZE {
        number += 1;
        writeln!(file, "{number:032x}:1048576:My.Hash-{number}").unwrap();
    }
    writeln!(file, "{:032x}:100:My.Short", u32::MAX).unwrap();
    fs::write(dir.path().join("a.hdb"), &file).unwrap();
    let new = || {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        builder.database(dir.path()).unwrap()
    };
    new().compile().unwrap();

    let log_only = Profile::LogOnly {
        max_message_bytes: 64 << 10,
    };
    for (what, builder, passes) in [
        ("with the prefilter", new(), 1.0 + BY_LIBCLAMAV),
        (
            "without the prefilter",
            new().prefilter(false),
            1.0 + BY_LIBCLAMAV,
        ),
        (
            "with an exclusion",
            new().exclude(["My.Hash-7"]),
            1.0 + BY_LIBCLAMAV,
        ),
        // libclamav and the prefilter read what the profile selects, a tenth of the size in comments that keep the numbers of lines.
        ("with the profile for logs", new().profile(log_only), 1.0),
    ] {
        let before = bytes_read();
        builder.compile().unwrap();
        let read = (bytes_read() - before) as f64 / file.len() as f64;
        println!("{what}: {read:.2} times the size of the signature file");
        assert!(
            (passes - 0.05..passes + 0.3).contains(&read),
            "{what}: {read:.2} times"
        );
    }
}
