//! What the callbacks of one scan see, and when they stop it.

use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use clamav_sys as sys;

use super::{Surroundings, stop_reason};
use crate::clam::code::string;
use crate::clam::log;
use crate::clam::request::Request;
use crate::report::{FileFamily, Incomplete};

/// The type of objects that libclamav does not examine.
const IGNORED_TYPE: &CStr = c"CL_TYPE_IGNORED";

const CONTINUE: c_int = sys::CLAMSHIM_CONTINUE as c_int;
const STOP: c_int = sys::CLAMSHIM_STOP as c_int;

/// What the callbacks of one scan write to, and what they decide by.
pub(super) struct Observation<'s> {
    pub(super) with: Surroundings<'s>,
    pub(super) request: &'s Request<'s>,
    pub(super) started: Instant,
    /// What [`ScratchDir::troubles`] said at the start.
    pub(super) troubles: u64,
    /// libclamav came as far as to look at something.
    pub(super) looked: bool,
    /// The outermost object is of a type that is not examined.
    pub(super) type_ignored: bool,
    /// The family of the layer that was examined last, or at the first error.
    pub(super) family: FileFamily,
    /// Every name that was reported.
    pub(super) names: Vec<String>,
    /// Why we asked to stop.
    pub(super) stop: Option<Incomplete>,
    /// Why libclamav's answer cannot be relied on, as far as its log does not tell.
    pub(super) doubt: Option<String>,
    /// The doubt is that there was too little room for temporary files.
    pub(super) short_of_room: bool,
    /// We made libclamav call something infected, to stop it.
    pub(super) refused: bool,
    /// A panic on its way around C.
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

impl Observation<'_> {
    /// A layer of this type is about to be examined.
    fn layer(&mut self, layer_type: Option<&CStr>) -> c_int {
        if !self.looked {
            self.looked = true;
            self.type_ignored = layer_type == Some(IGNORED_TYPE);
        }
        if !log::error_so_far() {
            let name = layer_type.map(CStr::to_string_lossy).unwrap_or_default();
            self.family = FileFamily::of(&name);
        }
        if self.stop.is_none() {
            self.stop = stop_reason(self.request).or_else(|| self.time_limit());
        }
        // The temporary file that holds this layer still exists: if it lost its end, that shows now.
        self.check_room();
        self.answer(self.stop.is_some() || self.panic.is_some())
    }

    /// libclamav's own time limit ends the examination of each further layer, but some unpackers go on to unpack: a mail of
    /// 300,000 parts takes ten times the limit. Ours comes a little earlier, and ends everything at once.
    fn time_limit(&self) -> Option<Incomplete> {
        let is_over = self.started.elapsed() >= self.with.limits.max_scan_time;
        is_over.then_some(Incomplete::EngineTimeLimit)
    }

    /// A layer was examined; unless we refuse, it may now be remembered as clean.
    fn done(&mut self) -> c_int {
        if !self.with.caches {
            // Nothing is remembered, and a later layer may hold something.
            return CONTINUE;
        }
        self.check_room();
        self.answer(self.doubt.is_some() || log::error_so_far())
    }

    /// Looks whether temporary files may have been lost.
    pub(super) fn check_room(&mut self) {
        if self.doubt.is_none() {
            self.doubt = self.with.scratch.shortage();
            self.short_of_room = self.doubt.is_some();
        }
        if self.doubt.is_none() && self.with.scratch.troubles() != self.troubles {
            self.doubt = Some("another scan ran short of room for temporary files".to_owned());
        }
    }

    fn answer(&mut self, stop: bool) -> c_int {
        self.refused |= stop;
        if stop { STOP } else { CONTINUE }
    }
}

/// Runs a callback. A panic is kept for the caller of libclamav, because it must not cross C.
///
/// # Safety
///
/// `user` is the [`Observation`] of the running scan, and no other reference to it is in use.
unsafe fn guarded<T>(
    user: *mut c_void,
    after_panic: T,
    f: impl FnOnce(&mut Observation<'_>) -> T,
) -> T {
    // SAFETY: by this function's contract.
    let seen = unsafe { &mut *user.cast::<Observation<'_>>() };
    match panic::catch_unwind(AssertUnwindSafe(|| f(seen))) {
        Ok(answer) => answer,
        Err(panic) => {
            seen.refused = true;
            seen.panic.get_or_insert(panic);
            after_panic
        }
    }
}

pub(super) unsafe extern "C" fn on_layer(layer_type: *const c_char, user: *mut c_void) -> c_int {
    // SAFETY: NULL or a string constant of libclamav.
    let layer_type = (!layer_type.is_null()).then(|| unsafe { CStr::from_ptr(layer_type) });
    // SAFETY: libclamav hands back the context of this scan, which `call` made.
    unsafe { guarded(user, STOP, |seen| seen.layer(layer_type)) }
}

pub(super) unsafe extern "C" fn on_done(user: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { guarded(user, STOP, |seen| seen.done()) }
}

pub(super) unsafe extern "C" fn on_found(name: *const c_char, user: *mut c_void) {
    // SAFETY: as above.
    unsafe { guarded(user, (), |seen| seen.names.extend(string(name))) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::clam::call::conclusion::tests::observe;

    #[test]
    fn a_panic_is_carried_around_c_and_stops_the_scan() {
        observe(|mut seen| {
            let user: *mut c_void = ptr::from_mut(&mut seen).cast();
            // SAFETY: `seen` is alive and used by nobody else meanwhile.
            let answer = unsafe { guarded(user, STOP, |_| panic!("on purpose")) };
            assert_eq!(answer, STOP);
            // SAFETY: as above.
            let answer = unsafe { on_layer(c"CL_TYPE_TEXT_ASCII".as_ptr(), user) };
            assert_eq!(answer, STOP);
            let panic = seen.panic.take().unwrap();
            assert_eq!(
                panic.downcast_ref::<&str>(),
                Some(&"on purpose"),
                "the first one is kept"
            );
        });
    }

    #[test]
    fn a_callback_survives_null() {
        observe(|mut seen| {
            let user: *mut c_void = ptr::from_mut(&mut seen).cast();
            // SAFETY: `seen` is alive and used by nobody else meanwhile.
            unsafe { on_found(ptr::null(), user) };
            // SAFETY: as above.
            assert_eq!(unsafe { on_layer(ptr::null(), user) }, CONTINUE);
            assert!(seen.names.is_empty() && !seen.type_ignored);
        });
    }
}
