//! Names of signatures as libclamav reports them while it loads a signature set.
//!
//! Plain data, shared by the parser of signature files and by whoever drives libclamav.

/// The signatures that libclamav reported, in its order.
#[derive(Debug, Default)]
pub struct LoadedNames {
    /// Only kinds that can match a plain message. A bytecode is reported by the name of its file, and once more if it starts with a
    /// logical signature. Some are reported that libclamav then does not load, for another functionality level or target.
    pub signatures: Vec<Named>,
    /// Whether a report was lost: names may be missing.
    pub incomplete: bool,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// The kind of signature.
    pub kind: NamedKind,
    /// Without `.UNOFFICIAL`, but with `YARA.`.
    pub name: Box<[u8]>,
}

/// What libclamav calls the kind of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamedKind {
    /// `db`
    Plain,
    /// `ndb`
    Body,
    /// `ldb`
    Logical,
    /// `cbc`
    Bytecode,
    /// `yara`
    Yara,
    /// `hdb` and the like.
    Hash,
    /// A word that is not known here.
    Other,
}

impl NamedKind {
    /// From the word that libclamav passes to its callback; `None` for kinds that never match a plain message.
    pub fn of(kind: &[u8]) -> Option<NamedKind> {
        match kind {
            // Hashes go by the name of their file from its first dot on, in the case it is written in.
            [
                ..,
                b'h' | b'H',
                b'd' | b'D' | b's' | b'S',
                b'b' | b'B' | b'u' | b'U',
            ] => Some(NamedKind::Hash),
            [
                ..,
                b'm' | b'M',
                b'd' | b'D' | b's' | b'S',
                b'b' | b'B' | b'u' | b'U',
            ]
            | [.., b'f' | b'F', b'p' | b'P']
            | [.., b'i' | b'I', b'm' | b'M', b'p' | b'P'] => None,
            b"ndb" => Some(NamedKind::Body),
            b"ldb" => Some(NamedKind::Logical),
            b"yara" => Some(NamedKind::Yara),
            b"cbc" => Some(NamedKind::Bytecode),
            b"db" => Some(NamedKind::Plain),
            b"cdb" | b"idb" | b"md" | b"phishing" => None,
            _ => Some(NamedKind::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_not_passed_over() {
        assert_eq!(NamedKind::of(b"later"), Some(NamedKind::Other));
        assert_eq!(NamedKind::of(b""), Some(NamedKind::Other));
    }
}
