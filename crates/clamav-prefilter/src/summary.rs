//! What a prefilter was built of, for people who look after it.

use std::time::Duration;

use super::plan::Plan;
use super::read::Reading;
use super::signature::Kind;

/// Counts of signatures and sizes of tables.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Signatures that can match a plain message, by how they are written.
    pub signatures: Kinds,
    /// Hashes that were read.
    pub hashes: u64,
    /// Signatures that may match any message of some lengths.
    pub always: Vec<String>,
    /// Texts that are searched for in the normalised message.
    pub texts: usize,
    /// The shortest of them, in bytes.
    pub shortest_text: usize,
    /// Texts that are searched for in the message itself.
    pub raw_texts: usize,
    /// The dearest signatures, and how often each is expected to be proposed in a message.
    pub dearest: Vec<(String, f32)>,
    /// How often any signature is expected to be proposed in a message.
    pub expected: f32,
    /// Bytes that it takes.
    pub memory_bytes: usize,
    /// How long it took to read the files and build it.
    pub build_time: Duration,
}

/// A number for each way of writing a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kinds {
    /// `.ndb`, `.sdb`, `.db` and the like.
    pub body: usize,
    /// `.ldb` and the like.
    pub logical: usize,
    /// YARA rules.
    pub yara: usize,
    /// Bytecode that starts with a logical signature.
    pub bytecode: usize,
    /// Patterns of file types, libclamav's own among them.
    pub file_types: usize,
}

impl Kinds {
    fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Body => &mut self.body,
            Kind::Logical => &mut self.logical,
            Kind::Yara => &mut self.yara,
            Kind::Bytecode => &mut self.bytecode,
            Kind::Type => &mut self.file_types,
        } += 1;
    }
}

/// How many of the dearest are told.
const DEAREST: usize = 10;

impl Summary {
    pub(super) fn of(reading: &Reading) -> Summary {
        let mut summary = Summary {
            hashes: reading.hash_lines,
            ..Summary::default()
        };
        for signature in reading.signatures.iter().chain(&reading.types.patterns) {
            summary.signatures.add(signature.kind);
        }
        summary
    }

    pub(super) fn add(&mut self, plan: &Plan) {
        self.always = plan
            .always
            .iter()
            .map(|(_, name)| name.to_string())
            .collect();
        if let Some(search) = &plan.text {
            (self.texts, self.shortest_text) = (search.texts(), search.shortest);
        }
        self.raw_texts = plan.raw.as_ref().map_or(0, |search| search.texts());
        let mut dearest: Vec<_> = plan.signatures.iter().collect();
        dearest.sort_by(|a, b| b.expected.total_cmp(&a.expected));
        self.expected = dearest.iter().map(|one| one.expected).sum();
        let told = dearest.into_iter().take(DEAREST);
        self.dearest = told
            .map(|one| (one.name.to_string(), one.expected))
            .collect();
        self.memory_bytes = plan.memory_bytes();
    }
}
