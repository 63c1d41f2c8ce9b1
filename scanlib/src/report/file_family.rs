//! Families of the file types that libclamav distinguishes.

/// Families of the file types that libclamav tells apart, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFamily {
    /// Archives, compressed files and installers.
    Archive,
    /// Disk images and file systems.
    Disk,
    /// Office documents, PDF, help files and the like.
    Document,
    /// Programs of any platform.
    Executable,
    /// HTML, scripts and style sheets.
    Html,
    /// Pictures, animations, sound.
    Media,
    /// Mail and its encodings.
    Mail,
    /// Plain text.
    Text,
    /// Everything else, and what libclamav did not type.
    Other,
}

impl FileFamily {
    /// Every family.
    pub const ALL: &'static [FileFamily] = &[
        FileFamily::Archive,
        FileFamily::Disk,
        FileFamily::Document,
        FileFamily::Executable,
        FileFamily::Html,
        FileFamily::Media,
        FileFamily::Mail,
        FileFamily::Text,
        FileFamily::Other,
    ];

    /// The lower-case word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FileFamily::Archive => "archive",
            FileFamily::Disk => "disk",
            FileFamily::Document => "document",
            FileFamily::Executable => "executable",
            FileFamily::Html => "html",
            FileFamily::Media => "media",
            FileFamily::Mail => "mail",
            FileFamily::Text => "text",
            FileFamily::Other => "other",
        }
    }

    /// The family of one of libclamav's types, for example `CL_TYPE_ZIP`.
    pub(crate) fn of(name: &str) -> FileFamily {
        let name = name.strip_prefix("CL_TYPE_").unwrap_or(name);
        match name {
            "7Z" | "7ZSFX" | "ALZ" | "ARJ" | "ARJSFX" | "AUTOIT" | "BZ" | "CABSFX" | "CPIO_CRC"
            | "CPIO_NEWC" | "CPIO_ODC" | "CPIO_OLD" | "EGG" | "EGGSFX" | "GZ" | "ISHIELD_MSI"
            | "LHA_LZH" | "MSCAB" | "MSSZDD" | "NULSFT" | "OLD_TAR" | "POSIX_TAR" | "RAR"
            | "RARSFX" | "SFX" | "SIS" | "XAR" | "XZ" | "ZIP" | "ZIPSFX" | "ZSTD" => {
                FileFamily::Archive
            }
            "APM" | "DMG" | "GPT" | "ISO9660" | "MBR" | "PART_ANY" | "PART_HFSPLUS" | "UDF" => {
                FileFamily::Disk
            }
            "HWP3" | "HWPOLE2" | "MSCHM" | "MSOLE2" | "ONENOTE" | "OOXML_HWP" | "OOXML_PPT"
            | "OOXML_WORD" | "OOXML_XL" | "PDF" | "PS" | "RTF" | "XDP" | "XML_HWP" | "XML_WORD"
            | "XML_XL" => FileFamily::Document,
            "ELF" | "JAVA" | "LNK" | "MACHO" | "MACHO_UNIBIN" | "MSEXE" | "PYTHON_COMPILED" => {
                FileFamily::Executable
            }
            "HTML" | "HTML_UTF16" | "MHTML" | "SCRENC" | "SCRIPT" => FileFamily::Html,
            "GIF" | "GRAPHICS" | "JPEG" | "PNG" | "RIFF" | "SWF" | "TIFF" => FileFamily::Media,
            "BINHEX" | "MAIL" | "TNEF" | "UUENCODED" => FileFamily::Mail,
            "TEXT_ASCII" | "TEXT_UTF16BE" | "TEXT_UTF16LE" | "TEXT_UTF8" => FileFamily::Text,
            _ => FileFamily::Other,
        }
    }
}
