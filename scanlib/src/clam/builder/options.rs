//! Which signatures of a database are loaded.

use clamav_sys as sys;

/// Which signatures of a database are used. The defaults are `clamscan`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// Signatures of possibly unwanted applications, names starting with `PUA.`; off by default.
    pub pua: bool,
    /// Bytecode that nobody signed; off by default. It is a program: run it only if you trust its author as you
    /// trust the one of this crate.
    pub bytecode_unsigned: bool,
    /// Only what carries the official signature; off by default.
    pub official_only: bool,
    /// Phishing signatures and the check of links in mail; on by default.
    pub phishing: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            pua: false,
            bytecode_unsigned: false,
            official_only: false,
            phishing: true,
        }
    }
}

impl DatabaseOptions {
    pub(super) fn to_c(self) -> u32 {
        let flag = |on: bool, bits: u32| if on { bits } else { 0 };
        sys::CL_DB_BYTECODE
            | flag(
                self.phishing,
                sys::CL_DB_PHISHING | sys::CL_DB_PHISHING_URLS,
            )
            | flag(self.pua, sys::CL_DB_PUA)
            | flag(self.bytecode_unsigned, sys::CL_DB_BYTECODE_UNSIGNED)
            | flag(self.official_only, sys::CL_DB_OFFICIAL_ONLY)
    }
}
