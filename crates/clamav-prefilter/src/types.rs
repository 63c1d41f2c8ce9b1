//! What makes libclamav take a message for something other than plain text: the table that is built into it, and what a
//! database's `.ftm` files add. There they replace the table; here they join it, which only has more scanned.

use super::formats::file_types::{self, FileType};
use super::pattern::{self, Modifiers, Offset, Target};
use super::signature::{Kind, Signature, SizeRange};
use super::text::is_foreign;

/// Entries that a plain message can meet.
#[derive(Debug, Default)]
pub(crate) struct Types {
    pub(crate) magics: Vec<Magic>,
    /// Patterns anywhere in the message.
    pub(crate) patterns: Vec<Signature>,
    /// Patterns of HTML in the reading of the message's start as UTF-16.
    pub(crate) decoded: Vec<Signature>,
}

/// Bytes at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Magic {
    pub(crate) offset: usize,
    pub(crate) bytes: Box<[u8]>,
}

impl Types {
    /// libclamav's own.
    pub(crate) fn built_in() -> Types {
        let mut types = Types::default();
        for line in include_str!("builtin.ftm").lines() {
            if !line.starts_with('#') {
                // Known to be understood: a test reads it.
                types.add(line.as_bytes()).unwrap_or_default();
            }
        }
        types
    }

    /// Adds a line of an `.ftm` file.
    ///
    /// # Errors
    /// Why it is not understood.
    pub(crate) fn add(&mut self, line: &[u8]) -> Result<(), String> {
        match file_types::parse(line)? {
            FileType::Magic { offset, bytes } => {
                // A foreign byte has the message scanned anyway.
                if !bytes.iter().any(|byte| is_foreign(*byte)) {
                    self.magics.push(Magic {
                        offset: offset as usize,
                        bytes: bytes.into(),
                    });
                }
            }
            FileType::Pattern {
                name,
                offset,
                hex,
                detected,
            } => {
                let offset = Offset::parse(offset);
                let signature = |target| {
                    let required = pattern::required(hex, target, offset, Modifiers::default())?;
                    let size = SizeRange::ANY;
                    Ok::<_, String>(Signature::read(name, Kind::Type, size, Ok(required)))
                };
                self.patterns.push(signature(Target::Message)?);
                if detected.starts_with(b"CL_TYPE_HTML") {
                    self.decoded.push(signature(Target::Decoded)?);
                }
            }
            FileType::Partition => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::required::Required;
    use super::*;

    #[test]
    fn every_entry_of_the_built_in_table_is_understood() {
        let lines: Vec<&str> = include_str!("builtin.ftm")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        let mut types = Types::default();
        for line in &lines {
            types.add(line.as_bytes()).expect(line);
        }
        assert_eq!(types.magics.len() + types.patterns.len(), lines.len());
        assert!(types.decoded.len() > 20);
        for signature in types.patterns.iter().chain(&types.decoded) {
            let is_known = !matches!(signature.required, Required::Always | Required::Never);
            assert!(is_known, "{signature:?}");
        }
        let built_in = Types::built_in();
        assert_eq!(built_in.magics, types.magics);
        assert_eq!(built_in.patterns.len(), types.patterns.len());
    }
}
