//! libclamav's log, by thread. It names the file and line of a bad signature, and why a scan could
//! not look, in its log and nowhere else; and it writes on the thread that called it.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::panic;

use clamav_sys as sys;

use super::code::string;

/// A hostile object must not fill memory through the log.
const MAX_LINES: usize = 64;
const MAX_LINE_CHARS: usize = 1024;

/// What libclamav logged on this thread while something ran.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Warnings and errors, oldest first, each without its line end.
    pub(super) lines: Vec<String>,
    /// True if one of them was an error.
    pub(super) error: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Runs `f` and returns what libclamav logged meanwhile on this thread. What runs inside of another capture (a
/// callback that scans, for example) keeps its lines to itself.
pub(super) fn capture<T>(f: impl FnOnce() -> T) -> (T, Log) {
    let _outer = Outer(CURRENT.replace(Some(Log::default())));
    let result = f();
    (result, CURRENT.take().unwrap_or_default())
}

/// The capture around this one; goes on when this is dropped, after a panic too.
struct Outer(Option<Log>);

impl Drop for Outer {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// True if libclamav logged an error during the capture that is running on this thread.
pub(super) fn error_so_far() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|log| log.error))
}

/// Takes over libclamav's log for the whole process; outside of a capture its lines are dropped.
/// Called once, before `cl_init`.
pub(super) fn install() {
    // SAFETY: `receive` has the type the header asks for and lives as long as the process. The
    // pointer is a plain global of libclamav, written here before the library is initialised.
    unsafe { sys::cl_set_clcb_msg(Some(receive)) };
}

unsafe extern "C" fn receive(
    severity: sys::cl_msg,
    _with_prefix: *const c_char,
    message: *const c_char,
    _context: *mut c_void,
) {
    // A panic must not cross C. The only thing here that can panic is running out of memory.
    let caught = panic::catch_unwind(|| record(severity, string(message)));
    drop(caught);
}

fn record(severity: sys::cl_msg, message: Option<String>) {
    if severity < sys::CL_MSG_WARN {
        return;
    }
    // While a thread ends its locals are gone, and libclamav may still log.
    let _gone = CURRENT.try_with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else {
            return;
        };
        let Some(log) = current.as_mut() else { return };
        log.error |= severity >= sys::CL_MSG_ERROR;
        if log.lines.len() < MAX_LINES {
            let line: String = message
                .unwrap_or_default()
                .chars()
                .take(MAX_LINE_CHARS)
                .collect();
            log.lines.push(line.trim_end().to_owned());
        }
    });
}
