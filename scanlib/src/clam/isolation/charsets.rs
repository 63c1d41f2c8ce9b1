//! The C library converts encodings by modules, which it loads when they are first asked for. A confined process can load none, and
//! would then find less in a document that says it is of such an encoding: so they are loaded before, and every process inherits them.

use std::ffi::{CStr, CString};

/// What libclamav converts from: the code pages and encodings that it knows by name.
const FROM: &[&str] = &[
    "ASMO-708",
    "BIG5",
    "CP1025",
    "CP866",
    "CP875",
    "CP949",
    "EUC-CN",
    "EUC-JP",
    "EUC-KR",
    "GB18030",
    "GB2312",
    "IBM037",
    "IBM1026",
    "IBM1047",
    "IBM273",
    "IBM277",
    "IBM278",
    "IBM280",
    "IBM284",
    "IBM285",
    "IBM290",
    "IBM297",
    "IBM420",
    "IBM423",
    "IBM424",
    "IBM437",
    "IBM500",
    "IBM775",
    "IBM850",
    "IBM852",
    "IBM855",
    "IBM857",
    "IBM860",
    "IBM861",
    "IBM863",
    "IBM864",
    "IBM865",
    "IBM869",
    "IBM870",
    "IBM871",
    "IBM880",
    "IBM905",
    "ISO-10646",
    "ISO-2022-JP",
    "ISO-2022-JP-2",
    "ISO-2022-JP-3",
    "ISO-2022-KR",
    "ISO-8859-1",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-4",
    "ISO-8859-5",
    "ISO-8859-6",
    "ISO-8859-7",
    "ISO-8859-8",
    "ISO-8859-9",
    "ISO-8859-13",
    "ISO-8859-15",
    "JOHAB",
    "KOI8-R",
    "KOI8-U",
    "MACINTOSH",
    "SHIFT_JIS",
    "UCS-2",
    "UCS-4",
    "UCS-4BE",
    "UCS-4LE",
    "US-ASCII",
    "UTF-7",
    "UTF-16",
    "UTF-16BE",
    "UTF-16LE",
    "UTF-32",
    "UTF-32BE",
    "UTF-32LE",
    "WINDOWS-874",
    "WINDOWS-1250",
    "WINDOWS-1251",
    "WINDOWS-1252",
    "WINDOWS-1253",
    "WINDOWS-1254",
    "WINDOWS-1255",
    "WINDOWS-1256",
    "WINDOWS-1257",
    "WINDOWS-1258",
];
/// What it converts to.
const TO: [&CStr; 2] = [c"UTF-16BE", c"UTF-8"];
/// The C library's own form, through which it converts: from or to it, a conversion is one step and needs no buffer.
const OWN: &CStr = c"WCHAR_T";

/// Loads the modules of every encoding above that this system has, for good.
pub(super) fn load() {
    for from in FROM {
        if let Ok(from) = CString::new(*from) {
            keep_loaded(OWN, &from);
        }
    }
    for to in TO {
        keep_loaded(to, OWN);
    }
}

fn keep_loaded(to: &CStr, from: &CStr) {
    // SAFETY: two strings, which the call only reads. The conversion is never closed, which keeps its modules loaded. The call fails for
    // an encoding that the system does not have, in this process as in any other.
    let _kept = unsafe { libc::iconv_open(to.as_ptr(), from.as_ptr()) };
}
