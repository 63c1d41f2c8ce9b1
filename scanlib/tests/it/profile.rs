//! The profile for log messages: what it leaves out, what stays, and that it finds nothing of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::corpus;
use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use scanlib::database::{ExcludedKind, ExcludedReason, LONGEST_HASHED_BYTES};
use scanlib::prefilter::{Gate, Scratch};
use scanlib::{
    DatabaseOptions, Engine, EngineBuilder, Library, LoadError, LoadErrorKind, Payload, Profile,
    Request, ScanOptions,
};
use sha2::{Digest as _, Sha256};
use support::{MARKER, MARKER_NAME, data, eicar, hex, memory_dir, signatures};
use tempfile::TempDir;

const MESSAGE: u64 = 1 << 20;
const LOG_ONLY: Profile = Profile::LogOnly {
    max_message_bytes: MESSAGE,
};

fn load(path: &Path, profile: Profile) -> Result<Engine, LoadError> {
    load_with(path, profile, DatabaseOptions::default())
}

fn load_with(path: &Path, profile: Profile, options: DatabaseOptions) -> Result<Engine, LoadError> {
    EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .database(path)?
        .database_options(options)
        .profile(profile)
        .compile()
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = memory_dir();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn found(engine: &Engine, message: &[u8]) -> BTreeSet<String> {
    let options = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    let request = Request::new().options(options);
    let scan = engine.scan(Payload::Bytes(message), &request).unwrap();
    assert_eq!(scan.incomplete, None);
    scan.names.into_iter().collect()
}

/// Proves: of each kind of signature those that can match a log message are loaded, and no others; both are counted, loaded or not.
#[test]
fn only_what_can_match_a_log_message_is_loaded() {
    use ExcludedReason::{Executable, FileType, LongFile, LongText};
    let md5 = "44d88612fea8a8f36de82e1278abb02f";
    let hash = |size: &str| format!("{md5}:{size}:N:73\n");
    let body = |target: &str, offset: &str| format!("N:{target}:{offset}:6e6565646c65\n");
    let logical = |attributes: &str| format!("N;{attributes};0;6e6565646c65\n");
    let at_most = LONGEST_HASHED_BYTES.to_string();
    let more = (LONGEST_HASHED_BYTES + 1).to_string();
    let cases: Vec<(&str, String, Option<ExcludedReason>)> = vec![
        ("a.hdb", hash(&at_most), None),
        ("a.hdb", hash(&more), Some(LongFile)),
        ("a.HSB", hash(&more), Some(LongFile)),
        ("a.hdu", hash(&more), Some(LongFile)),
        ("a.hsb", hash("*"), None),
        ("a.mdb", format!("512:{md5}:N\n"), Some(Executable)),
        ("a.MSB", format!("512:{md5}:N\n"), Some(Executable)),
        ("a.mdu", format!("512:{md5}:N\n"), Some(Executable)),
        ("a.imp", format!("{md5}:*:N:90\n"), Some(Executable)),
        ("a.ndb", body("0", "*"), None),
        ("a.ndb", body("*", "*"), None),
        ("a.ndb", body("3", "*"), None),
        ("a.ndb", body("4", "*"), None),
        ("a.ndb", body("7", "*"), None),
        ("a.ndb", body("1", "*"), Some(FileType)),
        ("a.ndu", body("2", "*"), Some(FileType)),
        ("a.ndb", body("5", "0"), Some(FileType)),
        ("a.ndb", body("6", "*"), Some(FileType)),
        ("a.ndb", body("9", "*"), Some(FileType)),
        ("a.ndb", body("10", "*"), Some(FileType)),
        ("a.ndb", body("11", "*"), Some(FileType)),
        ("a.ndb", body("12", "*"), Some(FileType)),
        ("a.ndb", body("1", "EP+0"), Some(FileType)),
        ("a.ndb", body("0", "EOF-20"), None),
        ("a.ndb", body("0", "1048575"), None),
        ("a.ndb", body("0", "1048576"), Some(LongText)),
        ("a.sdb", body("1", "*"), Some(FileType)),
        ("a.db", "N=6e6565646c65\n".to_owned(), None),
        ("a.ldb", logical("Target:0"), None),
        ("a.ldb", logical("Engine:51-255,Target:7"), None),
        (
            "a.ldb",
            logical("Engine:51-255,FileSize:1-2000000,Target:3"),
            None,
        ),
        ("a.ldb", logical("Target:1"), Some(FileType)),
        ("a.LDU", logical("Engine:51-255,Target:2"), Some(FileType)),
        (
            "a.ldb",
            logical("Engine:51-255,FileSize:1048576-2000000,Target:0"),
            None,
        ),
        (
            "a.ldb",
            logical("Engine:51-255,FileSize:1048577-2000000,Target:0"),
            Some(LongText),
        ),
        (
            "a.yar",
            "rule N { strings: $a = \"needle\" condition: $a }\n".to_owned(),
            None,
        ),
    ];
    for (name, line, reason) in cases {
        // With one that stays, as an engine wants a signature.
        let dir = directory(&[(name, &line), ("z.ndb", &signatures())]);
        let options = DatabaseOptions {
            pua: true,
            ..DatabaseOptions::default()
        };
        let full = load_with(dir.path(), Profile::Full, options).unwrap();
        assert_eq!(full.info().signatures, 3, "{name} {line}");
        assert_eq!(full.info().excluded_by_profile.total(), 0);
        let engine = load_with(dir.path(), LOG_ONLY, options).unwrap();
        let info = engine.info();
        let counted = LOG_ONLY.excluded(dir.path()).unwrap();
        assert_eq!(counted, info.excluded_by_profile, "{name} {line}");
        match reason {
            None => assert_eq!(
                (info.signatures, info.excluded_by_profile.total()),
                (full.info().signatures, 0),
                "{name} {line}"
            ),
            Some(reason) => {
                assert_eq!(info.signatures, 2, "{name} {line}");
                assert_eq!(
                    (
                        info.excluded_by_profile.total(),
                        info.excluded_by_profile.because(reason)
                    ),
                    (1, 1),
                    "{name} {line}"
                );
            }
        }
    }
}

#[test]
fn a_shorter_longest_message_leaves_out_more() {
    let hash = "44d88612fea8a8f36de82e1278abb02f:101:N:73\n";
    let dir = directory(&[("a.hdb", hash), ("z.ndb", &signatures())]);
    let total = |max_message_bytes| {
        let profile = Profile::LogOnly { max_message_bytes };
        load(dir.path(), profile)
            .unwrap()
            .info()
            .excluded_by_profile
            .total()
    };
    assert_eq!((total(101), total(100)), (0, 1));
}

#[test]
fn each_kind_and_reason_is_counted() {
    let dir = directory(&[
        (
            "a.ndb",
            "A:1:*:61626364\nB:6:*:61626364\nC:0:1048576:61626364\n",
        ),
        ("a.ldb", "D;Target:1;0;61626364\n"),
        ("z.ndb", &signatures()),
    ]);
    let counts: BTreeMap<_, _> = LOG_ONLY
        .excluded(dir.path())
        .unwrap()
        .counts()
        .map(|count| ((count.kind, count.reason), count.signatures))
        .collect();
    assert_eq!(
        counts,
        BTreeMap::from([
            ((ExcludedKind::Body, ExcludedReason::FileType), 2),
            ((ExcludedKind::Body, ExcludedReason::LongText), 1),
            ((ExcludedKind::Logical, ExcludedReason::FileType), 1),
        ])
    );
}

/// Proves: what takes detections away does so with the profile as without.
#[test]
fn exceptions_stay() {
    let message = b"a harmless text, which somebody took for bad";
    let digest = hex(&Sha256::digest(message));
    let hash = format!("{digest}:{}:Wrong.Hash\n", message.len());
    let needle = format!("Wrong.Text:0:*:{}\n", hex(b"harmless text"));
    let marker = signatures();
    for exception in [
        ("local.sfp", format!("{digest}:{}:mine\n", message.len())),
        ("local.ign2", "Wrong.Hash\nWrong.Text\n".to_owned()),
    ] {
        let files = [
            ("a.hsb", &*hash),
            ("a.ndb", &*needle),
            ("b.ndb", &*marker),
            ("c.mdb", "512:44d88612fea8a8f36de82e1278abb02f:N\n"),
        ];
        let without = directory(&files);
        let with = directory(&files);
        fs::write(with.path().join(exception.0), &exception.1).unwrap();
        for profile in [Profile::Full, LOG_ONLY] {
            let engine = load(without.path(), profile).unwrap();
            assert_eq!(found(&engine, message).len(), 2, "{exception:?}");
            let engine = load(with.path(), profile).unwrap();
            assert!(
                found(&engine, message).is_empty(),
                "{exception:?} {profile}"
            );
            assert!(!found(&engine, MARKER).is_empty());
        }
    }
}

/// Proves: a signature that counts on parts in other lines has them.
#[test]
fn parts_of_logical_signatures_stay() {
    let dir = directory(&[
        ("a.ndb", "G:7:$1$:62626262\n"),
        (
            "a.ldb",
            "Not.There;Engine:51-255,Target:7;0&(1=0);61616161;${1-6}1$\n",
        ),
        ("b.ndb", &signatures()),
    ]);
    assert_eq!(LOG_ONLY.excluded(dir.path()).unwrap().total(), 0);
    let parts = directory(&[("a.ndb", "G:1:$1$:62626262\n"), ("b.ndb", &signatures())]);
    assert_eq!(LOG_ONLY.excluded(parts.path()).unwrap().total(), 0);
}

/// Proves: what came out of a signed container is named as its publisher's, what lies beside it is not, and the container's own exceptions
/// and bytecode count.
#[test]
fn signed_signatures_keep_their_names() {
    let (Some(signed), Some(bytecode)) = (
        data("sigs-formats/ut-freshclam-test-3.cvd"),
        data("sigs-formats/ut-bytecode.cvd"),
    ) else {
        return;
    };
    let dir = directory(&[
        ("a.ndb", &signatures()),
        ("z.ndb", "Z.Local:0:*:7a7a7a7a7a7a\n"),
    ]);
    fs::copy(&signed, dir.path().join("daily.cvd")).unwrap();
    fs::copy(&bytecode, dir.path().join("b.cvd")).unwrap();
    let full = load(dir.path(), Profile::Full).unwrap();
    let log_only = load(dir.path(), LOG_ONLY).unwrap();
    assert_eq!(full.info().load_log, log_only.info().load_log);
    // Hashes of sections, of which libclamav takes in those of two files.
    assert_eq!(log_only.info().excluded_by_profile.total(), 4);
    assert_eq!(full.info().signatures - log_only.info().signatures, 2);
    for engine in [&full, &log_only] {
        let names = found(engine, &eicar());
        assert_eq!(names, BTreeSet::from(["Eicar-Test-Signature".to_owned()]));
        assert!(found(engine, MARKER).contains(MARKER_NAME));
        assert!(found(engine, b"zzzzzz").contains("Z.Local.UNOFFICIAL"));
    }
    // A container by itself, too.
    let alone = load(&signed, LOG_ONLY).unwrap();
    assert!(found(&alone, &eicar()).contains("Eicar-Test-Signature"));
}

/// Proves: nothing is taken out of a container that libclamav does not find whole, signed or not.
#[test]
fn a_container_that_was_tampered_with_is_refused() {
    let Some(signed) = data("sigs-formats/ut-freshclam-test-3.cvd") else {
        return;
    };
    let mut bytes = fs::read(&signed).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let dir = directory(&[("z.ndb", &signatures())]);
    let path = dir.path().join("a.cvd");
    fs::write(&path, &bytes).unwrap();
    let error = load(dir.path(), LOG_ONLY).unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Refused(_)), "{error}");
    assert_eq!(error.path(), path);

    // As freshclam writes it, unpacked: its list of digests is signed, and each member has to fit it.
    fs::remove_file(&path).unwrap();
    let archive = unpacked(&signed);
    let path = dir.path().join("a.cld");
    fs::write(&path, &archive).unwrap();
    let engine = load(dir.path(), LOG_ONLY).unwrap();
    assert!(found(&engine, &eicar()).contains("Eicar-Test-Signature"));
    let at = archive
        .windows(6)
        .position(|window| window == b":Eicar")
        .unwrap();
    let mut tampered = archive;
    tampered[at + 1] = b'F';
    fs::write(&path, tampered).unwrap();
    for profile in [Profile::Full, LOG_ONLY] {
        let error = load(dir.path(), profile).unwrap_err();
        assert!(matches!(error.kind(), LoadErrorKind::Refused(_)), "{error}");
    }
}

/// Proves: of today's signatures in both forms libclamav takes one, and the profile takes the same.
#[test]
fn of_two_daily_containers_the_one_that_libclamav_takes_is_taken() {
    let (Some(old), Some(new)) = (
        data("sigs-formats/ut-freshclam-test-2.cvd"),
        data("sigs-formats/ut-freshclam-test-3.cvd"),
    ) else {
        return;
    };
    for (cvd, cld) in [(&old, &new), (&new, &old), (&new, &new)] {
        let dir = directory(&[("z.ndb", &signatures())]);
        fs::copy(cvd, dir.path().join("daily.cvd")).unwrap();
        fs::write(dir.path().join("daily.cld"), unpacked(cld)).unwrap();
        let [full, log_only] =
            [Profile::Full, LOG_ONLY].map(|profile| load(dir.path(), profile).unwrap());
        let left_out = full.info().signatures - log_only.info().signatures;
        let is_new = !found(&full, &eicar()).is_empty();
        assert_eq!(
            found(&full, &eicar()),
            found(&log_only, &eicar()),
            "{cvd:?} {cld:?}"
        );
        assert_eq!(
            (left_out, log_only.info().excluded_by_profile.total()),
            if is_new { (2, 4) } else { (0, 0) }
        );
    }
}

/// Proves: what an unsigned container holds stays nobody's, and it is checked against its own list of digests.
#[test]
fn an_unsigned_container_stays_unsigned_and_has_to_be_whole() {
    let content = b"My.Needle:0:*:6e6565646c65\nMy.Program:1:*:6e6565646c65\n";
    let head = "ClamAV-VDB:22 Jun 2021 16-55 -0400:27:2:81:X:X:judge:1624395301";
    let container = |digest: &str| {
        let info = format!("{head}\na.ndb:{}:{digest}\n", content.len());
        let mut archive = tar::Builder::new(format!("{head:512}").into_bytes());
        for (name, content) in [("a.info", info.as_bytes()), ("a.ndb", content)] {
            let mut header = tar::Header::new_old();
            header.set_path(name).unwrap();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            archive.append(&header, content).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let dir = memory_dir();
    let path = dir.path().join("a.cud");
    fs::write(&path, container(&hex(&Sha256::digest(content)))).unwrap();
    for (profile, signatures) in [(Profile::Full, 2), (LOG_ONLY, 1)] {
        let engine = load(dir.path(), profile).unwrap();
        assert_eq!(engine.info().signatures, signatures);
        let names = found(&engine, b"a needle");
        assert_eq!(names, BTreeSet::from(["My.Needle.UNOFFICIAL".to_owned()]));
    }
    fs::write(&path, container(&"0".repeat(64))).unwrap();
    for profile in [Profile::Full, LOG_ONLY] {
        let error = load(dir.path(), profile).unwrap_err();
        assert!(matches!(error.kind(), LoadErrorKind::Refused(_)), "{error}");
    }
}

/// The container without compression.
fn unpacked(container: &Path) -> Vec<u8> {
    let bytes = fs::read(container).unwrap();
    let (header, archive) = bytes.split_at(512);
    let packed = memory_dir();
    let path = packed.path().join("a.gz");
    fs::write(&path, archive).unwrap();
    let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(output.status.success());
    [header, &output.stdout].concat()
}

#[test]
fn what_libclamav_says_is_about_the_file_that_it_came_from() {
    let content = "One:1:*:61626364\nTwo:0:*:61626364\nThree:0:*:this is no hexadecimal\n";
    let dir = directory(&[("broken.ndb", content)]);
    for path in [dir.path().to_owned(), dir.path().join("broken.ndb")] {
        let error = load(&path, LOG_ONLY).unwrap_err();
        assert!(matches!(error.kind(), LoadErrorKind::Refused(_)), "{error}");
        assert_eq!(error.path(), path);
        let log = error.library_log().join("\n");
        assert!(log.contains("line 3"), "{log}");
        assert!(
            log.contains(&*dir.path().join("broken.ndb").to_string_lossy()),
            "{log}"
        );
        assert!(!log.contains("kept-"), "{log}");
    }
}

#[test]
fn a_profile_that_leaves_nothing_is_refused_and_says_so() {
    let dir = directory(&[("a.ndb", "One:1:*:61626364\nTwo:6:*:61626364\n")]);
    let error = load(dir.path(), LOG_ONLY).unwrap_err();
    assert!(
        matches!(error.kind(), LoadErrorKind::AllExcluded(2)),
        "{error}"
    );
    assert!(
        error.to_string().contains("use the full profile"),
        "{error}"
    );
}

#[test]
fn the_profile_and_the_longest_message_are_part_of_the_identity() {
    let dir = directory(&[("a.ndb", &signatures())]);
    let digest = |profile| load(dir.path(), profile).unwrap().info().digest;
    let shorter = Profile::LogOnly {
        max_message_bytes: MESSAGE - 1,
    };
    let digests = BTreeSet::from([digest(Profile::Full), digest(LOG_ONLY), digest(shorter)]);
    assert_eq!(digests.len(), 3);
    assert_eq!(digest(LOG_ONLY), digest(LOG_ONLY));
}

#[test]
fn nothing_that_was_written_for_it_stays_behind() {
    let dir = directory(&[("a.ndb", &signatures()), ("b.ign2", "Nobody\n")]);
    let engine = load(dir.path(), LOG_ONLY).unwrap();
    assert_eq!(engine.info().sources, [dir.path()]);
    assert_eq!(fs::read_dir(&engine.info().tmp_dir).unwrap().count(), 0);
}

#[test]
fn only_official_signatures_are_those_of_containers() {
    let Some(signed) = data("sigs-formats/ut-freshclam-test-3.cvd") else {
        return;
    };
    let options = DatabaseOptions {
        official_only: true,
        ..DatabaseOptions::default()
    };
    let dir = directory(&[("a.ndb", &signatures())]);
    fs::copy(&signed, dir.path().join("daily.cvd")).unwrap();
    for profile in [Profile::Full, LOG_ONLY] {
        let engine = load_with(dir.path(), profile, options).unwrap();
        assert!(found(&engine, MARKER).is_empty(), "{profile}");
        assert!(!found(&engine, &eicar()).is_empty(), "{profile}");
    }
}

/// Names of signatures that the profile leaves out, by a second, simpler reading of the files.
fn left_out_names(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let ending = path.extension().unwrap().to_string_lossy().into_owned();
        for line in text.lines() {
            let of = |separator: char, at: usize| line.split(separator).nth(at).unwrap_or("");
            let (name, is_out) = match &*ending {
                "hdb" | "hsb" => (
                    of(':', 2),
                    of(':', 1)
                        .parse()
                        .is_ok_and(|size: u64| size > LONGEST_HASHED_BYTES),
                ),
                "ndb" => (of(':', 0), !["0", "3", "4", "7"].contains(&of(':', 1))),
                "ldb" => {
                    let target = of(';', 1)
                        .split(',')
                        .find_map(|one| one.strip_prefix("Target:"));
                    (
                        of(';', 0),
                        target.is_some_and(|target| !["0", "3", "4", "7"].contains(&target)),
                    )
                }
                _ => continue,
            };
            if is_out {
                names.insert(format!("{name}.UNOFFICIAL"));
            }
        }
    }
    names
}

/// Proves, with the published signatures and real messages: what the profile finds is found with all signatures, what it does not find was
/// left out, in ordinary logs there is no difference at all, and the prefilter clears nothing of what it finds.
#[test]
fn what_it_finds_all_signatures_find_and_what_it_misses_was_left_out() {
    let Some(published) = data("sigs") else {
        return;
    };
    let dir = memory_dir();
    for file in fs::read_dir(published).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Four of its rules turn the prefilter off.
        if name == "yara-signature-base.yar.zst" {
            continue;
        }
        let content = match name.strip_suffix(".zst") {
            Some(_) => {
                Command::new("zstd")
                    .arg("-dc")
                    .arg(&path)
                    .output()
                    .unwrap()
                    .stdout
            }
            None => fs::read(&path).unwrap(),
        };
        fs::write(dir.path().join(name.trim_end_matches(".zst")), content).unwrap();
    }
    // Found only with all signatures, as files of this length have no place in a log.
    let long = [&b"a text of many words, "[..]; 500].concat();
    let hash = format!("{}:{}:Long.Text\n", hex(&Sha256::digest(&long)), long.len());
    fs::write(dir.path().join("long.hsb"), hash).unwrap();

    let full = load(dir.path(), Profile::Full).unwrap();
    let log_only = load(dir.path(), LOG_ONLY).unwrap();
    assert!(log_only.info().excluded_by_profile.total() > 100_000);
    let left_out = left_out_names(dir.path());
    assert_eq!(log_only.prefilter().off(), None);

    let mut scratch = Scratch::default();
    let mut compare = |message: &[u8]| {
        let (all, some) = (found(&full, message), found(&log_only, message));
        assert!(some.is_subset(&all), "{some:?} of {all:?}");
        for name in all.difference(&some) {
            assert!(left_out.contains(name), "{name} is lost");
        }
        if log_only.prefilter().check(message, &mut scratch) == Gate::Cleared {
            assert!(some.is_empty(), "{some:?} cleared");
        }
        (all, some)
    };
    let (all, some) = compare(&long);
    assert_eq!((all.len(), some.len()), (1, 0));
    let (all, some) = compare(&eicar());
    assert!(!some.is_empty(), "{all:?}");
    let mut findings = 0;
    for (file, every) in [
        ("syslog-edge.jsonl.zst", 1),
        ("product-logs.jsonl.zst", 10),
        ("web-attack-acunetix.log.zst", 20),
        ("vendor-messages.jsonl.zst", 20),
        ("auth-elastic.log.zst", 40),
    ] {
        let Some(messages) = corpus::messages(file) else {
            return;
        };
        for message in messages.iter().step_by(every) {
            let (all, some) = compare(message);
            assert_eq!(all, some, "{file}");
            findings += some.len();
        }
    }
    // Texts that signatures are made for.
    let bodies = fs::read_to_string(dir.path().join("rfxn-2017-part1.ndb")).unwrap();
    for line in bodies.lines().step_by(10) {
        let pattern = line.split(':').nth(3).unwrap();
        let Some(text) = unhex(pattern) else { continue };
        let (_, some) = compare(&text);
        findings += some.len();
    }
    assert!(findings > 20, "{findings}");
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
