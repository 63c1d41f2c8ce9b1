//! A signature as every front end hands it on.

use super::required::Required;

/// One signature that may match a plain message.
#[derive(Clone, Debug)]
pub struct Signature {
    /// As the engine names it, without `.UNOFFICIAL`.
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    /// What it needs to match.
    pub(crate) required: Required,
    /// Only messages of these sizes are matched.
    pub(crate) size: SizeRange,
    /// Why nothing is known, where `need` is [`Required::Always`] for want of understanding.
    pub(crate) why: Option<String>,
}

impl Signature {
    /// With what was found out about it, or why nothing was.
    pub(crate) fn read(
        name: &[u8],
        kind: Kind,
        size: SizeRange,
        required: Result<Required, String>,
    ) -> Signature {
        let (required, why) = match required {
            Ok(required) => (required, None),
            Err(why) => (Required::Always, Some(why)),
        };
        Signature {
            name: String::from_utf8_lossy(name).into(),
            kind,
            required,
            size,
            why,
        }
    }
}

/// What a signature was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `.ndb`, `.sdb`, `.db` and the like.
    Body,
    /// `.ldb` and the like.
    Logical,
    /// `.yar`.
    Yara,
    /// The logical signature that starts a bytecode.
    Bytecode,
    /// Not a signature: a pattern that gives a message another type than plain text.
    Type,
}

/// Bytes that a message may have, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Minimum length in bytes.
    pub min: u64,
    /// Maximum length in bytes.
    pub max: u64,
}

impl SizeRange {
    pub(crate) const ANY: SizeRange = SizeRange {
        min: 0,
        max: u64::MAX,
    };
}
