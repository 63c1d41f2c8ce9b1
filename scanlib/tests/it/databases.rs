//! Loading signatures: what is refused and how it is explained, and the identity of what was loaded.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use scanlib::database::Container;
use scanlib::{
    DatabaseOptions, Engine, EngineBuilder, Library, LoadError, LoadErrorKind, Payload, Request,
};
use support::raw::RawEngine;
use support::{MARKER, MARKER_NAME, data, memory_dir, signatures};
use tempfile::TempDir;

fn new() -> EngineBuilder {
    EngineBuilder::new(Library::init().unwrap()).unwrap()
}

fn load(path: &Path) -> Result<Engine, LoadError> {
    new().database(path)?.compile()
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = memory_dir();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

#[test]
fn a_missing_path_is_refused_at_once() {
    let error = new().database("/nonexistent/signatures").unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Io(_)), "{error}");
    assert_eq!(error.path(), Path::new("/nonexistent/signatures"));
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/signatures: cannot be read"),
        "{error}"
    );
}

#[test]
fn a_directory_without_signature_files_is_refused_at_once() {
    let dir = directory(&[
        ("README.md", "not a database"),
        ("update.cdiff", ""),
        ("x.info", ""),
    ]);
    let error = new().database(dir.path()).unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Empty), "{error}");
    assert!(
        error.to_string().contains(".ndb"),
        "says what to put there: {error}"
    );
}

#[test]
fn an_engine_without_a_signature_is_refused() {
    let error = new().compile().unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Empty), "{error}");
    // A database that only takes away is none.
    let dir = directory(&[("local.ign2", "Test.Marker\n")]);
    let error = load(dir.path()).unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Empty), "{error}");
}

#[test]
fn a_malformed_signature_is_refused_with_file_and_line() {
    let content = format!("{}Test.Broken:0:*:this is no hexadecimal\n", signatures());
    let dir = directory(&[("broken.ndb", &content)]);
    let error = load(dir.path()).unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Refused(_)), "{error}");
    assert_eq!(error.path(), dir.path());
    let log = error.library_log().join("\n");
    assert!(
        log.contains("line 3") && log.contains("broken.ndb"),
        "{log}"
    );
    assert!(
        error.to_string().contains("line 3"),
        "the message has it, too: {error}"
    );
}

#[test]
fn what_libclamav_leaves_out_with_a_warning_is_told() {
    let rules = "rule sound { strings: $a = \"a-marker-that-occurs-nowhere-else\" condition: $a }\n\
                 rule unsound { strings: $b = \"x\" condition: $b }\n";
    let dir = directory(&[("rules.yar", rules)]);
    let engine = load(dir.path()).unwrap();
    assert_eq!(engine.info().signatures, 1);
    assert!(!engine.info().load_log.is_empty(), "{:?}", engine.info());
    let quiet = directory(&[("test.ndb", &signatures())]);
    assert_eq!(
        load(quiet.path()).unwrap().info().load_log,
        Vec::<String>::new()
    );
}

#[test]
fn bad_databases_of_the_wild_are_refused_with_libclamavs_own_words() {
    for (file, code_text) in [
        ("fail-APT_APT15.yar", "Malformed database"),
        ("fail-ut-retmagic.cbc", "Malformed database"),
        ("ut-bad-fuzzy-distance.ldb", "Bad format or broken data"),
        ("ut-bad-fuzzy-hash.ldb", "Bad format or broken data"),
    ] {
        let Some(path) = data("sigs-bad").map(|dir| dir.join(file)) else {
            return;
        };
        let options = DatabaseOptions {
            bytecode_unsigned: true,
            ..DatabaseOptions::default()
        };
        let builder = new().database(&path).unwrap().database_options(options);
        let error = builder.compile().unwrap_err();
        let LoadErrorKind::Refused(code) = error.kind() else {
            panic!("{file}: {error}")
        };
        assert!(code.text.contains(code_text), "{file}: {code}");
        assert!(!error.library_log().is_empty(), "{file}");
    }
}

#[test]
fn unsigned_bytecode_is_loaded_only_when_asked_for() {
    let Some(path) = data("sigs-formats/ut-clamav-test.cbc") else {
        return;
    };
    assert!(
        load(&path).is_err(),
        "nothing is loaded, so there is no signature"
    );
    let options = DatabaseOptions {
        bytecode_unsigned: true,
        ..DatabaseOptions::default()
    };
    let engine = new()
        .database(&path)
        .unwrap()
        .database_options(options)
        .compile()
        .unwrap();
    assert_eq!(engine.info().signatures, 1);
}

#[test]
fn a_failed_load_leaves_the_next_one_alone() {
    let broken = directory(&[("broken.ndb", "Test.Broken:0:*:xyz\n")]);
    assert!(load(broken.path()).is_err());
    let sound = directory(&[("sound.ndb", &signatures())]);
    let engine = load(sound.path()).unwrap();
    let scan = engine
        .scan(Payload::Bytes(MARKER), &Request::new())
        .unwrap();
    assert_eq!(scan.names, [MARKER_NAME]);
}

#[test]
fn several_databases_add_up_in_any_order_of_calls() {
    let first = directory(&[("first.ndb", &signatures())]);
    let second = directory(&[(
        "second.hdb",
        "aa15bcf478d165efd2065190eb473bcb:544:Test.File\n",
    )]);
    let engine = new()
        .builtin_signatures()
        .unwrap()
        .database(first.path())
        .unwrap()
        .database(second.path().join("second.hdb"))
        .unwrap()
        .database_options(DatabaseOptions::default())
        .compile()
        .unwrap();
    let info = engine.info();
    assert_eq!(info.signatures, 4);
    assert_eq!(
        info.sources,
        [first.path().to_owned(), second.path().join("second.hdb")]
    );
    assert!(info.builtin && !info.builtin_only);
}

#[test]
fn a_temporary_directory_that_does_not_exist_is_refused() {
    let dir = directory(&[("test.ndb", &signatures())]);
    let error = new()
        .database(dir.path())
        .unwrap()
        .tmp_dir("/nonexistent/tmp")
        .compile()
        .unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::TmpDir(_)), "{error}");
    assert_eq!(error.path(), Path::new("/nonexistent/tmp"));
}

/// Which files of a directory count: libclamav and we agree, so that the digest covers what is loaded.
#[test]
fn we_see_the_same_files_as_libclamav() {
    let loaded = "cat cbc cdb cfg cld crb cud cvd db fp ftm gdb hdb hdu hsb hsu idb ign ign2 imp ioc ldb ldu mdb mdu \
                  msb msu ndb ndu pdb pwdb rmd sdb sfp wdb yar yara zmd NDB Hdb";
    let not_loaded = "info cdiff txt new sign bak ndb~ zip db2 inc";
    for (endings, expected) in [(loaded, true), (not_loaded, false)] {
        for ending in endings.split_whitespace() {
            for name in [
                format!("x.{ending}"),
                format!(".{ending}"),
                format!("x.y.{ending}"),
            ] {
                let dir = directory(&[(&name, "x")]);
                let ours = new().database(dir.path()).is_ok();
                let theirs = RawEngine::finds_a_database(dir.path());
                assert_eq!(
                    (ours, theirs),
                    (expected, expected),
                    "{name}: ours, libclamav's"
                );
            }
        }
    }
}

fn make_old(dir: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(dir).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn what_a_killed_process_left_is_removed_and_nothing_else() {
    let base = memory_dir();
    let database = directory(&[("test.ndb", &signatures())]);
    let build = || {
        new()
            .database(database.path())
            .unwrap()
            .tmp_dir(base.path())
            .compile()
            .unwrap()
    };
    let in_use = build();
    let left = base.path().join("scanlib-killed");
    let foreign = base.path().join("somebody-elses");
    let fresh = base.path().join("scanlib-being-made");
    for dir in [&left, &foreign, &fresh] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("unpacked"), "content").unwrap();
    }
    let link = base.path().join("scanlib-link");
    std::os::unix::fs::symlink(&foreign, &link).unwrap();
    for dir in [&left, &foreign, &in_use.info().tmp_dir] {
        make_old(dir);
    }

    let _next = build();
    assert!(!left.exists());
    assert!(in_use.info().tmp_dir.is_dir());
    assert!(foreign.join("unpacked").is_file() && fresh.is_dir() && link.is_symlink());
}

// ---------------------------------------------------------------------------------------------
// The digest

#[test]
fn equal_signatures_have_equal_digests_wherever_they_lie() {
    let one = directory(&[("a.ndb", &signatures()), ("notes.txt", "first")]);
    let two = directory(&[("a.ndb", &signatures()), ("notes.txt", "second")]);
    let digest = load(one.path()).unwrap().info().digest;
    assert_eq!(digest, load(two.path()).unwrap().info().digest);
    assert_eq!(digest.to_string().len(), 64);
}

#[test]
fn a_change_of_name_content_or_number_of_files_changes_the_digest() {
    let content = signatures();
    let (first, second) = content.split_at(content.find('\n').unwrap() + 1);
    let base = directory(&[("a.ndb", first), ("b.ndb", second)]);
    let others = [
        directory(&[("a.ndb", first), ("c.ndb", second)]),
        directory(&[("a.ndb", second), ("b.ndb", first)]),
        directory(&[("a.ndb", &content)]),
        directory(&[
            ("a.ndb", first),
            ("b.ndb", second),
            ("c.ndb", "Test.C:0:*:61626364\n"),
        ]),
    ];
    let digest = |dir: &TempDir| load(dir.path()).unwrap().info().digest;
    let base = digest(&base);
    for other in &others {
        assert_ne!(base, digest(other));
    }
    let builtin = new()
        .builtin_signatures()
        .unwrap()
        .compile()
        .unwrap()
        .info()
        .digest;
    let dir = directory(&[("a.ndb", &content)]);
    let both = new()
        .database(dir.path())
        .unwrap()
        .builtin_signatures()
        .unwrap()
        .compile()
        .unwrap();
    assert!(both.info().digest != builtin && both.info().digest != digest(&dir));
}

#[test]
fn files_that_change_while_they_are_loaded_are_refused() {
    let dir = memory_dir();
    let write = |n: u64| {
        // Under another name first, so that the file is whole at every moment.
        let temporary = dir.path().join("test.new");
        fs::write(
            &temporary,
            format!("{}Test.Number-{n}:0:*:{n:032x}\n", signatures()),
        )
        .unwrap();
        fs::rename(temporary, dir.path().join("test.ndb")).unwrap();
    };
    write(0);
    let stop = AtomicBool::new(false);
    let (writes, loaded) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                write(n);
            }
            n
        });
        let attempt = || load(dir.path());
        let refused = std::iter::repeat_with(attempt)
            .take(500)
            .find(Result::is_err);
        stop.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), refused)
    });
    let error = loaded
        .unwrap_or_else(|| panic!("loaded in spite of {writes} changes"))
        .unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Changed), "{error}");
    assert_eq!(error.path(), dir.path());
    // And when it is quiet again, it loads.
    load(dir.path()).unwrap();
}

/// Proves: what a container says of itself is read, and libclamav's word on its digital signature is passed on, of one that was changed by
/// a bit, of one that only looks like one, and of one that is not there.
#[test]
fn digital_signatures_are_checked_without_loading_anything() {
    let library = Library::init().unwrap();
    let header = "ClamAV-VDB:22 Jun 2021 16-55 -0400:2:3:81:X:X:judge:1624395301";
    let dir = directory(&[
        ("fake.cvd", &format!("{header:512}nothing")),
        ("loose.ndb", "My.Needle:0:*:6e6565646c65\n"),
    ]);
    let fake = dir.path().join("fake.cvd");
    let container = Container::read(&fake).unwrap().unwrap();
    assert_eq!((container.version, container.signatures), (2, 3));
    assert_eq!(Container::read(dir.path().join("loose.ndb")).unwrap(), None);
    let refused = |path: &Path| library.verify(path).unwrap_err();
    let error = refused(&fake);
    assert!(
        matches!(error.kind(), LoadErrorKind::Unverified(_)),
        "{error}"
    );
    let error = refused(Path::new("/nothing.cvd"));
    assert!(matches!(error.kind(), LoadErrorKind::Io(_)), "{error}");

    let Some(good) = data("sigs-formats/ut-freshclam-test-3.cvd") else {
        return;
    };
    library.verify(&good).unwrap();
    assert_eq!(Container::read(&good).unwrap().unwrap().version, 3);
    let mut bytes = fs::read(good).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let changed = dir.path().join("changed.cvd");
    fs::write(&changed, bytes).unwrap();
    let error = refused(&changed);
    assert!(
        error.to_string().contains("digital signature is invalid"),
        "{error}"
    );
}
