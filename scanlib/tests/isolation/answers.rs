//! Isolation changes no answer: an engine in this process is asked beside an isolated one.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use scanlib::{
    DatabaseOptions, Engine, EngineBuilder, EngineInfo, EngineScan, Incomplete, Isolation, Library,
    Limits, LoadError, Payload, Profile, Request, ScanOptions, eicar,
};

use crate::support::{MARKER, OTHER_MARKER, data, mail, memory_dir, signatures, zip};
use crate::{scan, threads};

/// The same engine twice: in this process, and isolated.
struct Both {
    here: Engine,
    apart: Engine,
}

impl Both {
    fn build(isolation: &Isolation, build: impl Fn() -> EngineBuilder) -> Both {
        Both {
            here: build().compile().unwrap(),
            apart: build().isolation(isolation, threads(2)).compile().unwrap(),
        }
    }

    /// Asks both, with every option that may change an answer.
    fn agree(&self, what: &str, object: &[u8]) -> EngineScan {
        for options in OPTIONS {
            let request = Request::new().options(options).name(what);
            let here = self.here.scan(Payload::Bytes(object), &request).unwrap();
            let apart = self.apart.scan(Payload::Bytes(object), &request).unwrap();
            self.compare(what, here, apart);
        }
        scan(&self.apart, object)
    }

    fn compare(&self, what: &str, here: EngineScan, apart: EngineScan) {
        // Names of temporary files are random.
        let plain = |mut scan: EngineScan, engine: &Engine| {
            if let Some(Incomplete::EngineError { log, .. }) = &mut scan.incomplete {
                let dir = engine.info().tmp_dir.display().to_string();
                for line in log {
                    if let Some(at) = line.find(&dir) {
                        line.truncate(at);
                    }
                }
            }
            scan
        };
        assert_eq!(
            plain(apart, &self.apart),
            plain(here, &self.here),
            "{what}: isolated (left) and in this process (right)"
        );
    }
}

const DEFAULT: ScanOptions = ScanOptions {
    all_matches: false,
    heuristics: true,
    parse: true,
    alert_encrypted: false,
    alert_macros: false,
    alert_broken: false,
};
const OPTIONS: [ScanOptions; 4] = [
    DEFAULT,
    ScanOptions {
        all_matches: true,
        ..DEFAULT
    },
    ScanOptions {
        parse: false,
        ..DEFAULT
    },
    ScanOptions {
        all_matches: true,
        alert_encrypted: true,
        alert_macros: true,
        alert_broken: true,
        ..DEFAULT
    },
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn nested(mut object: Vec<u8>, layers: usize) -> Vec<u8> {
    for layer in 0..layers {
        object = zip([(format!("layer-{layer}"), &object[..])]);
    }
    object
}

/// A text of this length that holds something at its end.
fn long(length: usize, end: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = (0..length.saturating_sub(end.len()))
        .map(|at| b"a harmless log line with some words in it\n"[at % 42])
        .collect();
    text.extend(end);
    text
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let eicar = eicar::text().into_bytes();
    let both = [MARKER, b" and ", OTHER_MARKER].concat();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&eicar);
    let mut corpus: Vec<(String, Vec<u8>)> = [
        ("nothing", Vec::new()),
        ("five bytes", b"abcde".to_vec()),
        ("six bytes", b"abcdef".to_vec()),
        ("EICAR", eicar.clone()),
        ("EICAR in base64", base64.into_bytes()),
        ("EICAR in gzip", gzip(&eicar)),
        ("EICAR in zip", nested(eicar.clone(), 1)),
        ("EICAR in a mail", mail()),
        ("both markers", both.clone()),
        ("both markers in zip", nested(both.clone(), 1)),
        ("deep", nested(both.clone(), 30)),
        (
            "many files",
            zip((0..200).map(|number| (format!("file-{number}"), MARKER))),
        ),
        ("html", b"<html><body><script>var a = 1;</script><a href=\"http://a.example/\">b</a></body></html>".to_vec()),
        ("html with a marker", [b"<html><body>", MARKER, b"</body></html>"].concat()),
        ("html with EICAR", [b"<html>", &eicar[..]].concat()),
        ("html with EICAR later", [b"xx<html>", &eicar[..]].concat()),
        ("UTF-16", both.iter().flat_map(|&byte| [byte, 0]).collect()),
        ("an ignored type", b"RIFF\x10\0\0\0WAVEfmt and whatever follows".to_vec()),
        ("mp3", b"ID3\x03\0\0\0\0\0\0 a-marker-that-occurs-nowhere-else".to_vec()),
        ("zeros", vec![0; 10_000]),
        ("cut zip", { let mut cut = nested(both.clone(), 2); cut.truncate(cut.len() / 2); cut }),
        ("malformed: EGGA", b"EGGA and some plain text behind it, which is long enough".to_vec()),
        ("malformed: xz", b"\xfd7zXZ\0\0\x04\xe6\xd6 and what follows".to_vec()),
        ("malformed: rar", b"Rar!\x1a\x07\x01\0 and what follows is nothing of the kind".to_vec()),
        ("malformed: 7z", b"7z\xbc\xaf\x27\x1c\0\x04 and what follows is nothing of the kind".to_vec()),
        ("malformed: pdf", b"%PDF-1.4\n1 0 obj\n<</Length 10>>stream\nx\x9c\nendstream".to_vec()),
        ("gzip of a megabyte", gzip(&vec![0; 1 << 20])),
        ("half a megabyte in files", {
            let files: Vec<_> = (0..8).map(|number| gzip(&vec![b'a' + number; 60_000])).collect();
            zip(files.iter().enumerate().map(|(number, file)| (format!("file-{number}"), &file[..])))
        }),
        ("nested gzip", (0..30).fold(both.clone(), |object, _| gzip(&object))),
    ]
    .map(|(what, object)| (what.to_owned(), object))
    .into();
    for kib in [47, 48, 49, 63, 64, 65, 1024] {
        for more in [0, 1] {
            let length = (kib << 10) + more;
            corpus.push((format!("{length} bytes"), long(length, b"")));
            corpus.push((format!("{length} bytes with EICAR"), long(length, &eicar)));
        }
    }
    // What libclamav has the C library convert, which loads a module for each encoding.
    let wide = |text: &[u8], before: &[u8], width: usize, high: bool| -> Vec<u8> {
        let units = text.iter().flat_map(|&byte| {
            let mut unit = vec![0; width];
            unit[if high { width - 1 } else { 0 }] = byte;
            unit
        });
        before.iter().copied().chain(units).collect()
    };
    let page = [b"<html><body><p>", MARKER, b"</p></body></html>"].concat();
    let document = [
        b"<?xml version=\"1.0\"?><html><body>",
        MARKER,
        b"</body></html>",
    ]
    .concat();
    for (what, text) in [("page", &page), ("document", &document)] {
        for (order, before, width, high) in [
            ("UTF-16LE", &b"\xff\xfe"[..], 2, false),
            ("UTF-16BE", b"\xfe\xff", 2, true),
            ("UTF-32LE", b"\xff\xfe\0\0", 4, false),
            ("UTF-32BE", b"\0\0\xfe\xff", 4, true),
        ] {
            corpus.push((
                format!("{what} in {order}"),
                wide(text, before, width, high),
            ));
            corpus.push((
                format!("{what} in {order}, unmarked"),
                wide(text, b"", width, high),
            ));
        }
    }
    for encoding in [
        "UTF-16",
        "UTF-16LE",
        "UTF-32",
        "UCS-4",
        "windows-1252",
        "ISO-8859-1",
        "Shift_JIS",
        "GB18030",
        "EBCDIC-US",
        "UTF-7",
        "nothing",
    ] {
        let head = format!(
            "<?xml version=\"1.0\" encoding=\"{encoding}\"?><html><head><meta charset=\"{encoding}\"></head><body>"
        );
        let text = [head.as_bytes(), MARKER, b"</body></html>"].concat();
        corpus.push((format!("a page that says {encoding}"), text.clone()));
        corpus.push((
            format!("wide, and says {encoding}"),
            wide(&text, b"\xff\xfe", 2, false),
        ));
    }
    // The seeds of the fuzzers, and records that are known to be hostile.
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for folder in fs::read_dir(seeds).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let name = file.path().display().to_string();
            corpus.push((name, fs::read(file.path()).unwrap_or_default()));
        }
    }
    if let Some(path) = data("hostile/malformed-content.lines") {
        for (number, line) in fs::read(path)
            .unwrap()
            .split(|&byte| byte == b'\n')
            .enumerate()
        {
            corpus.push((format!("malformed line {number}"), line.to_vec()));
            let decoded = base64::engine::general_purpose::STANDARD.decode(line);
            corpus.extend(
                decoded
                    .ok()
                    .map(|it| (format!("decoded line {number}"), it)),
            );
        }
    }
    corpus
}

pub(crate) fn scans(isolation: &Isolation) {
    let dir = memory_dir();
    fs::write(dir.path().join("test.ndb"), signatures()).unwrap();
    let builder = || crate::builder().database(dir.path()).unwrap();
    let limits = Limits {
        max_file_bytes: 100_000,
        max_scan_bytes: 200_000,
        ..Limits::default()
    };
    let few = Limits {
        max_recursion: 3,
        max_files: 5,
        ..Limits::default()
    };
    let mut incomplete = std::collections::BTreeSet::new();
    for (caches, limits) in [
        (None, Limits::default()),
        (None, limits),
        (None, few),
        (Some(1000), Limits::default()),
    ] {
        let both = Both::build(isolation, || builder().clean_cache(caches).limits(limits));
        for (what, object) in corpus() {
            let found = both.agree(&what, &object);
            incomplete.extend(found.incomplete.map(|it| it.reason()));
        }
        assert_eq!(both.apart.isolation().unwrap().crashed, 0);
    }
    // What was to be compared did occur.
    for reason in ["max_filesize", "max_scansize", "max_files", "max_recursion"] {
        assert!(incomplete.contains(reason), "{reason}: {incomplete:?}");
    }
}

pub(crate) fn published_signatures(isolation: &Isolation) {
    let Some(sigs) = data("sigs") else { return };
    let files = [
        "official-daily-2024-12.ndb",
        "official-daily-2024-12.hdb",
        "exexor99.ldb",
        "yara-inquest.yar",
    ];
    let both = Both::build(isolation, || {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        files
            .iter()
            .map(|file| sigs.join(file))
            .filter(|path| path.is_file())
            .fold(builder, |builder, path| builder.database(path).unwrap())
            .prefilter(false)
    });
    assert_eq!(info(&both.apart), info(&both.here));
    let mut messages = Vec::new();
    for folder in ["logs", "payloads"].map(data).into_iter().flatten() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let content = match path.extension().is_some_and(|it| it == "zst") {
                true => std::process::Command::new("zstd")
                    .arg("-dcq")
                    .arg(&path)
                    .output()
                    .map(|it| it.stdout),
                false => fs::read(&path),
            };
            let content = content.unwrap_or_default();
            let lines = content
                .split(|&byte| byte == b'\n')
                .filter(|line| line.len() > 5);
            messages.extend(lines.step_by(997).take(40).map(<[u8]>::to_vec));
        }
    }
    assert!(!messages.is_empty());
    for message in &messages {
        let request = Request::new();
        let here = both.here.scan(Payload::Bytes(message), &request).unwrap();
        let apart = both.apart.scan(Payload::Bytes(message), &request).unwrap();
        both.compare(&String::from_utf8_lossy(message), here, apart);
    }
    println!("measured: {} messages answered the same", messages.len());
}

pub(crate) fn files(isolation: &Isolation) {
    let dir = memory_dir();
    let limits = Limits {
        max_file_bytes: 300_000,
        ..Limits::default()
    };
    let both = Both::build(isolation, || crate::builder().limits(limits));
    let path = dir.path().join("object");
    for (what, object) in corpus() {
        fs::write(&path, &object).unwrap();
        let request = Request::new();
        let scan = |engine: &Engine| engine.scan(Payload::Path(&path), &request).unwrap();
        both.compare(&what, scan(&both.here), scan(&both.apart));

        // A file that is open for writing, and not at its beginning.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.seek(std::io::SeekFrom::End(0)).unwrap();
        let scan = |engine: &Engine| {
            let payload = Payload::File {
                file: &file,
                path: &path,
            };
            engine.scan(payload, &request).unwrap()
        };
        both.compare(&what, scan(&both.here), scan(&both.apart));

        let pipe = |engine: &Engine| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            std::thread::scope(|scope| {
                let object = &object;
                // Past the limit nobody reads on.
                scope.spawn(move || drop(writer.write_all(object)));
                let file = File::from(std::os::fd::OwnedFd::from(reader));
                let payload = Payload::File {
                    file: &file,
                    path: Path::new("a pipe"),
                };
                engine.scan(payload, &request).unwrap()
            })
        };
        both.compare(&what, pipe(&both.here), pipe(&both.apart));
    }
    for missing in [dir.path().join("missing"), dir.path().to_owned()] {
        let error = |engine: &Engine| {
            engine
                .scan(Payload::Path(&missing), &Request::new())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(&both.apart), error(&both.here));
    }
    // A file that this user may read and that was deleted.
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let payload = || Payload::File {
        file: &file,
        path: &path,
    };
    let here = both.here.scan(payload(), &Request::new()).unwrap();
    let apart = both.apart.scan(payload(), &Request::new()).unwrap();
    both.compare("a deleted file", here, apart);
}

/// ClamAV's own test files have most kinds that it knows.
pub(crate) fn kinds(isolation: &Isolation) {
    let folder = Path::new("/usr/share/clamav-testfiles");
    if !folder.is_dir() {
        println!(
            "left out: {} is not there (package clamav-testfiles)",
            folder.display()
        );
        return;
    }
    let dir = memory_dir();
    // The file that all of them hold.
    fs::write(
        dir.path().join("clam.hdb"),
        "aa15bcf478d165efd2065190eb473bcb:544:ClamAV-Test-File\n",
    )
    .unwrap();
    let both = Both::build(isolation, || crate::builder().database(dir.path()).unwrap());
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let content = fs::read(&path).unwrap();
        let name = path.display().to_string();
        found += usize::from(!both.agree(&name, &content).names.is_empty());
        let request = Request::new();
        let scan = |engine: &Engine| engine.scan(Payload::Path(&path), &request).unwrap();
        both.compare(&name, scan(&both.here), scan(&both.apart));
    }
    println!("measured: something was found in {found} files");
    assert!(found > 20);
    assert_eq!(both.apart.isolation().unwrap().crashed, 0);
}

fn info(engine: &Engine) -> EngineInfo {
    let mut info = engine.info().clone();
    info.tmp_dir = PathBuf::new();
    info
}

pub(crate) fn loads(isolation: &Isolation) {
    let dir = memory_dir();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("test.ndb", &signatures());
    write(
        "more.ndb",
        "My.Needle:0:*:6e6565646c65\nMy.Straw:7:*:73747261773a\nMy.Program:1:*:6e6565646c65\n",
    );
    write(
        "logical.ldb",
        "My.Logical;Engine:51-255,Target:0;0&1;666f6f626172;626172666f6f\n",
    );
    write("hash.hdb", "44d88612fea8a8f36de82e1278abb02f:68:My.Hash\n");
    write(
        "rules.yar",
        "rule one { strings: $a = \"some text\" condition: $a }\nrule two { strings: $a = \"other text\" condition: $a and nothing }\n",
    );
    write(
        "fine.yar",
        "rule three { strings: $a = \"third text\" condition: $a }\n",
    );
    let new = || EngineBuilder::new(Library::init().unwrap()).unwrap();
    let mut sets: Vec<(String, Box<dyn Fn() -> EngineBuilder>)> = Vec::new();
    let path = dir.path().to_owned();
    sets.push((
        "all".into(),
        Box::new(move || crate::builder().database(&path).unwrap()),
    ));
    let path = dir.path().to_owned();
    sets.push((
        "without some".into(),
        Box::new(move || {
            let out = [
                "My.Needle",
                "My.Haystack",
                "YARA.three",
                "my.straw",
                "My.Hash.UNOFFICIAL",
                "My.Logical",
            ];
            crate::builder().database(&path).unwrap().exclude(out)
        }),
    ));
    let path = dir.path().to_owned();
    sets.push((
        "for logs".into(),
        Box::new(move || {
            crate::builder()
                .database(&path)
                .unwrap()
                .profile(Profile::LogOnly {
                    max_message_bytes: 1 << 20,
                })
                .exclude(["My.Needle"])
        }),
    ));
    for name in [
        "sigs-formats/ut-freshclam-test-3.cvd",
        "sigs-formats/ut-bytecode.cvd",
        "sigs-formats",
        "sigs-bad/partial-airbnb_binaryalert.yar",
        "sigs-bad/noisy-yara-rules.yar",
    ] {
        let Some(path) = data(name) else { continue };
        for logs in [false, true] {
            let path = path.clone();
            sets.push((
                format!("{name}, for logs: {logs}"),
                Box::new(move || {
                    let options = DatabaseOptions {
                        bytecode_unsigned: true,
                        ..DatabaseOptions::default()
                    };
                    let builder = new().database(&path).unwrap().database_options(options);
                    match logs {
                        true => builder.profile(Profile::LogOnly {
                            max_message_bytes: 1 << 20,
                        }),
                        false => builder,
                    }
                }),
            ));
        }
    }
    for (what, set) in &sets {
        let here = set().compile();
        let apart = set().isolation(isolation, threads(1)).compile();
        let (here, apart) = match (here, apart) {
            (Ok(here), Ok(apart)) => (here, apart),
            (here, apart) => {
                assert_eq!(apart.err().map(told), here.err().map(told), "{what}");
                continue;
            }
        };
        assert_eq!(info(&apart), info(&here), "{what}");
        let prefilter = |engine: &Engine| {
            let prefilter = engine.prefilter();
            let mut summary = prefilter.summary().clone();
            summary.build_time = std::time::Duration::ZERO;
            format!(
                "{:?} {:?} {:?}",
                prefilter.off(),
                summary,
                prefilter.doubts()
            )
        };
        assert_eq!(prefilter(&apart), prefilter(&here), "{what}");
        let both = Both { here, apart };
        for object in [
            &b"a needle in straw: with some text and third text"[..],
            b"foobar and barfoo",
            eicar::text().as_bytes(),
        ] {
            let _same = both.agree(what, object);
        }
    }
}

/// What an error says, temporary files left out.
fn told(error: LoadError) -> (String, Vec<String>) {
    // The name of a directory ends in random letters.
    let told = error.to_string();
    let told = match told.split_once("/scanlib-") {
        Some((before, after)) => format!("{before}{}", after.get(6..).unwrap_or_default()),
        None => told,
    };
    (told, error.library_log().to_vec())
}

pub(crate) fn failing_loads(isolation: &Isolation) {
    let dir = memory_dir();
    let mut files: Vec<PathBuf> = Vec::new();
    for (name, text) in [
        ("bad.ndb", "Not.A.Signature\n"),
        ("bad.hdb", "nothing:good:here\n"),
        ("bad.ldb", "Name;Target:0;(0;616263\n"),
        ("bad.yar", "rule { nothing }\n"),
        ("bad.cvd", "ClamAV-VDB:not:a:container"),
        ("empty.ndb", ""),
        ("long.ndb", &format!("A:0:*:{}\n", "6".repeat(100_001))),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        files.push(path);
    }
    if let Some(bad) = data("sigs-bad") {
        files.extend(
            fs::read_dir(bad)
                .unwrap()
                .flatten()
                .map(|it| it.path())
                .filter(|it| !it.ends_with("slow-JJencode.yar")),
        );
    }
    let mut failed = 0;
    for file in files {
        let build = || {
            let options = DatabaseOptions {
                bytecode_unsigned: true,
                ..DatabaseOptions::default()
            };
            let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
            builder
                .database(&file)
                .unwrap()
                .database_options(options)
                .prefilter(false)
        };
        let here = build().compile();
        let apart = build().isolation(isolation, threads(1)).compile();
        match (here, apart) {
            (Ok(here), Ok(apart)) => assert_eq!(info(&apart), info(&here), "{}", file.display()),
            (here, apart) => {
                failed += 1;
                assert_eq!(
                    apart.err().map(told),
                    here.err().map(told),
                    "{}",
                    file.display()
                );
            }
        }
    }
    assert!(failed >= 5);
    // A bound that libclamav does not take, and a directory that is not there.
    let limits = Limits {
        max_file_bytes: u64::MAX,
        ..Limits::default()
    };
    for build in [
        &(|| crate::builder().limits(limits)) as &dyn Fn() -> EngineBuilder,
        &|| crate::builder().tmp_dir("/nowhere/at/all"),
    ] {
        let here = told(build().compile().unwrap_err());
        let apart = told(
            build()
                .isolation(isolation, threads(1))
                .compile()
                .unwrap_err(),
        );
        assert_eq!(apart, here);
    }
}
