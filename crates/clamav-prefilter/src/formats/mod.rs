//! Reading signature files as libclamav's loader does: which files it takes, how it cuts them into
//! lines and fields.
//!
//! Parsing is total. Whatever libclamav loads becomes a known thing or a reason why it was not
//! understood; what libclamav refuses may become anything, for then there is no engine either.

pub mod body;
pub(crate) mod container;
pub(crate) mod file_types;
pub mod hash;
pub(crate) mod ioc;
pub mod lines;
pub mod logical;

use std::io::{self, BufRead, Read as _};

use crate::fields::{number, split_once};
pub use crate::format::{Container, Format};

/// Is handed one file: its name, its format, its content, of which it may leave some unread.
pub type Visitor<'v> = dyn FnMut(&[u8], Format, &mut dyn BufRead) -> io::Result<()> + 'v;

/// Hands on the file or, if it is a container, its members. The visitor never sees a container.
///
/// # Errors
///
/// What the content or the visitor says, and [`io::ErrorKind::InvalidData`] for a broken container.
pub fn visit(name: &[u8], content: &mut dyn BufRead, visitor: &mut Visitor<'_>) -> io::Result<()> {
    match Format::of(name) {
        Format::Container(_) => {
            container::members(content, &mut |name, content| match Format::of(name) {
                Format::Container(_) => Err(broken("a container in a container")),
                format => visitor(name, format, content),
            })
        }
        format => visitor(name, format, content),
    }
}

/// All of a file that is not read line by line.
///
/// # Errors
///
/// It cannot be read, or is larger than `most`.
pub(crate) fn whole(content: &mut dyn BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(broken("larger than any such file should be"));
    }
    Ok(bytes)
}

fn broken(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

/// Pairs of hexadecimal digits, in any case.
fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(hex_digit(high)? << 4 | hex_digit(low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_file_has_a_limit() {
        assert_eq!(whole(&mut &b"12345"[..], 5).unwrap(), b"12345");
        assert!(whole(&mut &b"12345"[..], 4).is_err());
    }

    proptest! {
        #[test]
        fn hexadecimal_there_and_back(bytes in prop::collection::vec(any::<u8>(), 0..40), odd in any::<u8>()) {
            let mut digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(unhex(digits.as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(unhex(digits.to_uppercase().as_bytes()), Some(bytes));
            digits.push('a');
            prop_assert_eq!(unhex(digits.as_bytes()), None);
            let mut digits = digits.into_bytes();
            digits.push(odd);
            prop_assert_eq!(unhex(&digits).is_some(), odd.is_ascii_hexdigit());
        }

        #[test]
        fn any_file_is_visited_or_refused(
            (ending, format) in prop::sample::select(Format::endings().collect::<Vec<_>>()),
            content in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut files = 0;
            let result = visit(ending.as_bytes(), &mut &content[..], &mut |_, format, content| {
                files += 1;
                assert!(!format.is_container());
                whole(content, 4000).map(drop)
            });
            prop_assert_eq!(result.is_ok() && files == 1, !format.is_container());
        }
    }
}
