//! Whose fault it is when libclamav reports an error: that of the bytes it was given, or that of the environment.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use scanlib::{
    Detector, Engine, FileFamily, Incomplete, Parser, Payload, Report, Request, Scanner, Verdict,
};
use support::{MARKER, MARKER_NAME, Mounted, builder};

/// The lines about which libclamav logged an error, with the family of the file that is at fault.
const MALFORMED: [(&str, FileFamily); 5] = [
    ("EGGA the quick brown fox jumps over", FileFamily::Archive),
    (
        r#"{"message":"EGGA hello, this is text"}"#,
        FileFamily::Archive,
    ),
    (
        "GET / ua=RUdHQSBoZWxsbyB0aGlzIGlzIHRleHQ=",
        FileFamily::Archive,
    ),
    (
        "<13>Oct 20 02:44:02 web app: ua=/Td6WFoAAATm1g==",
        FileFamily::Archive,
    ),
    (
        "<13>Oct 20 02:44:02 web app: ua=/Td6WFoAAAAAAAAA",
        FileFamily::Archive,
    ),
];

/// Beginnings of files that libclamav takes apart.
const MAGICS: [&[u8]; 36] = [
    b"EGGA",
    b"\xfd7zXZ\0\0\x04",
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"\x1f\x8b\x08\x08\0\0\0\0",
    b"BZh91AY&SY",
    b"PK\x03\x04\x14\0\0\0\x08\0",
    b"PK\x05\x06\0\0\0\0",
    b"7z\xbc\xaf\x27\x1c\0\x04",
    b"Rar!\x1a\x07\0",
    b"Rar!\x1a\x07\x01\0",
    b"\x60\xea\x2c\0",
    b"MSCF\0\0\0\0",
    b"ITSF\x03\0\0\0",
    b"SZDD\x88\xf0\x27\x33",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"MZ\x90\0\x03\0\0\0",
    b"\x7fELF\x02\x01\x01\0",
    b"\xca\xfe\xba\xbe\0\0\0\x02",
    b"\xcf\xfa\xed\xfe\x07\0\0\x01",
    b"%PDF-1.7\n1 0 obj\n<<",
    b"{\\rtf1\\ansi{\\object\\objdata ",
    b"GIF89a\xff\xff\xff\xff",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"II*\0\xff\xff\xff\xff",
    b"RIFF\xff\xff\xff\xffACON",
    b"FWS\x08\xff\xff\xff\xff",
    b"CWS\x08\xff\xff\xff\xff",
    b"xar!\0\x1c\0\x01",
    b"ALZ\x01",
    b"x\x9f\x3e\x22\xff\xff\xff\xff",
    b"070701000000010000",
    b"\xe4R\\{\x8c\xd8\xa7M\xae\xb1Sx\xd0)\x96\xd3",
    b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F",
    b"begin 644 x\nM",
    b"From: a\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\n",
];

fn scanner() -> (Scanner, tempfile::TempDir) {
    let (builder, database) = builder();
    let detector = Detector::builder().engine(builder.compile().unwrap());
    (detector.build().unwrap().scanner(), database)
}

fn scan(scanner: &mut Scanner, record: &[u8]) -> Report {
    let message = Parser::default().parse(record);
    scanner.scan_message(&message, &Request::new()).unwrap()
}

fn incomplete(report: &Report) -> Option<&Incomplete> {
    match &report.verdict {
        Verdict::Incomplete { cause, .. } => Some(cause),
        _ => None,
    }
}

/// An object as a record, as the message of a JSON record, and in base64.
fn records(object: &[u8]) -> [Vec<u8>; 3] {
    let text = String::from_utf8_lossy(object);
    let json = serde_json::json!({ "message": text }).to_string();
    let encoded = format!(
        "<13>Oct 20 02:44:02 web app: {}",
        BASE64_STANDARD.encode(object)
    );
    [object.to_vec(), json.into_bytes(), encoded.into_bytes()]
}

#[test]
fn an_error_about_content_is_malformed_and_has_the_words_of_libclamav() {
    let (mut scanner, _database) = scanner();
    for (record, family) in MALFORMED {
        let report = scan(&mut scanner, record.as_bytes());
        let Some(Incomplete::Malformed { log, .. }) = incomplete(&report) else {
            panic!("{record}: {report:?}");
        };
        assert!(log.iter().any(|line| line.contains("cli_")), "{log:?}");
        assert_eq!(report.failed_in, Some(family), "{record}");
    }
}

#[test]
fn a_detection_in_malformed_content_is_kept() {
    let (mut scanner, _database) = scanner();
    let record = [b"EGGA ", MARKER].concat();
    let report = scan(&mut scanner, &record);
    assert!(matches!(
        incomplete(&report),
        Some(Incomplete::Malformed { .. })
    ));
    let found = report.verdict.detections();
    assert_eq!(found.len(), 1, "{report:?}");
    assert_eq!(found[0].name, MARKER_NAME);
}

#[test]
fn the_same_content_is_an_engine_error_where_nothing_can_be_scanned() {
    let (mut scanner, _database) = scanner();
    let engine = scanner.detector().engine().unwrap().clone();
    assert!(engine.works());
    let tmp = &engine.info().tmp_dir;
    fs::remove_dir(tmp).unwrap();
    assert!(!engine.works());
    for (record, _) in MALFORMED {
        let report = scan(&mut scanner, record.as_bytes());
        assert!(
            matches!(incomplete(&report), Some(Incomplete::EngineError { .. })),
            "{record}: {report:?}"
        );
    }
    fs::create_dir(tmp).unwrap();
    assert!(engine.works());
}

/// Held by tests that start programs: for a moment these keep libclamav's temporary files open, and so the room that they take.
static STARTS_PROGRAMS: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    STARTS_PROGRAMS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// With and without a memory for clean objects, which would spare libclamav the files that the trial is about.
#[test]
fn the_trial_needs_the_files_that_an_object_needs_every_time() {
    let _alone = one_at_a_time();
    let Some(tmpfs) = Mounted::tmpfs("size=8m") else {
        return;
    };
    for cache in [None, Some(1000)] {
        let (builder, _database) = builder();
        let builder = builder.tmp_dir(tmpfs.path()).clean_cache(cache);
        let engine = builder.compile().unwrap();
        assert!((0..5).all(|_| engine.works()));
        tmpfs.remount("ro");
        assert!((0..5).all(|_| !engine.works()));
        tmpfs.remount("rw");
        assert!(engine.works());
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("gzip")
        .arg("-nc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// An object that is at fault for the shortage does not look like a broken environment.
#[test]
fn an_object_that_needs_more_room_than_there_is_meets_a_limit() {
    let _alone = one_at_a_time();
    let Some(tmpfs) = Mounted::tmpfs("size=8m") else {
        return;
    };
    let (builder, _database) = builder();
    let engine = builder.tmp_dir(tmpfs.path()).compile().unwrap();
    let look =
        |engine: &Engine, data: &[u8]| engine.scan(Payload::Bytes(data), &Request::new()).unwrap();
    let bomb = gzip(&vec![0; 20 << 20]);
    assert_eq!(
        look(&engine, &bomb).incomplete,
        Some(Incomplete::TemporaryRoom)
    );
    assert_eq!(look(&engine, MARKER).names, [MARKER_NAME]);
    assert_eq!(look(&engine, b"harmless text").incomplete, None);
    let filler = tmpfs.fill();
    assert!(matches!(
        look(&engine, &bomb).incomplete,
        Some(Incomplete::EngineError { .. })
    ));
    fs::remove_file(filler).unwrap();
}

#[test]
fn a_beginning_of_any_file_type_is_never_an_engine_error() {
    let (mut scanner, _database) = scanner();
    let mut malformed = 0;
    for magic in MAGICS {
        for filler in [b"\0", b"\xff", b"A", b"7"] {
            for length in [0, 8, 200] {
                let object = [magic, &filler.repeat(length)].concat();
                for record in records(&object) {
                    let report = scan(&mut scanner, &record);
                    match incomplete(&report) {
                        Some(cause @ Incomplete::EngineError { .. }) => {
                            panic!("{}: {cause}", record.escape_ascii())
                        }
                        Some(Incomplete::Malformed { .. }) => malformed += 1,
                        _ => {}
                    }
                }
            }
        }
    }
    assert!(malformed > 20, "{malformed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(64)))]
    #[test]
    fn no_bytes_behind_the_beginning_of_a_file_are_an_engine_error(
        magic in prop::sample::select(MAGICS.to_vec()),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..300,
    ) {
        thread_local! {
            static SCANNER: std::cell::RefCell<(Scanner, tempfile::TempDir)> =
                std::cell::RefCell::new(scanner());
        }
        let mut object = [magic, &rest].concat();
        object.truncate(cut.max(6));
        SCANNER.with_borrow_mut(|(scanner, _)| {
            for record in records(&object) {
                let report = scan(scanner, &record);
                let is_engine_error = matches!(incomplete(&report), Some(Incomplete::EngineError { .. }));
                prop_assert!(!is_engine_error, "{}: {report:?}", record.escape_ascii());
            }
            Ok(())
        })?;
    }
}
