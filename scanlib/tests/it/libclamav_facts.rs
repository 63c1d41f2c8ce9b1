//! What libclamav does where one would not expect it, and what this crate says instead. Each test shows first the
//! bare library, then the safe layer: when an upgrade changes a fact, its test tells.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clamav_sys as sys;
use scanlib::report::Incomplete;
use scanlib::{
    CancelToken, Engine, EngineBuilder, EngineScan, Library, Limits, Payload, Request, ScanOptions,
};
use support::raw::{
    Answered, Callbacks, RawEngine, Watch, all_matches, options, options_with_limits,
};
use support::{
    MARKER, MARKER_NAME, Mounted, OTHER_MARKER, OTHER_MARKER_NAME, builder, eicar, mail,
    memory_dir, zip,
};
use tempfile::TempDir;

const VIRUS_FOUND: Callbacks = Callbacks {
    virus_found: true,
    pre_cache: false,
    pre_scan: false,
    file_inspection: false,
};
const ALL: Callbacks = Callbacks {
    virus_found: true,
    pre_cache: true,
    pre_scan: true,
    file_inspection: true,
};

fn scan(engine: &Engine, data: &[u8]) -> EngineScan {
    engine.scan(Payload::Bytes(data), &Request::new()).unwrap()
}

fn scan_all(engine: &Engine, data: &[u8]) -> EngineScan {
    let options = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    engine
        .scan(Payload::Bytes(data), &Request::new().options(options))
        .unwrap()
}

/// An engine with our two signatures.
fn engine(change: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
    let (builder, _database) = builder();
    change(builder).compile().unwrap()
}

fn with_limits(limits: Limits) -> Engine {
    engine(|builder| builder.limits(limits))
}

#[track_caller]
fn assert_found(scan: &EngineScan, names: &[&str]) {
    assert_eq!(
        (scan.names.as_slice(), &scan.incomplete),
        (names.map_to_strings().as_slice(), &None)
    );
}

#[track_caller]
fn assert_incomplete(scan: &EngineScan, why: Incomplete) {
    assert_eq!((scan.names.len(), &scan.incomplete), (0, &Some(why)));
}

/// Libclamav could not look; returns what it logged.
#[track_caller]
fn assert_engine_error(scan: &EngineScan) -> String {
    match scan {
        EngineScan {
            names,
            incomplete: Some(Incomplete::EngineError { log, code }),
            ..
        } if names.is_empty() => {
            assert!(!log.is_empty() || code.is_some(), "no reason is given");
            log.join("\n")
        }
        other => panic!("not an engine error: {other:?}"),
    }
}

trait MapToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl MapToStrings for &[&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|&name| name.to_owned()).collect()
    }
}

fn marked(len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    data[len - MARKER.len()..].copy_from_slice(MARKER);
    data
}

/// 41 members, the last one infected; 42 layers with the archive itself.
fn archive() -> Vec<u8> {
    let clean: Vec<String> = (1..=40)
        .map(|n| format!("the content of member {n}"))
        .collect();
    let clean = clean
        .iter()
        .enumerate()
        .map(|(n, text)| (format!("member{n}"), text.as_bytes()));
    zip(clean.chain([("last".to_owned(), MARKER)]))
}

const ARCHIVE_LAYERS: u32 = 42;

// ---------------------------------------------------------------------------------------------
// Defaults

#[test]
fn our_default_limits_are_those_of_libclamav() {
    let raw = RawEngine::new(Callbacks::default(), &[]);
    let Limits {
        max_file_bytes,
        max_scan_bytes,
        max_recursion,
        max_files,
        max_scan_time,
        max_embedded_pe_bytes,
        max_html_normalize_bytes,
        max_html_no_tags_bytes,
        max_script_normalize_bytes,
        max_zip_type_recognition_bytes,
        max_partitions,
        max_icons_pe,
        max_recursion_hwp3,
        pcre_match_limit,
        pcre_recursion_limit,
        pcre_max_file_bytes,
        bytecode_timeout,
    } = Limits::default();
    let millis = |time: Duration| time.as_millis() as u64;
    for (field, ours) in [
        (sys::CL_ENGINE_MAX_FILESIZE, max_file_bytes),
        (sys::CL_ENGINE_MAX_SCANSIZE, max_scan_bytes),
        (sys::CL_ENGINE_MAX_RECURSION, max_recursion.into()),
        (sys::CL_ENGINE_MAX_FILES, max_files.into()),
        (sys::CL_ENGINE_MAX_SCANTIME, millis(max_scan_time)),
        (sys::CL_ENGINE_MAX_EMBEDDEDPE, max_embedded_pe_bytes),
        (sys::CL_ENGINE_MAX_HTMLNORMALIZE, max_html_normalize_bytes),
        (sys::CL_ENGINE_MAX_HTMLNOTAGS, max_html_no_tags_bytes),
        (
            sys::CL_ENGINE_MAX_SCRIPTNORMALIZE,
            max_script_normalize_bytes,
        ),
        (
            sys::CL_ENGINE_MAX_ZIPTYPERCG,
            max_zip_type_recognition_bytes,
        ),
        (sys::CL_ENGINE_MAX_PARTITIONS, max_partitions.into()),
        (sys::CL_ENGINE_MAX_ICONSPE, max_icons_pe.into()),
        (sys::CL_ENGINE_MAX_RECHWP3, max_recursion_hwp3.into()),
        (sys::CL_ENGINE_PCRE_MATCH_LIMIT, pcre_match_limit.into()),
        (
            sys::CL_ENGINE_PCRE_RECMATCH_LIMIT,
            pcre_recursion_limit.into(),
        ),
        (sys::CL_ENGINE_PCRE_MAX_FILESIZE, pcre_max_file_bytes),
        (sys::CL_ENGINE_BYTECODE_TIMEOUT, millis(bytecode_timeout)),
    ] {
        assert_eq!(raw.number(field), ours as i64, "field {field}");
    }
}

#[test]
fn a_limit_on_a_step_leaves_that_step_out_and_libclamav_does_not_say_so() {
    // Only normalised HTML is in lower case; the signature wants HTML.
    let page = format!("<html><body>{}</body></html>", " ".repeat(3000));
    let page = page.replace("<body>", "<body>NORMALISED-ONLY-MARKER");
    let dir = memory_dir();
    fs::write(
        dir.path().join("html.ndb"),
        format!(
            "Html:3:*:{}\n",
            support::hex(b"<body>normalised-only-marker")
        ),
    )
    .unwrap();
    let scan_with = |limits| {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let engine = builder
            .database(dir.path())
            .unwrap()
            .limits(limits)
            .compile()
            .unwrap();
        scan(&engine, page.as_bytes())
    };
    assert_found(&scan_with(Limits::default()), &["Html.UNOFFICIAL"]);
    assert_found(
        &scan_with(Limits {
            max_script_normalize_bytes: 1000,
            max_html_no_tags_bytes: 1000,
            max_zip_type_recognition_bytes: 1000,
            max_embedded_pe_bytes: 1000,
            pcre_max_file_bytes: 1000,
            ..Limits::default()
        }),
        &["Html.UNOFFICIAL"],
    );
    let unsaid = scan_with(Limits {
        max_html_normalize_bytes: 1000,
        ..Limits::default()
    });
    assert_found(&unsaid, &[]);
}

#[test]
fn limits_that_libclamav_would_read_as_no_limit_are_refused() {
    let zero = [
        Limits {
            max_file_bytes: 0,
            ..Limits::default()
        },
        Limits {
            max_scan_bytes: 0,
            ..Limits::default()
        },
        Limits {
            max_recursion: 0,
            ..Limits::default()
        },
        Limits {
            max_files: 0,
            ..Limits::default()
        },
        Limits {
            max_scan_time: Duration::from_micros(999),
            ..Limits::default()
        },
        Limits {
            max_file_bytes: Limits::MAX_FILE_BYTES + 1,
            ..Limits::default()
        },
        Limits {
            max_html_normalize_bytes: 0,
            ..Limits::default()
        },
        Limits {
            max_partitions: 0,
            ..Limits::default()
        },
        Limits {
            max_scan_time: Duration::from_secs(50 * 24 * 60 * 60),
            ..Limits::default()
        },
    ];
    for limits in zero {
        let (builder, _database) = builder();
        let error = builder.limits(limits).compile().unwrap_err();
        assert!(
            error.to_string().starts_with("Limits: the setting max_"),
            "{error}"
        );
    }
}

// ---------------------------------------------------------------------------------------------
// Clean without having looked: size and time

const SMALL_LIMIT: u64 = 1000;

#[test]
fn an_object_above_the_size_limit_is_clean_to_libclamav_and_too_large_to_us() {
    let data = marked(2000);
    let raw = RawEngine::new(
        VIRUS_FOUND,
        &[(sys::CL_ENGINE_MAX_FILESIZE, SMALL_LIMIT as i64)],
    );
    assert_eq!(
        raw.scan(&data, options(), &mut Watch::default()),
        Answered::clean()
    );

    let engine = with_limits(Limits {
        max_file_bytes: SMALL_LIMIT,
        ..Limits::default()
    });
    let too_large = Incomplete::FileTooLarge {
        len: 2000,
        max: SMALL_LIMIT,
    };
    assert_incomplete(&scan(&engine, &data), too_large.clone());

    // A file is judged by its length before it is read.
    let dir = memory_dir();
    let path = dir.path().join("large");
    fs::write(&path, &data).unwrap();
    let by_path = engine.scan(Payload::Path(&path), &Request::new()).unwrap();
    assert_incomplete(&by_path, too_large);
    // One byte less than too much.
    assert_found(&scan(&engine, &marked(1000)), &[MARKER_NAME]);
}

#[test]
fn without_a_callback_an_alert_about_a_limit_has_no_name() {
    let data = marked(2000);
    let limit = [(sys::CL_ENGINE_MAX_FILESIZE, SMALL_LIMIT as i64)];
    let raw = RawEngine::new(Callbacks::default(), &limit);
    let nameless = Answered {
        code: sys::CL_VIRUS,
        name: None,
    };
    assert_eq!(
        raw.scan(&data, options_with_limits(), &mut Watch::default()),
        nameless
    );

    // With one it has, which is why our layer always installs one.
    let raw = RawEngine::new(VIRUS_FOUND, &limit);
    let mut watch = Watch::default();
    let named = Answered::virus("Heuristics.Limits.Exceeded.MaxFileSize");
    assert_eq!(raw.scan(&data, options_with_limits(), &mut watch), named);
    assert_eq!(watch.names, ["Heuristics.Limits.Exceeded.MaxFileSize"]);
}

/// Ninety megabytes, because a millisecond must pass before the end is reached.
#[test]
fn a_scan_that_ran_out_of_time_is_clean_to_libclamav_and_incomplete_to_us() {
    let data = marked(90_000_000);
    let late = [(sys::CL_ENGINE_MAX_SCANTIME, 1)];
    let unlimited = 0;

    // Without alerts about limits: clean, and remembered as such. On a busy machine the time may be over before libclamav has hashed the
    // object, and then there is nothing to remember it by.
    let is_remembered = || {
        let mut raw = RawEngine::new(VIRUS_FOUND, &late);
        assert_eq!(
            raw.scan(&data, options(), &mut Watch::default()),
            Answered::clean()
        );
        raw.set(sys::CL_ENGINE_MAX_SCANTIME, unlimited);
        raw.scan(&data, options(), &mut Watch::default()) == Answered::clean()
    };
    assert!((0..10).any(|_| is_remembered()), "never poisoned");

    // With them: an alert, and nothing is remembered.
    let mut raw = RawEngine::new(VIRUS_FOUND, &late);
    let alert = Answered::virus("Heuristics.Limits.Exceeded.MaxScanTime");
    assert_eq!(
        raw.scan(&data, options_with_limits(), &mut Watch::default()),
        alert
    );
    raw.set(sys::CL_ENGINE_MAX_SCANTIME, unlimited);
    let found = Answered::virus(MARKER_NAME);
    assert_eq!(
        raw.scan(&data, options_with_limits(), &mut Watch::default()),
        found
    );

    // Without alerts and without a cache: clean, but not remembered.
    let mut raw = RawEngine::new(VIRUS_FOUND, &[late[0], (sys::CL_ENGINE_DISABLE_CACHE, 1)]);
    assert_eq!(
        raw.scan(&data, options(), &mut Watch::default()),
        Answered::clean()
    );
    raw.set(sys::CL_ENGINE_MAX_SCANTIME, unlimited);
    assert_eq!(raw.scan(&data, options(), &mut Watch::default()), found);

    // Ours, with and without a cache, as often as one asks.
    let limits = Limits {
        max_scan_time: Duration::from_millis(1),
        ..Limits::default()
    };
    for cache in [None, Some(1000)] {
        let engine = engine(|builder| builder.limits(limits).clean_cache(cache));
        for _ in 0..2 {
            assert_incomplete(&scan(&engine, &data), Incomplete::EngineTimeLimit);
        }
    }
}

#[test]
fn five_bytes_or_less_are_clean_without_a_look() {
    let dir = memory_dir();
    let path = dir.path().join("short");
    let raw = RawEngine::new(ALL, &[]);
    let engine = engine(|builder| builder);
    for len in 0..=5 {
        fs::write(&path, &b"12345"[..len]).unwrap();
        let mut watch = Watch::default();
        let answered = raw.scan_file(
            &File::open(&path).unwrap(),
            options_with_limits(),
            &mut watch,
        );
        assert_eq!((answered, watch.pre_cache_layers), (Answered::clean(), 0));
        assert_found(
            &engine.scan(Payload::Path(&path), &Request::new()).unwrap(),
            &[],
        );
        assert_found(&scan(&engine, &b"12345"[..len]), &[]);
    }
    fs::write(&path, b"123456").unwrap();
    let mut watch = Watch::default();
    raw.scan_file(
        &File::open(&path).unwrap(),
        options_with_limits(),
        &mut watch,
    );
    assert_eq!(watch.pre_cache_layers, 1, "six bytes are looked at");
}

/// The length of such a file is zero, so that libclamav does not even try.
#[test]
fn a_pipe_and_a_file_of_the_kernel_are_read_and_not_called_empty() {
    let raw = RawEngine::new(ALL, &[]);
    let engine = engine(|builder| builder);

    // The kernel shows a process's environment in a file without a length.
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .env("MARKED", str::from_utf8(MARKER).unwrap())
        .spawn()
        .unwrap();
    let environment = format!("/proc/{}/environ", child.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read(&environment).is_ok_and(|content| content.is_empty())
        && Instant::now() < deadline
    {
        std::thread::yield_now();
    }
    let file = File::open(&environment).unwrap();
    assert_eq!(
        raw.scan_file(&file, options(), &mut Watch::default()),
        Answered::clean()
    );
    std::io::copy(&mut &file, &mut std::io::sink()).unwrap();
    let payload = Payload::File {
        file: &file,
        path: Path::new(&environment),
    };
    let found = engine.scan(payload, &Request::new()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_found(&found, &[MARKER_NAME]);

    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(MARKER).unwrap();
    drop(writer);
    let pipe = File::from(std::os::fd::OwnedFd::from(reader));
    let payload = Payload::File {
        file: &pipe,
        path: Path::new("pipe"),
    };
    assert_found(
        &engine.scan(payload, &Request::new()).unwrap(),
        &[MARKER_NAME],
    );

    // One without an end stops at the limit.
    let engine = with_limits(Limits {
        max_file_bytes: SMALL_LIMIT,
        ..Limits::default()
    });
    let endless = engine
        .scan(Payload::Path(Path::new("/dev/zero")), &Request::new())
        .unwrap();
    assert_incomplete(
        &endless,
        Incomplete::FileTooLarge {
            len: SMALL_LIMIT + 1,
            max: SMALL_LIMIT,
        },
    );
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_clean() {
    let engine = engine(|builder| builder);
    for path in ["/nonexistent/file", "/"] {
        let error = engine
            .scan(Payload::Path(Path::new(path)), &Request::new())
            .unwrap_err();
        assert!(
            error.to_string().starts_with(path) && error.is_retryable(),
            "{error}"
        );
    }
}

// ---------------------------------------------------------------------------------------------
// Limits inside of containers

/// Five thousand times the letter x, compressed with gzip.
const GZIP: [u8; 40] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00,
    0x00, 0xc2, 0xa0, 0xda, 0x8b, 0x6f, 0x0a, 0x3f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x80, 0xb7, 0x01,
    0x26, 0xf0, 0xdb, 0x00, 0x88, 0x13, 0x00, 0x00,
];

#[test]
fn a_member_above_the_size_limit_makes_the_scan_incomplete() {
    let max = 400;
    let engine = with_limits(Limits {
        max_file_bytes: max,
        ..Limits::default()
    });
    assert_incomplete(&scan(&engine, &GZIP), Incomplete::MemberTooLarge { max });
    assert_found(&scan(&with_limits(Limits::default()), &GZIP), &[]);

    let raw = RawEngine::new(VIRUS_FOUND, &[(sys::CL_ENGINE_MAX_FILESIZE, max as i64)]);
    assert_eq!(
        raw.scan(&GZIP, options(), &mut Watch::default()),
        Answered::clean()
    );
}

#[test]
fn each_limit_is_named() {
    let archive = archive();
    let with = |limits| scan_all(&with_limits(limits), &archive);

    let files = with(Limits {
        max_files: 3,
        ..Limits::default()
    });
    assert_eq!(files.incomplete, Some(Incomplete::FileCount));
    let recursion = with(Limits {
        max_recursion: 1,
        ..Limits::default()
    });
    assert_eq!(recursion.incomplete, Some(Incomplete::Recursion));
    let bytes = with(Limits {
        max_scan_bytes: 600,
        ..Limits::default()
    });
    assert_eq!(bytes.incomplete, Some(Incomplete::ScanBytes));
    assert_found(&with(Limits::default()), &[MARKER_NAME]);
}

/// The marker is stored, so that the archive as a whole matches before a member is met.
#[test]
fn what_was_found_before_a_limit_is_kept() {
    let engine = with_limits(Limits {
        max_recursion: 1,
        ..Limits::default()
    });
    let scan = scan_all(&engine, &archive());
    assert_eq!(scan.names, [MARKER_NAME]);
    assert_eq!(scan.incomplete, Some(Incomplete::Recursion));
}

// ---------------------------------------------------------------------------------------------
// Names

#[test]
fn in_all_match_mode_libclamav_returns_one_name_and_we_report_all() {
    let data = [MARKER, b" and ", OTHER_MARKER, b" and ", MARKER].concat();
    let raw = RawEngine::new(VIRUS_FOUND, &[]);
    let mut watch = Watch::default();
    let answered = raw.scan(&data, all_matches(options_with_limits()), &mut watch);
    assert_eq!(answered.code, sys::CL_VIRUS);
    assert!(
        answered
            .name
            .is_some_and(|name| watch.names.contains(&name)),
        "only one of them"
    );
    let mut names = watch.names.clone();
    names.sort();
    names.dedup();
    assert_eq!(names, [MARKER_NAME, OTHER_MARKER_NAME]);

    let engine = engine(|builder| builder);
    let scan = scan_all(&engine, &data);
    assert_eq!(scan.incomplete, None);
    let mut names = scan.names;
    names.sort();
    assert_eq!(names, [MARKER_NAME, OTHER_MARKER_NAME], "each once");
    // And without all-match exactly one.
    assert_eq!(self::scan(&engine, &data).names.len(), 1);
}

#[test]
fn the_shipped_signature_finds_eicar_at_any_offset() {
    let engine = EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .builtin_signatures()
        .unwrap()
        .compile()
        .unwrap();
    let info = engine.info();
    assert!(info.builtin_only && info.builtin && info.sources.is_empty());
    assert_eq!(info.signatures, 1);
    for prefix in ["", "<13>Oct 11 22:14:15 host app[1]: ", "{\"message\":\""] {
        let line = [prefix.as_bytes(), &eicar(), b" and more"].concat();
        assert_found(&scan(&engine, &line), &["Embedded.Test.Eicar.UNOFFICIAL"]);
    }
    let mut damaged = eicar();
    damaged[30] ^= 1;
    assert_found(&scan(&engine, &damaged), &[]);
}

// ---------------------------------------------------------------------------------------------
// Ignored types

#[test]
fn some_types_are_never_matched_and_we_say_so() {
    let raw = RawEngine::new(ALL, &[]);
    let engine = engine(|builder| builder);
    for magic in ["ID3", "OggS", "SIP-HIT (SIP/H", ".RMF"] {
        let data = [magic.as_bytes(), b" text ", MARKER].concat();
        let mut watch = Watch::default();
        assert_eq!(
            raw.scan(&data, options_with_limits(), &mut watch),
            Answered::clean(),
            "{magic}"
        );
        assert_eq!(watch.pre_scan_layers, 1, "as if it were examined");
        assert_eq!(watch.types, ["CL_TYPE_IGNORED"]);

        let ours = scan(&engine, &data);
        assert!(ours.type_ignored, "{magic}");
        assert_found(&ours, &[]);

        // One line feed in front makes it text.
        let guarded = [b"\n", data.as_slice()].concat();
        let ours = scan(&engine, &guarded);
        assert!(!ours.type_ignored);
        assert_found(&ours, &[MARKER_NAME]);
    }
}

#[test]
fn an_ignored_member_does_not_make_its_archive_ignored() {
    let engine = engine(|builder| builder);
    let song: &[u8] = b"ID3 and nothing else";
    let data = zip([("song".to_owned(), song), ("text".to_owned(), MARKER)]);
    let ours = scan(&engine, &data);
    assert!(!ours.type_ignored);
    assert_found(&ours, &[MARKER_NAME]);
}

// ---------------------------------------------------------------------------------------------
// Temporary files

#[test]
fn a_missing_temporary_directory_is_never_clean() {
    let raw = RawEngine::new(ALL, &[]);
    fs::remove_dir_all(raw.tmp.path()).unwrap();
    let mut watch = Watch::default();
    assert_eq!(
        raw.scan(MARKER, options_with_limits(), &mut watch),
        Answered::clean()
    );
    assert_eq!(
        (watch.pre_cache_layers, watch.pre_scan_layers),
        (0, 0),
        "nothing was looked at"
    );
    fs::create_dir(raw.tmp.path()).unwrap();
    let found = Answered::virus(MARKER_NAME);
    assert_eq!(
        raw.scan(MARKER, options_with_limits(), &mut watch),
        found,
        "right again"
    );

    for cache in [None, Some(1000)] {
        let engine = engine(|builder| builder.clean_cache(cache));
        let tmp = &engine.info().tmp_dir;
        engine.check_tmp_dir().unwrap();
        fs::remove_dir(tmp).unwrap();
        for data in [MARKER, &archive(), &mail(), b"harmless"] {
            let log = assert_engine_error(&scan(&engine, data));
            assert!(log.contains("temporary directory"), "{log}");
        }
        assert!(engine.check_tmp_dir().is_err());
        fs::create_dir(tmp).unwrap();
        engine.check_tmp_dir().unwrap();
        for data in [MARKER, &archive(), &mail()] {
            assert_found(&scan(&engine, data), &[MARKER_NAME]);
        }
        assert_found(&scan(&engine, b"harmless"), &[]);
    }
}

#[test]
fn a_read_only_temporary_directory_is_never_clean() {
    let Some(tmpfs) = Mounted::tmpfs("size=8m") else {
        return;
    };
    let engine = engine(|builder| builder.tmp_dir(tmpfs.path()));
    assert_found(&scan(&engine, &mail()), &[MARKER_NAME]);
    tmpfs.remount("ro");
    for data in [MARKER, &archive(), &mail()] {
        assert_engine_error(&scan(&engine, data));
    }
    assert!(engine.check_tmp_dir().is_err());
    tmpfs.remount("rw");
    assert_found(&scan(&engine, &mail()), &[MARKER_NAME]);
}

#[test]
fn a_full_temporary_directory_is_never_clean() {
    let Some(tmpfs) = Mounted::tmpfs("size=64k") else {
        return;
    };
    let raw = RawEngine::with_tmp(ALL, &[], TempDir::new_in(tmpfs.path()).unwrap());
    let mut watch = Watch::default();
    let filler = tmpfs.fill();
    // The mail's attachment gets lost without an error, the archive's members with one.
    assert_eq!(
        raw.scan(&mail(), options_with_limits(), &mut watch),
        Answered::clean()
    );
    let code = raw.scan(&archive(), options_with_limits(), &mut watch).code;
    assert_eq!(code, sys::CL_EWRITE);
    fs::remove_file(filler).unwrap();
    assert_eq!(
        raw.scan(&mail(), options_with_limits(), &mut watch),
        Answered::clean(),
        "what could not be examined is remembered as clean"
    );
    drop(raw);

    // A directory as small as that is refused from the start.
    let (small, _database) = builder();
    let error = small.tmp_dir(tmpfs.path()).compile().unwrap_err();
    assert!(error.to_string().contains("too little room"), "{error}");

    let Some(tmpfs) = Mounted::tmpfs("size=8m") else {
        return;
    };
    for cache in [None, Some(1000)] {
        let engine = engine(|builder| builder.tmp_dir(tmpfs.path()).clean_cache(cache));
        let filler = tmpfs.fill();
        for data in [&archive(), &mail(), b"harmless".as_slice()] {
            assert_engine_error(&scan(&engine, data));
        }
        assert!(engine.check_tmp_dir().is_err());
        fs::remove_file(filler).unwrap();
        // Nothing was remembered.
        assert_found(&scan(&engine, &archive()), &[MARKER_NAME]);
        assert_found(&scan(&engine, &mail()), &[MARKER_NAME]);
        assert_found(&scan(&engine, b"harmless"), &[]);
    }
}

#[test]
fn a_temporary_directory_without_room_for_another_file_is_never_clean() {
    let Some(tmpfs) = Mounted::tmpfs("size=8m,nr_inodes=200") else {
        return;
    };
    let engine = engine(|builder| builder.tmp_dir(tmpfs.path()));
    assert_found(&scan(&engine, &mail()), &[MARKER_NAME]);
    let many = tmpfs.path().join("many");
    fs::create_dir(&many).unwrap();
    assert!((0..).any(|n| File::create(many.join(n.to_string())).is_err()));
    for data in [&archive(), &mail(), MARKER] {
        let scan = scan(&engine, data);
        assert!(
            matches!(scan.incomplete, Some(Incomplete::EngineError { .. })),
            "{scan:?}"
        );
    }
    fs::remove_dir_all(&many).unwrap();
    assert_found(&scan(&engine, &mail()), &[MARKER_NAME]);
}

/// Files of every format that Debian ships for tests: all of them found, and none clean when nothing can be written.
#[test]
fn no_unpacker_calls_a_file_clean_when_the_temporary_directory_is_full() {
    let Ok(files) = fs::read_dir("/usr/share/clamav-testfiles") else {
        eprintln!("left out: the package clamav-testfiles is not installed");
        return;
    };
    let Some(tmpfs) = Mounted::tmpfs("size=8m") else {
        return;
    };
    // The MD5 of the one program that all of them hold.
    let database = memory_dir();
    let signature = "aa15bcf478d165efd2065190eb473bcb:544:Test.File\n";
    fs::write(database.path().join("test.hdb"), signature).unwrap();
    let with_cache = |entries| {
        EngineBuilder::new(Library::init().unwrap())
            .unwrap()
            .database(database.path())
            .unwrap()
            .tmp_dir(tmpfs.path())
            .clean_cache(entries)
            .compile()
            .unwrap()
    };
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    for entries in [None, Some(1000)] {
        let engine = with_cache(entries);
        let look = |path: &Path| engine.scan(Payload::Path(path), &Request::new()).unwrap();
        let filler = tmpfs.fill();
        let mut unseen = 0;
        for path in &files {
            let scan = look(path);
            assert!(
                !scan.names.is_empty() || scan.incomplete.is_some(),
                "{} is clean",
                path.display()
            );
            unseen += usize::from(scan.names.is_empty());
        }
        assert!(
            unseen > 30,
            "most of them cannot be unpacked: {unseen} of {}",
            files.len()
        );
        fs::remove_file(filler).unwrap();
        for path in &files {
            assert_eq!(
                look(path).names,
                ["Test.File.UNOFFICIAL"],
                "{}",
                path.display()
            );
            assert_eq!(look(path).incomplete, None, "{}", path.display());
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Stopping a scan

/// What a callback answers from the second layer on.
fn stop_by_virus(layer: u32) -> sys::cl_error_t {
    if layer >= 2 {
        sys::CL_VIRUS
    } else {
        sys::CL_CLEAN
    }
}

fn stop_by_break(layer: u32) -> sys::cl_error_t {
    if layer >= 2 {
        sys::CL_BREAK
    } else {
        sys::CL_CLEAN
    }
}

fn break_at_once(_layer: u32) -> sys::cl_error_t {
    sys::CL_BREAK
}

/// One infected member, in an archive whose own bytes do not match: the scan has to unpack it.
fn packed_archive() -> Vec<u8> {
    let clean: Vec<String> = (1..=40)
        .map(|n| format!("the content of member {n}"))
        .collect();
    let clean = clean
        .iter()
        .enumerate()
        .map(|(n, text)| (format!("member{n}"), text.as_bytes()));
    let mail = mail();
    zip(clean.chain([("last".to_owned(), mail.as_slice())]))
}

/// Layers of [`packed_archive`]: the attachment of the mail is one more.
const PACKED_LAYERS: u32 = ARCHIVE_LAYERS + 1;

#[test]
fn a_break_in_an_archive_makes_libclamav_remember_it_as_clean() {
    let data = packed_archive();
    for (name, watch) in [
        (
            "pre_scan",
            Watch {
                pre_scan: Some(stop_by_break),
                ..Watch::default()
            },
        ),
        (
            "pre_cache",
            Watch {
                pre_cache: Some(stop_by_break),
                ..Watch::default()
            },
        ),
    ] {
        let raw = RawEngine::new(ALL, &[]);
        let mut watch = watch;
        let first = raw.scan(&data, options_with_limits(), &mut watch);
        assert_eq!(first, Answered::clean(), "{name}");
        assert_eq!(
            watch.pre_cache_layers, ARCHIVE_LAYERS,
            "{name}: all layers are visited all the same"
        );
        let second = raw.scan(&data, options_with_limits(), &mut Watch::default());
        assert_eq!(second, Answered::clean(), "{name}: wrong, it is infected");
    }
}

#[test]
fn a_break_on_a_plain_file_is_remembered_or_not_by_callback() {
    let infected = Answered::virus(MARKER_NAME);
    for (name, watch, second) in [
        (
            "file_inspection",
            Watch {
                file_inspection: Some(break_at_once),
                ..Watch::default()
            },
            Answered::clean(),
        ),
        (
            "pre_cache",
            Watch {
                pre_cache: Some(break_at_once),
                ..Watch::default()
            },
            infected,
        ),
    ] {
        let raw = RawEngine::new(ALL, &[]);
        let mut watch = watch;
        let first = raw.scan(MARKER, options_with_limits(), &mut watch);
        assert_eq!(first, Answered::clean(), "{name}");
        let again = raw.scan(MARKER, options_with_limits(), &mut Watch::default());
        assert_eq!(again, second, "{name}");
    }
}

#[test]
fn calling_a_layer_infected_stops_and_leaves_no_trace() {
    let data = packed_archive();
    for watch in [
        Watch {
            pre_cache: Some(stop_by_virus),
            ..Watch::default()
        },
        Watch {
            pre_scan: Some(stop_by_virus),
            ..Watch::default()
        },
    ] {
        let raw = RawEngine::new(ALL, &[]);
        let mut watch = watch;
        let first = raw.scan(&data, options_with_limits(), &mut watch);
        assert_eq!(first, Answered::virus("Detected.By.Callback"));
        assert_eq!(watch.pre_cache_layers, 2);
        let mut unhindered = Watch::default();
        let second = raw.scan(&data, options_with_limits(), &mut unhindered);
        assert_eq!(second, Answered::virus(MARKER_NAME));
        assert_eq!(unhindered.pre_cache_layers, PACKED_LAYERS);
    }
}

#[test]
fn a_break_without_a_cache_visits_every_layer_and_leaves_no_trace() {
    let data = packed_archive();
    for options in [options_with_limits(), all_matches(options_with_limits())] {
        for watch in [
            Watch {
                pre_cache: Some(stop_by_break),
                ..Watch::default()
            },
            Watch {
                pre_scan: Some(stop_by_break),
                ..Watch::default()
            },
        ] {
            let raw = RawEngine::new(ALL, &[(sys::CL_ENGINE_DISABLE_CACHE, 1)]);
            let mut watch = watch;
            assert_eq!(raw.scan(&data, options, &mut watch), Answered::clean());
            assert_eq!(watch.pre_cache_layers, ARCHIVE_LAYERS);
            let second = raw.scan(&data, options, &mut Watch::default());
            assert_eq!(second, Answered::virus(MARKER_NAME));
        }
    }
}

#[test]
fn in_all_match_mode_calling_a_layer_infected_does_not_stop() {
    let data = archive();
    let raw = RawEngine::new(ALL, &[]);
    let mut watch = Watch {
        pre_cache: Some(stop_by_virus),
        ..Watch::default()
    };
    raw.scan(&data, all_matches(options_with_limits()), &mut watch);
    assert_eq!(watch.pre_cache_layers, ARCHIVE_LAYERS);
    let second = raw.scan(&data, options_with_limits(), &mut Watch::default());
    assert_eq!(second, Answered::virus(MARKER_NAME));
}

#[test]
fn a_cancelled_scan_says_so_and_leaves_no_trace() {
    let data = packed_archive();
    for cache in [None, Some(1000)] {
        let engine = engine(|builder| builder.clean_cache(cache));
        let cancelled = CancelToken::new();
        cancelled.cancel();
        let request = Request::new().cancel(&cancelled);
        let outcome = engine.scan(Payload::Bytes(&data), &request).unwrap();
        assert_incomplete(&outcome, Incomplete::Cancelled);
        let late = Request::new().deadline(Instant::now());
        let outcome = engine.scan(Payload::Bytes(&data), &late).unwrap();
        assert_incomplete(&outcome, Incomplete::Deadline);
        assert_found(&scan(&engine, &data), &[MARKER_NAME]);
    }
}

/// So many members that an order to stop arrives in the middle.
fn long_archive() -> Vec<u8> {
    let clean: Vec<Vec<u8>> = (0..1000)
        .map(|n| vec![b'a' + (n % 20) as u8; 3000 + n])
        .collect();
    let clean = clean
        .iter()
        .enumerate()
        .map(|(n, text)| (format!("m{n}"), text.as_slice()));
    let mail = mail();
    zip(clean.chain([("last".to_owned(), mail.as_slice())]))
}

/// Scans and cancels from another thread; again, should the machine have been too busy to cancel in time.
fn scan_and_cancel(engine: &Engine, data: &[u8], request: &Request<'_>) -> EngineScan {
    let attempt = || {
        let token = CancelToken::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(3));
                token.cancel();
            });
            engine
                .scan(Payload::Bytes(data), &request.cancel(&token))
                .unwrap()
        })
    };
    let mut attempts = std::iter::repeat_with(attempt).take(20);
    attempts
        .find(|scan| scan.incomplete.is_some())
        .expect("never cancelled in time")
}

#[test]
fn a_scan_stops_between_two_layers_and_leaves_no_trace() {
    let data = long_archive();
    for (all_matches, cache) in [(false, None), (false, Some(10_000)), (true, Some(10_000))] {
        let engine = engine(|builder| builder.clean_cache(cache));
        let request = Request::new().options(ScanOptions {
            all_matches,
            ..ScanOptions::default()
        });

        let late = request.deadline(Instant::now() + Duration::from_millis(3));
        let outcome = engine.scan(Payload::Bytes(&data), &late).unwrap();
        assert_eq!(outcome.incomplete, Some(Incomplete::Deadline));
        assert!(
            !outcome.names.iter().any(|name| name.contains("Callback")),
            "{outcome:?}"
        );

        let outcome = scan_and_cancel(&engine, &data, &request);
        assert_eq!(outcome.incomplete, Some(Incomplete::Cancelled));
        assert!(
            !outcome.names.iter().any(|name| name.contains("Callback")),
            "{outcome:?}"
        );

        assert_found(&scan(&engine, &data), &[MARKER_NAME]);
    }
}

#[test]
fn a_deadline_in_the_future_changes_nothing() {
    let engine = engine(|builder| builder);
    let token = CancelToken::new();
    let request = Request::new()
        .deadline(Instant::now() + Duration::from_secs(3600))
        .cancel(&token);
    assert_found(
        &engine.scan(Payload::Bytes(MARKER), &request).unwrap(),
        &[MARKER_NAME],
    );
    assert_found(
        &engine.scan(Payload::Bytes(b"harmless"), &request).unwrap(),
        &[],
    );
}
