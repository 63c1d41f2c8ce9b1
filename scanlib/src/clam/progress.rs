//! Telling a caller how far loading and compiling have come.

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::ptr;

use clamav_sys as sys;

use super::handle::RawEngine;

/// How far one step of building an engine has come; see [`crate::EngineBuilder::progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'p> {
    /// What is being done.
    pub step: BuildStep<'p>,
    /// Items of this step that are done: signatures while loading, an estimate of libclamav's while compiling.
    pub done: u64,
    /// All items of this step; `done` ends there.
    pub total: u64,
}

/// A step of building an engine. Each source is loaded, one after the other, then all are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildStep<'p> {
    /// Signatures are read from this file or directory.
    Load(&'p Path),
    /// What was loaded is made ready for scans.
    Compile,
}

type Callback = dyn FnMut(Progress<'_>) + Send;

/// Who is told, if somebody wants to know.
#[derive(Default)]
pub(super) struct Listener(Option<Box<Callback>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

impl Listener {
    pub(super) fn new(callback: impl FnMut(Progress<'_>) + Send + 'static) -> Listener {
        Listener(Some(Box::new(callback)))
    }

    /// Passes on what another process reports.
    pub(super) fn report(&mut self, step: BuildStep<'_>, done: u64, total: u64) {
        if let Some(callback) = &mut self.0 {
            callback(Progress { step, done, total });
        }
    }

    /// Runs `work`, which loads or compiles, and listens meanwhile. A panic of the callback goes on after C returned.
    pub(super) fn during<T>(
        &mut self,
        step: BuildStep<'_>,
        engine: &mut RawEngine,
        work: impl FnOnce(&mut RawEngine) -> T,
    ) -> T {
        let Some(callback) = &mut self.0 else {
            return work(engine);
        };
        let mut call = Call {
            step,
            callback: &mut **callback,
            panic: None,
        };
        let user: *mut c_void = ptr::from_mut(&mut call).cast();
        engine.listen(Some(on_progress), user);
        let result = work(engine);
        // From here on C has no way to `call`.
        engine.listen(None, ptr::null_mut());
        match call.panic {
            Some(panic) => panic::resume_unwind(panic),
            None => result,
        }
    }
}

struct Call<'c> {
    step: BuildStep<'c>,
    callback: &'c mut Callback,
    /// A panic on its way around C.
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn on_progress(total: usize, done: usize, user: *mut c_void) -> sys::cl_error_t {
    // SAFETY: libclamav hands back what `Listener::during` gave it, on the thread that is in there; nobody else uses
    // it until libclamav has returned.
    let call = unsafe { &mut *user.cast::<Call<'_>>() };
    if call.panic.is_none() {
        let progress = Progress {
            step: call.step,
            done: done as u64,
            total: total as u64,
        };
        let callback = &mut call.callback;
        call.panic = panic::catch_unwind(AssertUnwindSafe(|| callback(progress))).err();
    }
    // Anything else is reserved, so that a panic cannot end the load early.
    sys::CL_SUCCESS
}
