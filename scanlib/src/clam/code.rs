//! libclamav's return codes in words.

use std::ffi::CStr;

use clamav_sys as sys;

use crate::error::ClamCode;

impl ClamCode {
    /// Asks libclamav for its text.
    pub(crate) fn new(code: sys::cl_error_t) -> ClamCode {
        // SAFETY: any number is allowed; the answer is a string constant or NULL.
        let text = unsafe { sys::cl_strerror(code) };
        ClamCode {
            number: code as i32,
            text: string(text).unwrap_or_else(|| "unknown error".to_owned()),
        }
    }

    /// `Ok` for success.
    pub(super) fn check(code: sys::cl_error_t) -> Result<(), ClamCode> {
        if code == sys::CL_SUCCESS {
            Ok(())
        } else {
            Err(ClamCode::new(code))
        }
    }
}

/// Copies a string that C lends for the duration of the call; `None` for NULL. Bytes that are not
/// UTF-8 are replaced.
///
/// Callers pass a pointer just received from libclamav: NULL, or a string that ends in NUL and
/// lives at least until the next call into the library on this thread.
pub(super) fn string(text: *const std::ffi::c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and by this function's contract a living, terminated string.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}
