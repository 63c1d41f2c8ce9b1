//! Lines that give files a type: `magic:offset:hex:name:required:detected[:min[:max]]`.
//!
//! The functionality levels at the end are not looked at: they only keep libclamav from loading.

use super::{number, unhex};

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileType<'l> {
    /// These bytes, never none, stand at this offset.
    Magic { offset: u32, bytes: Vec<u8> },
    /// The pattern matches somewhere in the file.
    Pattern {
        name: &'l [u8],
        /// As in body signatures.
        offset: &'l [u8],
        /// As in body signatures.
        hex: &'l [u8],
        /// The type that the file gets, as `CL_TYPE_HTML`.
        detected: &'l [u8],
    },
    /// It tells partitions of disk images apart.
    Partition,
}

/// # Errors
///
/// Why the line is not understood.
pub(crate) fn parse(line: &[u8]) -> Result<FileType<'_>, &'static str> {
    let fields: Vec<&[u8]> = line.splitn(9, |&byte| byte == b':').collect();
    let &[
        magic,
        offset,
        hex,
        name,
        _required,
        detected,
        ref levels @ ..,
    ] = fields.as_slice()
    else {
        return Err("fewer than six fields");
    };
    if levels.len() > 2 {
        return Err("more than eight fields");
    }
    match number(magic) {
        Some(0) => {
            let offset = number(offset).ok_or("an offset that is no small number")?;
            match unhex(hex) {
                Some(bytes) if !bytes.is_empty() => Ok(FileType::Magic { offset, bytes }),
                Some(_) => Err("a magic without bytes"),
                None => Err("a magic that is not hexadecimal"),
            }
        }
        Some(1) => Ok(FileType::Pattern {
            name,
            offset,
            hex,
            detected,
        }),
        Some(4) => Ok(FileType::Partition),
        _ => Err("a kind of magic that is not known here"),
    }
}
