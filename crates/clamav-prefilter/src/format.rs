//! The formats of signature files: the one table from the ending of a file's name to what the file holds.
//!
//! Plain data. Everything that depends on an ending asks here: the parser, the list of files that libclamav loads from a directory, the
//! profile for logs, and the checks of digital signatures.

/// What a signature file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name:target:offset:hex`, see [`body`](crate::formats::body).
    Body,
    /// As `Body`, but libclamav does not report the names while it loads them (`.sdb`).
    UnnamedBody,
    /// `name=hex`, see [`body`](crate::formats::body).
    Plain,
    /// Logical signatures.
    Logical,
    /// One bytecode; its second line may be a logical signature.
    Bytecode,
    /// Hashes of whole files, see [`hash`](crate::formats::hash).
    Hash,
    /// OpenIOC.
    Ioc,
    /// YARA rules.
    Yara,
    /// File types.
    FileTypes,
    /// Files in a file.
    Container(Container),
    /// Hashes of sections or of the import table of executables.
    ExecutablePart,
    /// Icons of executables.
    Icon,
    /// Names of signatures that libclamav does not load.
    IgnoreList,
    /// Nothing in it can make libclamav report a plain message; why.
    Irrelevant(&'static str),
    /// Not loaded as signatures: an update, checksums, or a file whose name has no ending, such as a licence.
    NotLoaded,
    /// No ending in the table. libclamav 1.4 skips such a file; a later version may not.
    Unknown,
}

/// Kinds of containers; they differ in whose signatures libclamav takes them for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// As published: signed as a whole, which libclamav verifies.
    Cvd,
    /// A `.cvd` to which an updater applied incremental updates. libclamav takes its signatures for the publisher's without a digital
    /// signature of the whole.
    Cld,
    /// Of anybody, unsigned.
    Cud,
}

const MEMBER: Format = Format::Irrelevant("matches members of archives and mail");
const LINK: Format = Format::Irrelevant("matches links in mail");
const ALLOW: Format = Format::Irrelevant("takes detections away");
const PASSWORD: Format = Format::Irrelevant("opens archives");
const SWITCH: Format = Format::Irrelevant("turns parts of the engine off");

/// Every ending that libclamav or its updater knows.
const ENDINGS: [(&str, Format); 41] = [
    (".cat", ALLOW),
    (".cbc", Format::Bytecode),
    (".cdb", MEMBER),
    (".cdiff", Format::NotLoaded),
    (".cfg", SWITCH),
    (".cld", Format::Container(Container::Cld)),
    (".crb", ALLOW),
    (".cud", Format::Container(Container::Cud)),
    (".cvd", Format::Container(Container::Cvd)),
    (".db", Format::Plain),
    (".fp", ALLOW),
    (".ftm", Format::FileTypes),
    (".gdb", LINK),
    (".hdb", Format::Hash),
    (".hdu", Format::Hash),
    (".hsb", Format::Hash),
    (".hsu", Format::Hash),
    (".idb", Format::Icon),
    (".ign", Format::IgnoreList),
    (".ign2", Format::IgnoreList),
    (".imp", Format::ExecutablePart),
    (".info", Format::NotLoaded),
    (".ioc", Format::Ioc),
    (".ldb", Format::Logical),
    (".ldu", Format::Logical),
    (".mdb", Format::ExecutablePart),
    (".mdu", Format::ExecutablePart),
    (".msb", Format::ExecutablePart),
    (".msu", Format::ExecutablePart),
    (".ndb", Format::Body),
    (".ndu", Format::Body),
    (".pdb", LINK),
    (".pwdb", PASSWORD),
    (".rmd", MEMBER),
    (".sdb", Format::UnnamedBody),
    (".sfp", ALLOW),
    (".sign", Format::NotLoaded),
    (".wdb", LINK),
    (".yar", Format::Yara),
    (".yara", Format::Yara),
    (".zmd", MEMBER),
];

impl Format {
    /// By the file's name without its directory. Case does not count, and a name may be nothing but an ending. Without a dot it has none:
    /// containers carry a licence text that way.
    pub fn of(name: &[u8]) -> Format {
        let Some(dot) = memchr::memrchr(b'.', name) else {
            return Format::NotLoaded;
        };
        let ending = name.get(dot..).unwrap_or_default();
        ENDINGS
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(ending))
            .map_or(Format::Unknown, |&(_, format)| format)
    }

    /// Every ending of the table, with its dot.
    pub fn endings() -> impl Iterator<Item = (&'static str, Format)> {
        ENDINGS.into_iter()
    }

    /// Whether libclamav loads such a file from a directory or a container.
    pub fn is_loaded(self) -> bool {
        !matches!(self, Format::NotLoaded | Format::Unknown)
    }

    /// Whether files of this format are containers.
    pub fn is_container(self) -> bool {
        matches!(self, Format::Container(_))
    }

    /// Whether a file of this format carries a digital signature of all that it holds, which libclamav can verify.
    pub fn has_digital_signature(self) -> bool {
        self == Format::Container(Container::Cvd)
    }

    /// Whether libclamav takes the signatures in it for the publisher's: it reports their names without `.UNOFFICIAL`, and loads them if
    /// only official ones are wanted.
    pub fn counts_as_official(self) -> bool {
        matches!(self, Format::Container(Container::Cvd | Container::Cld))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_without_a_known_ending() {
        for name in ["", "COPYING", "ndb", "README"] {
            assert_eq!(Format::of(name.as_bytes()), Format::NotLoaded, "{name}");
        }
        for name in [".", "x.", "x.ndb2", "x.ndb.bak", "x.nd", "x. ndb"] {
            assert_eq!(Format::of(name.as_bytes()), Format::Unknown, "{name}");
        }
    }

    #[test]
    fn only_a_container_as_published_carries_a_signature_of_the_whole() {
        let those = |is: fn(Format) -> bool| -> Vec<_> {
            let all = Format::endings().filter(|(_, format)| is(*format));
            all.map(|(ending, _)| ending).collect()
        };
        assert_eq!(those(Format::has_digital_signature), [".cvd"]);
        assert_eq!(those(Format::counts_as_official), [".cld", ".cvd"]);
        assert_eq!(those(Format::is_container), [".cld", ".cud", ".cvd"]);
        assert_eq!(
            those(|format| !format.is_loaded()),
            [".cdiff", ".info", ".sign"]
        );
    }

    proptest! {
        #[test]
        fn any_name_has_a_format(name in prop::collection::vec(any::<u8>(), 0..12)) {
            let naive = ENDINGS
                .iter()
                .find(|(ending, _)| {
                    let name = name.to_ascii_lowercase();
                    name.ends_with(ending.as_bytes())
                })
                .map(|&(_, format)| format);
            prop_assert_eq!(naive.is_some(), naive == Some(Format::of(&name)));
        }

        #[test]
        fn an_ending_decides_alone(
            stem in prop::collection::vec(any::<u8>(), 0..12),
            (ending, format) in prop::sample::select(&ENDINGS[..]),
            upper in any::<bool>(),
        ) {
            let mut name = stem;
            name.extend(ending.bytes().map(|byte| match upper {
                true => byte.to_ascii_uppercase(),
                false => byte,
            }));
            prop_assert_eq!(Format::of(&name), format);
        }
    }
}
