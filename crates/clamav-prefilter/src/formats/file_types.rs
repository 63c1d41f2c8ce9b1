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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_understood() {
        let magic = FileType::Magic {
            offset: 257,
            bytes: b"ustar".to_vec(),
        };
        let line = b"0:257:7573746172:TAR-POSIX:CL_TYPE_ANY:CL_TYPE_POSIX_TAR";
        assert_eq!(parse(line), Ok(magic));
        let pattern = FileType::Pattern {
            name: b"HTML data",
            offset: b"*",
            hex: b"3c6120*(68|48)",
            detected: b"CL_TYPE_HTML",
        };
        let line = b"1:*:3c6120*(68|48):HTML data:CL_TYPE_ANY:CL_TYPE_HTML:51:255";
        assert_eq!(parse(line), Ok(pattern));
        let line = b"4:1024:482B:HFS+:CL_TYPE_PART_ANY:CL_TYPE_PART_HFSPLUS:75";
        assert_eq!(parse(line), Ok(FileType::Partition));
    }

    #[test]
    fn lines_that_are_not() {
        for line in [
            "",
            "0:0:4d5a:N:A",
            "0:0:4d5a:N:A:B:1:2:3",
            "0:0::N:A:B",
            "0:0:4d5:N:A:B",
            "0:0:4d??:N:A:B",
            "0:*:4d5a:N:A:B",
            "0:EOF-512:4d5a:N:A:B",
            "0:4294967296:4d5a:N:A:B",
            "2:0:4d5a:N:A:B",
            "x:0:4d5a:N:A:B",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _either = parse(&line);
        }

        #[test]
        fn any_magic_comes_back(offset in 0..100_000_u32, bytes in prop::collection::vec(any::<u8>(), 1..20)) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("0:{offset}:{hex}:N:A:B");
            prop_assert_eq!(parse(line.as_bytes()), Ok(FileType::Magic { offset, bytes }));
        }
    }
}
