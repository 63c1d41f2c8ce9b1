//! The digests that files must have: for those that carry no digital signature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::text;

/// No list is longer, in bytes.
const LONGEST_LIST: u64 = 16 << 20;
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// SHA-256 digests by the name of the file, as sha256sum writes them.
#[derive(Clone, Debug)]
pub struct Digests {
    list: PathBuf,
    by_name: BTreeMap<String, String>,
}

/// Why a list cannot be used.
#[derive(Debug, Error)]
#[error("--sha256 {}: {why}", list.display())]
pub struct DigestsError {
    list: PathBuf,
    why: String,
}

impl Digests {
    /// Reads a list. Of a path in it the last part is the name.
    ///
    /// # Errors
    /// It cannot be read, is not in the format of sha256sum, or gives one name two digests.
    pub fn read(list: &Path) -> Result<Digests, DigestsError> {
        let failed = |why: String| DigestsError {
            list: list.to_owned(),
            why,
        };
        let text = text::read(list, LONGEST_LIST)
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        let mut by_name = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, digest) = entry(line).ok_or_else(|| {
                failed(format!(
                    "line {number} is not in the format of sha256sum (64 hexadecimal digits, two spaces, the name)"
                ))
            })?;
            let before = by_name.insert(name.to_owned(), digest.clone());
            if before.is_some_and(|before| before != digest) {
                return Err(failed(format!(
                    "line {number} gives {name} another digest than a line before"
                )));
            }
        }
        Ok(Digests {
            list: list.to_owned(),
            by_name,
        })
    }

    /// Which list it is.
    pub fn list(&self) -> &Path {
        &self.list
    }

    /// The digest that a file must have, in lower case.
    pub fn of(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }
}

/// Name and digest. In front of a name stands a space, or an asterisk for a file that was read as binary.
fn entry(line: &str) -> Option<(&str, String)> {
    let (digest, name) = line.split_at_checked(DIGITS)?;
    let name = name.strip_prefix(' ')?;
    let name = name.strip_prefix([' ', '*'])?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let is_digest = digest.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_digest && !name.is_empty()).then(|| (name, digest.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_digest_two_characters_and_a_name() {
        let digest = "0123456789abcdefABCDEF6789abcdef0123456789abcdef0123456789abcdef";
        let lower = digest.to_ascii_lowercase();
        for (behind, name) in [
            ("  own.ndb", "own.ndb"),
            (" *own.ndb", "own.ndb"),
            ("  ./own.ndb", "own.ndb"),
            ("  /srv/sigs/own.ndb", "own.ndb"),
            ("  with space.ndb", "with space.ndb"),
        ] {
            let line = format!("{digest}{behind}");
            assert_eq!(entry(&line), Some((name, lower.clone())), "{line}");
        }
        for bad in [
            "SHA256 (own.ndb) = 00".to_owned(),
            format!("{digest} own.ndb"),
            format!("{digest}  "),
            format!("{digest}  dir/"),
            format!("\\{digest}  own\\n.ndb"),
            format!("{}  own.ndb", &digest[1..]),
            format!("{}é  own.ndb", &digest[1..]),
        ] {
            assert_eq!(entry(&bad), None, "{bad}");
        }
    }
}
