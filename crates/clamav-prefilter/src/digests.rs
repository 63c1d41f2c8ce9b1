//! The digests of a message that libclamav compares with those of known files.

use std::ops::Range;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::hashes::{HashKind, Hashes};
use super::md5::Digest;

/// Whether libclamav may know a file with this content. A digest is taken only if there is one for files of this size.
pub(crate) fn may_know(hashes: &Hashes, content: &[u8]) -> bool {
    may_know_by(hashes, content, &HashKind::ALL)
}

fn may_know_by(hashes: &Hashes, content: &[u8], kinds: &[HashKind]) -> bool {
    kinds.iter().any(|&kind| {
        let knows = |digest: &[u8]| hashes.contains(kind, content.len(), digest);
        hashes.needs(kind, content.len())
            && match kind {
                HashKind::Md5 => knows(&Md5::digest(content)),
                HashKind::Sha1 => knows(&Sha1::digest(content)),
                HashKind::Sha256 => knows(&Sha256::digest(content)),
            }
    })
}

/// As [`may_know`], of a message or its normalised text. Two digests side by side cost little more than one.
pub(crate) fn may_know_either(hashes: &Hashes, message: &[u8], normal: &[u8]) -> bool {
    let needs = |kind, text: &[u8]| hashes.needs(kind, text.len());
    if !(needs(HashKind::Md5, message) && needs(HashKind::Md5, normal)) {
        return may_know(hashes, message) || may_know(hashes, normal);
    }
    let [of_message, of_normal] = super::md5::pair(message, normal);
    hashes.contains(HashKind::Md5, message.len(), &of_message)
        || hashes.contains(HashKind::Md5, normal.len(), &of_normal)
        || may_know_by(hashes, message, &[HashKind::Sha1, HashKind::Sha256])
        || may_know_by(hashes, normal, &[HashKind::Sha1, HashKind::Sha256])
}

/// Messages of which the digests are taken side by side.
#[derive(Debug, Default)]
pub(crate) struct Together {
    texts: Vec<Text>,
    /// The normalised texts, one behind the other.
    normal: Vec<u8>,
    /// What their digests are, by the text's place in the list.
    digests: Vec<(usize, Digest)>,
}

/// A message by its number, or its normalised text.
#[derive(Clone, Debug)]
struct Text {
    len: usize,
    message: usize,
    normal: Option<Range<usize>>,
}

impl Together {
    /// Adds a message and, where that is to be known as well, its normalised text. True if one of them may be known already: the rarer
    /// digests are taken at once.
    pub(crate) fn add(
        &mut self,
        hashes: &Hashes,
        message: (usize, &[u8]),
        normal: Option<&[u8]>,
    ) -> bool {
        let (number, message) = message;
        if hashes.needs(HashKind::Md5, message.len()) {
            self.texts.push(Text {
                len: message.len(),
                message: number,
                normal: None,
            });
        }
        if let Some(normal) = normal.filter(|normal| hashes.needs(HashKind::Md5, normal.len())) {
            let start = self.normal.len();
            self.normal.extend_from_slice(normal);
            self.texts.push(Text {
                len: normal.len(),
                message: number,
                normal: Some(start..self.normal.len()),
            });
        }
        let rarer = [HashKind::Sha1, HashKind::Sha256];
        may_know_by(hashes, message, &rarer)
            || normal.is_some_and(|normal| may_know_by(hashes, normal, &rarer))
    }

    /// Bytes that are kept for the digests.
    pub(crate) fn bytes(&self) -> usize {
        self.normal.len()
    }

    /// Hands on the number of each message that may be known, and forgets them all. They are found in `messages` by their numbers.
    pub(crate) fn known(
        &mut self,
        hashes: &Hashes,
        messages: &[&[u8]],
        mut take: impl FnMut(usize),
    ) {
        self.texts.sort_unstable_by_key(|text| text.len);
        let content = |text: &Text| match &text.normal {
            None => messages.get(text.message).copied(),
            Some(range) => self.normal.get(range.clone()),
        };
        let content = |text: &Text| content(text).unwrap_or_default();
        let digests = &mut self.digests;
        super::md5::each(self.texts.iter().map(content), |place, digest| {
            digests.push((place, digest));
        });
        // All of them in a row: each waits for the memory, and so they wait at the same time.
        for (place, digest) in &*digests {
            if let Some(text) = self.texts.get(*place)
                && hashes.contains(HashKind::Md5, text.len, digest)
            {
                take(text.message);
            }
        }
        self.forget();
    }

    pub(crate) fn forget(&mut self) {
        self.texts.clear();
        self.normal.clear();
        self.digests.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::hashes::Builder;
    use super::*;

    #[test]
    fn each_kind_is_the_digest_of_its_name() {
        // As the tools md5sum, sha1sum and sha256sum tell them of "abc".
        for (kind, start) in [
            (HashKind::Md5, 0x9001_5098_3cd2_4fb0_u64),
            (HashKind::Sha1, 0xa999_3e36_4706_816a),
            (HashKind::Sha256, 0xba78_16bf_8f01_cfea),
        ] {
            for size in [Some(3), None] {
                let mut builder = Builder::default();
                builder.add(kind, size, start.to_be_bytes());
                let hashes = builder.build();
                assert!(may_know(&hashes, b"abc"), "{kind:?} {size:?}");
                assert!(!may_know(&hashes, b"abd") && !may_know(&hashes, b"abcd"));
                assert!(may_know_either(&hashes, b"abc", b"xyz"));
                assert!(may_know_either(&hashes, b"xyz", b"abc"));
                assert!(!may_know_either(&hashes, b"abd", b"xyz"));
                assert!(!may_know_either(&hashes, b"abcd", b"xyz"));
                let messages = [&b"xyz"[..], b"abc", b"abd", b"xyz", b"xyz"];
                let normals = [None, None, Some(&b"xyz"[..]), Some(b"abc"), Some(b"abcd")];
                let (mut together, mut known) = (Together::default(), Vec::new());
                for (message, normal) in messages.iter().enumerate().zip(normals) {
                    let (number, message) = message;
                    if together.add(&hashes, (number, message), normal) {
                        known.push(number);
                    }
                }
                together.known(&hashes, &messages, |number| known.push(number));
                known.sort_unstable();
                assert_eq!(known, [1, 3], "{kind:?} {size:?}");
                together.known(&hashes, &messages, |number| panic!("{number}"));
            }
        }
    }
}
