//! The digests of a message that libclamav compares with those of known files.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::hashes::{HashKind, Hashes};

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
            }
        }
    }
}
