//! Signatures that are loaded together, and the engine that has loaded them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use scanlib::prefilter::DisabledReason;
use scanlib::{
    DatabaseOptions, Engine, EngineBuilder, Library, LoadError, Payload, Request, ScanOptions,
};
use tempfile::TempDir;

use super::random::Random;
use super::signature::{Signature, read_file};
use crate::support::memory_dir;

pub struct Database {
    pub label: String,
    pub signatures: Vec<Signature>,
    /// Messages that hash signatures were made of.
    pub planted: Vec<Vec<u8>>,
    /// What chance texts are made of.
    pub letters: Option<&'static [u8]>,
}

/// An engine with the database it came from, which lies in memory.
pub struct Loaded {
    pub engine: Engine,
    dir: TempDir,
}

/// What libclamav says of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It looked, and there is nothing.
    Nothing,
    /// These names, without what libclamav adds to them.
    Found(Vec<String>),
    /// It did not look at everything, so nobody may call it clean.
    Unsettled,
}

impl Database {
    /// The text of each file, by its ending.
    pub fn files(&self) -> BTreeMap<&str, String> {
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        for signature in &self.signatures {
            let text = files.entry(&signature.ending).or_default();
            text.push_str(&signature.text);
            text.push('\n');
        }
        files
    }

    /// Loads it. The note stays beside the files if the process dies.
    pub fn load(&self, remember: bool, note: &str) -> Result<Loaded, LoadError> {
        let dir = memory_dir();
        fs::write(dir.path().join("note"), note).unwrap();
        let database = dir.path().join("database");
        fs::create_dir(&database).unwrap();
        for (ending, text) in self.files() {
            fs::write(database.join(format!("all.{ending}")), text).unwrap();
        }
        Loaded::new(dir, remember)
    }

    /// Without the signatures for which the prefilter is off.
    pub fn provable(mut self) -> Database {
        loop {
            let loaded = self.load(false, "what is provable").unwrap();
            let unprovable = match loaded.engine.prefilter().off() {
                None => return self,
                Some(DisabledReason::Anything { signatures }) => signatures.clone(),
                Some(DisabledReason::NotUnderstood { first, .. }) => {
                    first.signature.iter().cloned().collect()
                }
                Some(off) => panic!("{}: {off}", self.label),
            };
            let before = self.signatures.len();
            self.signatures
                .retain(|one| !unprovable.contains(&one.name));
            assert!(self.signatures.len() < before, "{unprovable:?}");
            println!("{}: may match anything: {unprovable:?}", self.label);
        }
    }

    /// Some of the signatures, mostly of those that can match.
    pub fn sample(&self, most: usize, random: &mut Random) -> Database {
        let count = random.between(1, most);
        let (able, unable): (Vec<_>, Vec<_>) = self
            .signatures
            .iter()
            .partition(|signature| signature.impossible.is_none());
        let mut signatures: Vec<Signature> = Vec::new();
        for _ in 0..count {
            let from = if able.is_empty() || (!unable.is_empty() && random.percent(10)) {
                &unable
            } else {
                &able
            };
            let one = from[random.below(from.len())];
            if signatures.iter().all(|other| other.name != one.name) {
                signatures.push(one.clone());
            }
        }
        Database {
            label: self.label.clone(),
            signatures,
            planted: Vec::new(),
            letters: None,
        }
    }
}

impl Loaded {
    /// Every name, by a scan of everything. Should the process die of it, the message lies beside the database.
    pub fn scan(&self, message: &[u8]) -> Answer {
        fs::write(self.dir.path().join("message"), message).unwrap();
        let options = ScanOptions {
            all_matches: true,
            ..ScanOptions::default()
        };
        let scan = self
            .engine
            .scan(Payload::Bytes(message), &Request::new().options(options))
            .unwrap();
        if !scan.names.is_empty() {
            Answer::Found(scan.names.iter().map(|name| bare(name)).collect())
        } else if scan.incomplete.is_some() || scan.type_ignored {
            Answer::Unsettled
        } else {
            Answer::Nothing
        }
    }

    /// The text of each file, by its ending.
    pub fn files(&self) -> Vec<(String, String)> {
        fs::read_dir(self.dir.path().join("database"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let ending = path.extension().unwrap().to_str().unwrap().to_owned();
                (ending, fs::read_to_string(&path).unwrap())
            })
            .collect()
    }

    /// An engine with other files: made of the text of each, by its ending. `None` if it does not load.
    pub fn altered(&self, change: impl Fn(&str, &str) -> String) -> Option<Loaded> {
        let dir = memory_dir();
        let database = dir.path().join("database");
        fs::create_dir(&database).unwrap();
        for (ending, text) in self.files() {
            let path = database.join(format!("all.{ending}"));
            fs::write(path, change(&ending, &text)).unwrap();
        }
        Loaded::new(dir, false).ok()
    }

    /// Of a directory with the signature files in `database`.
    fn new(dir: TempDir, remember: bool) -> Result<Loaded, LoadError> {
        let engine = EngineBuilder::new(Library::init().unwrap())
            .unwrap()
            .database(dir.path().join("database"))?
            .database_options(DatabaseOptions {
                pua: true,
                ..DatabaseOptions::default()
            })
            .clean_cache(remember.then_some(1 << 16))
            .tmp_dir(dir.path())
            .compile()?;
        Ok(Loaded { engine, dir })
    }
}

fn bare(name: &str) -> String {
    let name = name.strip_suffix(".UNOFFICIAL").unwrap_or(name);
    name.strip_prefix("YARA.").unwrap_or(name).to_owned()
}

/// Always true, for every type but the two that plain text is looked at as: what they find was not plain.
pub fn other_types(level: u32) -> Database {
    let lines: Vec<String> = (1..=14)
        .filter(|target| ![7, 8].contains(target))
        .map(|target| {
            format!("S.Type{target};Engine:51-255,Target:{target};0=0;717171717171717171")
        })
        .collect();
    Database {
        label: "other types".to_owned(),
        signatures: read_file("ldb", &lines.join("\n"), level),
        planted: Vec::new(),
        letters: None,
    }
}

/// The developers' data, where it lies beside the workspace.
fn data() -> Option<PathBuf> {
    let root = std::env::var_os("SCANNER_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    if root.is_dir() {
        return Some(root);
    }
    eprintln!(
        "left out: what needs {} (set SCANNER_TEST_DATA)",
        root.display()
    );
    None
}

/// The published signature files, but those that hold nothing except hashes of files.
pub fn published(level: u32) -> Vec<Database> {
    let Some(root) = data() else {
        return Vec::new();
    };
    let mut paths: Vec<_> = fs::read_dir(root.join("sigs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut databases = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let stem = name.strip_suffix(".zst").unwrap_or(name);
        let ending = stem.rsplit('.').next().unwrap();
        let text = if name.ends_with(".zst") {
            match Command::new("zstd").arg("-dc").arg(&path).output() {
                Ok(output) if output.status.success() => output.stdout,
                other => {
                    eprintln!("left out: zstd cannot unpack {}: {other:?}", path.display());
                    continue;
                }
            }
        } else {
            fs::read(&path).unwrap()
        };
        let signatures = read_file(ending, &String::from_utf8_lossy(&text), level);
        if !signatures.is_empty() {
            databases.push(Database {
                label: stem.to_owned(),
                signatures,
                planted: Vec::new(),
                letters: None,
            });
        }
    }
    databases
}
