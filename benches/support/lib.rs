//! What the benches share: where they run, said beside every result; messages; databases.

#![forbid(unsafe_code)]

pub mod child;
pub mod memory;
pub mod random;

use std::path::{Path, PathBuf};
use std::process::Command;

use scanlib::{Engine, EngineBuilder, Library};

/// The machine, the library and the commit of a measurement, on one line: a number without them cannot be compared.
pub fn surroundings() -> String {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "libclamav {}, {} ({threads} threads), commit {}{}, temporary files in {}",
        env!("BENCH_LIBCLAMAV"),
        env!("BENCH_CPU"),
        env!("BENCH_COMMIT"),
        if has_changes() { " and changes" } else { "" },
        tmp_dir().display(),
    )
}

/// Whether what is measured is not exactly the commit.
fn has_changes() -> bool {
    let diff = Command::new("git")
        .args(["diff", "--quiet", "HEAD"])
        .status();
    diff.is_ok_and(|status| status.code() == Some(1))
}

/// Memory if the machine has a tmpfs, else the usual place. A scan makes and removes a directory there, which on a disk can
/// cost more than the scan itself.
pub fn tmp_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// A clean syslog message of exactly this many bytes (64 or more make sense): a header, then words as a server would write them.
pub fn syslog_line(bytes: usize) -> Vec<u8> {
    const WORDS: &str = "session opened for user deploy by (uid=0); accepted publickey from 192.0.2.17 port 51234 ssh2; ";
    let header = "<38>Oct 11 22:14:15 web-07 sshd[4711]: ";
    header
        .bytes()
        .chain(WORDS.bytes().cycle())
        .take(bytes)
        .collect()
}

/// `count` ordinary log lines of several kinds: of the test data, evenly spread over its files, or made here, which is said.
pub fn log_lines(count: usize) -> Vec<Vec<u8>> {
    const FILES: [&str; 5] = [
        "loghub-Linux.log.zst",
        "auth-elastic.log.zst",
        "web-apache-access.log.zst",
        "app-k8s-mixed.log.zst",
        "zeek-json.log.zst",
    ];
    let texts: Vec<Vec<u8>> = FILES
        .iter()
        .filter_map(|name| unpacked(&test_data().join("logs").join(name)))
        .collect();
    if texts.len() < FILES.len() {
        println!(
            "left out: real log lines (no {}): all lines are made up",
            test_data().join("logs").display()
        );
        return (0..count).map(|n| syslog_line(64 + n % 400)).collect();
    }
    let each = count / FILES.len();
    let pick = |text: &Vec<u8>| -> Vec<Vec<u8>> {
        let lines: Vec<&[u8]> = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        let step = (lines.len() / each).max(1);
        lines
            .into_iter()
            .step_by(step)
            .take(each)
            .map(<[u8]>::to_vec)
            .collect()
    };
    texts.iter().flat_map(pick).collect()
}

/// A file of real logs.
#[derive(Debug)]
pub struct Log {
    /// The file's name without `.zst`.
    pub name: String,
    /// Its lines, in order, without empty ones.
    pub lines: Vec<Vec<u8>>,
}

/// Every line of every file of real logs in the test data, in the files' order; without the data a file of lines that are made here, which
/// is said.
pub fn logs() -> Vec<Log> {
    let dir = test_data().join("logs");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    let log = |path: &PathBuf| -> Option<Log> {
        let text = unpacked(path)?;
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let lines = text.split(|&byte| byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec);
        Some(Log {
            name,
            lines: lines.collect(),
        })
    };
    let logs: Vec<Log> = paths.iter().filter_map(log).collect();
    if logs.is_empty() {
        println!(
            "left out: real log lines (no {}): all lines are made up",
            dir.display()
        );
        return vec![Log {
            name: "made up".to_owned(),
            lines: (0..20_000).map(|n| syslog_line(64 + n % 400)).collect(),
        }];
    }
    logs
}

/// The attack strings of the test data, as a log; `None` if they are not there, which is said.
pub fn payloads() -> Option<Log> {
    let path = test_data().join("payloads/payloads.tsv.zst");
    let Some(text) = unpacked(&path) else {
        println!("left out: attack strings (no {})", path.display());
        return None;
    };
    // Category, source, and all the rest.
    let payload = |line: &[u8]| -> Option<Vec<u8>> {
        let payload = line.splitn(3, |&byte| byte == b'\t').nth(2)?;
        (!payload.is_empty()).then(|| payload.to_vec())
    };
    Some(Log {
        name: "payloads".to_owned(),
        lines: text
            .split(|&byte| byte == b'\n')
            .filter_map(payload)
            .collect(),
    })
}

/// A directory with the signature files of the test data whose names start so, for libclamav to load; it is removed when dropped.
/// `None` if there are none, which is said.
pub fn databases(prefix: &str) -> Option<tempfile::TempDir> {
    let dir = test_data().join("sigs");
    let target = tempfile::tempdir_in(tmp_dir()).ok()?;
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        let found = database(&name)?;
        let name = name.trim_end_matches(".zst");
        std::fs::copy(&found.path, target.path().join(name)).ok()?;
        count += 1;
    }
    if count == 0 {
        println!("left out: the signatures {prefix}* (no {})", dir.display());
        return None;
    }
    Some(target)
}

/// Of these signatures; of the one that ships with the library if there are none. Without the prefilter libclamav looks at everything.
///
/// # Panics
///
/// The signatures cannot be loaded.
#[allow(clippy::expect_used)]
pub fn engine(dir: Option<&Path>, prefilter: bool) -> Engine {
    let builder = EngineBuilder::new(Library::init().expect("libclamav starts"));
    let builder = builder.expect("an engine").tmp_dir(tmp_dir());
    let builder = builder.prefilter(prefilter);
    let builder = match dir {
        Some(dir) => builder.database(dir).expect("signatures"),
        None => builder.builtin_signatures().expect("the shipped signature"),
    };
    builder.compile().expect("an engine that compiles")
}

/// Whether `cargo test --benches` only asks if the program starts.
pub fn is_only_tested() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// A number from the environment.
///
/// # Panics
///
/// It is none.
pub fn number(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => default,
    }
}

/// `$SCANNER_TEST_DATA`, or the folder beside the workspace.
fn test_data() -> PathBuf {
    std::env::var_os("SCANNER_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    )
}

/// What `zstd -dc` makes of a file; `None` if it or zstd is not there.
fn unpacked(path: &Path) -> Option<Vec<u8>> {
    let output = Command::new("zstd").arg("-dcq").arg(path).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// A signature file of the test data, unpacked if need be. Deleted when dropped if it was.
#[derive(Debug)]
pub struct Database {
    /// For the engine to load.
    pub path: PathBuf,
    _unpacked: Option<tempfile::TempDir>,
}

/// The signature file `name` of `$SCANNER_TEST_DATA/sigs` or `../shared/data/sigs`. `None` if it is not there or cannot be unpacked,
/// which is said: a bench that is missing from the results must not go unnoticed.
pub fn database(name: &str) -> Option<Database> {
    let packed = test_data().join("sigs").join(name);
    let loaded = match name.strip_suffix(".zst") {
        None => packed.is_file().then(|| Database {
            path: packed.clone(),
            _unpacked: None,
        }),
        Some(plain) => unpack(&packed, plain),
    };
    if loaded.is_none() {
        println!(
            "left out: what needs {} (is it there, and zstd?)",
            packed.display()
        );
    }
    loaded
}

fn unpack(packed: &Path, name: &str) -> Option<Database> {
    let dir = tempfile::tempdir().ok()?;
    let path = dir.path().join(name);
    std::fs::write(&path, unpacked(packed)?).ok()?;
    Some(Database {
        path,
        _unpacked: Some(dir),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_names_its_library_machine_and_commit() {
        let line = surroundings();
        for part in ["libclamav ", "threads)", "commit ", "temporary files in /"] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_message_has_exactly_the_size_asked_for() {
        for bytes in [0, 39, 64, 170, 16 * 1024] {
            assert_eq!(syslog_line(bytes).len(), bytes);
        }
    }

    #[test]
    fn a_database_that_is_missing_is_none() {
        assert!(database("no-such-file.ndb").is_none());
        assert!(database("no-such-file.ndb.zst").is_none());
    }
}
