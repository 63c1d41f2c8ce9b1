//! Which hashes of whole messages are known to be bad, in little memory.
//!
//! Only the start of a digest is kept: more is found than is there, never less, and libclamav has
//! the last word.

/// Larger messages are not asked about, so hashes of larger files are not kept.
pub(crate) const LARGEST: u32 = 65536;

/// How a digest starts; what is kept of it at most.
pub(crate) type Start = [u8; 8];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HashKind {
    Md5,
    Sha1,
    Sha256,
}

impl HashKind {
    pub(crate) const ALL: [HashKind; 3] = [HashKind::Md5, HashKind::Sha1, HashKind::Sha256];

    /// How many hexadecimal digits a digest has.
    pub(crate) fn digits(self) -> usize {
        match self {
            HashKind::Md5 => 32,
            HashKind::Sha1 => 40,
            HashKind::Sha256 => 64,
        }
    }

    pub(crate) fn of_digits(digits: usize) -> Option<HashKind> {
        HashKind::ALL
            .into_iter()
            .find(|kind| kind.digits() == digits)
    }
}

/// Collects hashes for [`Hashes`].
#[derive(Debug, Default)]
pub(crate) struct Builder {
    md5: Raw,
    sha1: Raw,
    sha256: Raw,
}

#[derive(Debug, Default)]
struct Raw {
    sized: Vec<u64>,
    any: Vec<u64>,
}

impl Builder {
    /// A file of this size, or of any.
    pub(crate) fn add(&mut self, kind: HashKind, size: Option<u32>, start: Start) {
        let raw = match kind {
            HashKind::Md5 => &mut self.md5,
            HashKind::Sha1 => &mut self.sha1,
            HashKind::Sha256 => &mut self.sha256,
        };
        match size {
            None => raw.any.push(u64::from_be_bytes(start)),
            Some(size) => raw.sized.extend(key(size, start)),
        }
    }

    pub(crate) fn build(self) -> Hashes {
        Hashes {
            md5: Table::new(self.md5),
            sha1: Table::new(self.sha1),
            sha256: Table::new(self.sha256),
        }
    }
}

/// A size and six bytes of the digest in one number; `None` for a size that is not kept.
fn key(size: u32, [a, b, c, d, e, f, ..]: Start) -> Option<u64> {
    let [high, low] = u16::try_from(size.checked_sub(1)?).ok()?.to_be_bytes();
    Some(u64::from_be_bytes([high, low, a, b, c, d, e, f]))
}

/// Hashes of bad files, for many questions.
#[derive(Debug)]
pub(crate) struct Hashes {
    md5: Table,
    sha1: Table,
    sha256: Table,
}

impl Hashes {
    /// Whether it takes the digest to know: there is a hash of this kind for files of this size. Cheap.
    pub(crate) fn needs(&self, kind: HashKind, len: usize) -> bool {
        self.table(kind).needs(len)
    }

    /// Whether a message of this length and with this digest may be a bad file.
    pub(crate) fn contains(&self, kind: HashKind, len: usize, digest: &[u8]) -> bool {
        self.table(kind).contains(len, digest)
    }

    /// Bytes that the tables take.
    pub(crate) fn memory_bytes(&self) -> usize {
        [&self.md5, &self.sha1, &self.sha256]
            .iter()
            .map(|table| {
                table.sized.memory_bytes() + table.any.memory_bytes() + size_of_val(&*table.sizes)
            })
            .sum()
    }

    fn table(&self, kind: HashKind) -> &Table {
        match kind {
            HashKind::Md5 => &self.md5,
            HashKind::Sha1 => &self.sha1,
            HashKind::Sha256 => &self.sha256,
        }
    }
}

/// The hashes of one kind.
#[derive(Debug)]
struct Table {
    /// [`key`]s.
    sized: Keys,
    /// [`Start`]s for files of any size.
    any: Keys,
    /// A bit for every size that is in `sized`.
    sizes: Box<[u64]>,
}

impl Table {
    fn new(raw: Raw) -> Table {
        let sized = Keys::new(raw.sized);
        let mut sizes = vec![0_u64; LARGEST as usize / 64 + 1].into_boxed_slice();
        for key in &sized.sorted {
            let size = (key >> 48) as usize + 1;
            if let Some(word) = sizes.get_mut(size / 64) {
                *word |= 1 << (size % 64);
            }
        }
        Table {
            sized,
            any: Keys::new(raw.any),
            sizes,
        }
    }

    fn needs(&self, len: usize) -> bool {
        // What was not kept may be there.
        !self.any.sorted.is_empty() || len > LARGEST as usize || self.has_size(len)
    }

    fn has_size(&self, len: usize) -> bool {
        let word = self.sizes.get(len / 64).copied().unwrap_or_default();
        word >> (len % 64) & 1 != 0
    }

    fn contains(&self, len: usize, digest: &[u8]) -> bool {
        let Some(&start) = digest.first_chunk() else {
            return true;
        };
        if len > LARGEST as usize {
            return true;
        }
        let any = || self.any.contains(u64::from_be_bytes(start));
        let sized = || {
            u32::try_from(len)
                .ok()
                .and_then(|size| key(size, start))
                .is_some_and(|key| self.sized.contains(key))
        };
        any() || (self.has_size(len) && sized())
    }
}

/// Numbers to look up.
#[derive(Debug)]
struct Keys {
    sorted: Box<[u64]>,
    /// A bit for each of them, of [`BITS_A_KEY`] for each: a search walks through the whole memory, and one look here spares nearly
    /// all of them.
    bits: Box<[u64]>,
    shift: u32,
}

const BITS_A_KEY: usize = 8;

impl Keys {
    fn new(mut keys: Vec<u64>) -> Keys {
        keys.sort_unstable();
        keys.dedup();
        let bits = (keys.len() * BITS_A_KEY).next_power_of_two().max(64);
        let mut keys = Keys {
            sorted: keys.into(),
            bits: vec![0; bits / 64].into(),
            shift: u64::BITS - bits.trailing_zeros(),
        };
        for key in &keys.sorted {
            let (word, bit) = place(*key, keys.shift);
            if let Some(word) = keys.bits.get_mut(word) {
                *word |= 1 << bit;
            }
        }
        keys
    }

    fn contains(&self, key: u64) -> bool {
        let (word, bit) = place(key, self.shift);
        let word = self.bits.get(word).copied().unwrap_or_default();
        word >> bit & 1 != 0 && self.sorted.binary_search(&key).is_ok()
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.sorted) + size_of_val(&*self.bits)
    }
}

/// The bit of a key: its word, and its place there.
fn place(key: u64, shift: u32) -> (usize, u32) {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift;
    ((hash >> 6) as usize, (hash & 63) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    type Entry = (HashKind, Option<u32>, [u8; 32]);

    fn table(entries: &[Entry]) -> Hashes {
        let mut builder = Builder::default();
        for (kind, size, digest) in entries {
            builder.add(*kind, *size, *digest.first_chunk().unwrap());
        }
        builder.build()
    }

    fn kinds() -> impl Strategy<Value = HashKind> {
        prop::sample::select(&HashKind::ALL[..])
    }

    fn sizes() -> impl Strategy<Value = u32> {
        prop_oneof![
            1..8_u32,
            60..68_u32,
            LARGEST - 3..=LARGEST,
            LARGEST + 1..LARGEST + 4,
            any::<u32>(),
        ]
    }

    /// Digests of which many start alike.
    fn digests() -> impl Strategy<Value = [u8; 32]> {
        (0..3_u8, 0..3_u8, 0..3_u8, 0..3_u8).prop_map(|(a, b, c, d)| {
            let mut digest = [0; 32];
            (digest[0], digest[5], digest[7], digest[31]) = (a, b, c, d);
            digest
        })
    }

    proptest! {
        #[test]
        fn as_a_naive_set(
            entries in prop::collection::vec((kinds(), prop::option::of(sizes()), digests()), 0..30),
            kind in kinds(),
            len in sizes(),
            digest in digests(),
        ) {
            let hashes = table(&entries);
            let set: HashSet<Entry> = entries.iter().copied().collect();
            let known = set.contains(&(kind, None, digest)) || set.contains(&(kind, Some(len), digest));
            let size_known = set.iter().any(|&(k, size, _)| k == kind && size.is_none_or(|size| size == len));
            let len_ = len as usize;

            // What is known is found.
            prop_assert!(!known || hashes.contains(kind, len_, &digest));
            prop_assert!(!size_known || hashes.needs(kind, len_));
            if len > LARGEST {
                prop_assert!(hashes.needs(kind, len_) && hashes.contains(kind, len_, &digest));
                return Ok(());
            }
            // And nothing else, but for what starts alike.
            prop_assert_eq!(hashes.needs(kind, len_), size_known);
            let alike = set.iter().any(|&(k, size, d)| {
                k == kind
                    && match size {
                        None => d[..8] == digest[..8],
                        Some(size) => size == len && d[..6] == digest[..6],
                    }
            });
            prop_assert_eq!(hashes.contains(kind, len_, &digest), alike);
        }

        #[test]
        fn no_question_is_a_panic(
            entries in prop::collection::vec((kinds(), prop::option::of(any::<u32>()), any::<[u8; 32]>()), 0..9),
            kind in kinds(),
            len in any::<usize>(),
            digest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let hashes = table(&entries);
            let found = hashes.contains(kind, len, &digest);
            prop_assert!(found || digest.len() >= 8);
            prop_assert!(hashes.needs(kind, len) || !hashes.contains(kind, len, &[0x5a; 32]));
        }
    }

    #[test]
    fn memory_goes_by_what_is_kept() {
        let mut builder = Builder::default();
        for n in 0..200_000_u32 {
            let start = u64::from(n)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes();
            builder.add(HashKind::Md5, Some(n + 1), start);
            builder.add(HashKind::Md5, Some(n + 1), start);
        }
        let hashes = builder.build();
        assert_eq!(hashes.md5.sized.sorted.len(), LARGEST as usize);
        assert!(hashes.md5.any.sorted.is_empty() && hashes.sha1.sized.sorted.is_empty());
        assert_eq!(
            std::mem::size_of_val(&*hashes.md5.sized.sorted),
            8 * LARGEST as usize
        );
    }

    #[test]
    fn an_empty_table_needs_nothing() {
        let hashes = Builder::default().build();
        for kind in HashKind::ALL {
            assert!(!hashes.needs(kind, 6) && !hashes.contains(kind, 6, &[0; 32]));
            assert!(hashes.needs(kind, LARGEST as usize + 1));
        }
    }
}
