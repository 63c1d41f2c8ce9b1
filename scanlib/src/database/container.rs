//! What a `.cvd`, `.cld` or `.cud` says of itself: a line of text in its first 512 bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Length of the header.
const HEADER: u64 = 512;
const MAGIC: &str = "ClamAV-VDB";

/// The header of a signature container. It is the container's own word: [`crate::Library::verify`] proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Container {
    /// Grows with every release of the container.
    pub version: u32,
    /// Number of signatures.
    pub signatures: u32,
    /// What an engine must be able to do to use all of it.
    pub functionality_level: u32,
    /// Who built it.
    pub builder: String,
    /// When, in seconds since 1970; old containers do not say.
    pub built: Option<u64>,
}

impl Container {
    /// Reads the header of a file; `None` if it has none, as every other kind of signature file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Option<Container>> {
        let mut header = Vec::new();
        File::open(path)?.take(HEADER).read_to_end(&mut header)?;
        Ok(Container::parse(&String::from_utf8_lossy(&header)))
    }

    fn parse(header: &str) -> Option<Container> {
        let mut fields = header.trim_end().split(':');
        if fields.next() != Some(MAGIC) {
            return None;
        }
        let _time = fields.next()?;
        let version = fields.next()?.parse().ok()?;
        let signatures = fields.next()?.parse().ok()?;
        let functionality_level = fields.next()?.parse().ok()?;
        let (_md5, _signature) = (fields.next()?, fields.next()?);
        let builder = fields.next()?.to_owned();
        let built = fields.next().and_then(|seconds| seconds.parse().ok());
        Some(Container {
            version,
            signatures,
            functionality_level,
            builder,
            built,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_what_is_none_is_no_container() {
        let header = "ClamAV-VDB:22 Jun 2021 16-55 -0400:27:13:81:X:X:judge:1624395301   ";
        let container = Container::parse(header).unwrap();
        assert_eq!((container.version, container.signatures), (27, 13));
        assert_eq!(container.functionality_level, 81);
        assert_eq!(container.builder, "judge");
        assert_eq!(container.built, Some(1_624_395_301));
        let old = Container::parse("ClamAV-VDB:22 Jun 2021:27:13:81:X:X:judge").unwrap();
        assert_eq!(old.built, None);
        for none in ["", "ClamAV-VDB:", "My.Needle:0:*:6e65", &header[..40]] {
            assert_eq!(Container::parse(none), None, "{none}");
        }
    }
}
