//! Every way to hand an object over gives the answer of the bytes themselves.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::LazyLock;

use proptest::prelude::*;
use scanlib::{
    Engine, EngineScan, FileMap, Incomplete, Limits, Payload, Request, ScanError, Spool,
};
use support::{MARKER, MARKER_NAME, memory_dir, zip};

const MAX: u64 = 10_000;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let (builder, _database) = support::builder();
    let limits = Limits {
        max_file_bytes: MAX,
        ..Limits::default()
    };
    builder.limits(limits).compile().unwrap()
});

fn scan(payload: Payload<'_>) -> EngineScan {
    ENGINE.scan(payload, &Request::new()).unwrap()
}

// ---------------------------------------------------------------------------------------------
// Readers

proptest! {
    /// The naive twin is a vector that is cut.
    #[test]
    fn a_spool_holds_what_came_up_to_its_limit(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
        memory in 0_usize..300,
        max in 0_u64..400,
        as_reader in any::<bool>(),
    ) {
        let dir = memory_dir();
        let mut spool = Spool::new(max, dir.path()).memory_bytes(memory);
        for piece in &pieces {
            if as_reader {
                spool.read_from(piece.as_slice()).unwrap();
            } else {
                spool.write_all(piece).unwrap();
            }
        }
        let all = pieces.concat();
        let kept = &all[..all.len().min(max as usize + 1)];
        prop_assert_eq!(spool.len(), kept.len() as u64);
        prop_assert_eq!(spool.is_too_large(), all.len() as u64 > max);
        let held = match spool.payload().unwrap() {
            Payload::Bytes(bytes) => {
                prop_assert!(kept.len() <= memory);
                bytes.to_owned()
            }
            Payload::File { file, .. } => {
                prop_assert!(kept.len() > memory);
                let mut held = vec![0; file.metadata().unwrap().len() as usize];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut held, 0).unwrap();
                held
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(held, kept);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }
}

#[test]
fn what_a_reader_gives_is_found_in_memory_and_in_a_file() {
    let archive = zip([("member".to_owned(), MARKER)]);
    for memory in [0, 1 << 20] {
        let mut spool = ENGINE.spool().memory_bytes(memory);
        // One byte at a time, as a slow sender may.
        for byte in archive.bytes() {
            spool.read_from([byte.unwrap()].as_slice()).unwrap();
        }
        let in_file = matches!(spool.payload().unwrap(), Payload::File { .. });
        assert_eq!(in_file, memory == 0);
        assert_eq!(scan(spool.payload().unwrap()).names, [MARKER_NAME]);
    }
}

#[test]
fn a_reader_without_an_end_is_too_large_and_not_clean() {
    for memory in [0, 1 << 20] {
        let mut spool = ENGINE.spool().memory_bytes(memory);
        spool.read_from(io::repeat(b'x')).unwrap();
        let too_large = Incomplete::FileTooLarge {
            len: MAX + 1,
            max: MAX,
        };
        assert_eq!(scan(spool.payload().unwrap()).incomplete, Some(too_large));
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "line dead"))
    }
}

#[test]
fn a_spool_that_fails_says_which_side_failed() {
    let mut spool = ENGINE.spool();
    let error = spool.read_from(MARKER.chain(Broken)).unwrap_err();
    assert!(matches!(error, ScanError::Read { .. }));
    assert_eq!(error.to_string(), "the reader: line dead");
    spool
        .payload()
        .expect_err("half an object says nothing of the whole");

    let mut nowhere = Spool::new(MAX, "/nonexistent").memory_bytes(0);
    let error = nowhere.read_from(MARKER).unwrap_err();
    assert!(matches!(error, ScanError::Spool { .. }) && error.is_retryable());
    assert!(error.to_string().starts_with("/nonexistent: "), "{error}");
    nowhere.payload().unwrap_err();
}

// ---------------------------------------------------------------------------------------------
// Maps

/// A file in memory that can be sealed.
fn memory_file(content: &[u8]) -> File {
    const NAME: &CStr = c"payload";
    // SAFETY: a string, and flags of the header.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened, and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(content).unwrap();
    file
}

fn seal(file: &File, seals: i32) {
    // SAFETY: an open descriptor and a number.
    let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    assert_eq!(code, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_sealed_file_is_scanned_where_it_lies() {
    let mut file = memory_file(MARKER);
    seal(&file, libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE);
    let map = FileMap::sealed(&file).unwrap();
    file.set_len(0).unwrap_err();
    file.write_all(b"x").unwrap_err();
    drop(file);
    assert_eq!(scan(Payload::Bytes(&map)).names, [MARKER_NAME]);
    let empty = memory_file(b"");
    seal(&empty, libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE);
    assert!(FileMap::sealed(&empty).unwrap().is_empty());
}

#[test]
fn a_file_that_somebody_may_change_is_not_mapped_unasked() {
    for seals in [0, libc::F_SEAL_SHRINK, libc::F_SEAL_WRITE] {
        let file = memory_file(MARKER);
        seal(&file, seals);
        let error = FileMap::sealed(&file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{seals}");
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("plain");
    fs::write(&path, MARKER).unwrap();
    let plain = File::open(&path).unwrap();
    FileMap::sealed(&plain).unwrap_err();
    // SAFETY: only this test knows the file.
    let map = unsafe { FileMap::new(&plain) }.unwrap();
    assert_eq!(scan(Payload::Bytes(&map)).names, [MARKER_NAME]);
}
