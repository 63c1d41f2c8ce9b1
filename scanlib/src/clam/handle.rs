//! The C engine itself: one owner, freed once.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::NonNull;

use clamav_sys as sys;

use crate::error::ClamCode;

/// An engine of libclamav and the only handle to it.
#[derive(Debug)]
pub(super) struct RawEngine(NonNull<sys::cl_engine>);

// SAFETY: libclamav keeps no thread-local state for an engine; clamd, too, loads on one thread,
// scans on others and frees on yet another. A handle is not Sync: its setters must not race.
unsafe impl Send for RawEngine {}

impl RawEngine {
    /// `None` if memory is short. The library must be initialised, which the caller shows by
    /// holding a [`super::Library`].
    pub(super) fn new(_initialised: super::Library) -> Option<RawEngine> {
        // SAFETY: the library is initialised.
        NonNull::new(unsafe { sys::cl_engine_new() }).map(RawEngine)
    }

    pub(super) fn set_number(
        &mut self,
        field: sys::cl_engine_field,
        value: i64,
    ) -> Result<(), ClamCode> {
        // SAFETY: a living engine that, by `&mut`, nobody else uses; `field` is one of the header's.
        ClamCode::check(unsafe { sys::cl_engine_set_num(self.0.as_ptr(), field, value) })
    }

    pub(super) fn set_text(
        &mut self,
        field: sys::cl_engine_field,
        value: &CStr,
    ) -> Result<(), ClamCode> {
        // SAFETY: as above; libclamav copies the string.
        ClamCode::check(unsafe { sys::cl_engine_set_str(self.0.as_ptr(), field, value.as_ptr()) })
    }

    pub(super) fn set_cache_entries(&mut self, entries: u32) -> Result<(), ClamCode> {
        // SAFETY: as above.
        ClamCode::check(unsafe { sys::clamshim_set_cache_size(self.0.as_ptr(), entries) })
    }

    /// Has libclamav call back while it loads and compiles; `None` ends that. `context` must live until then.
    pub(super) fn listen(&mut self, callback: sys::clcb_progress, context: *mut c_void) {
        // SAFETY: a living engine that, by `&mut`, nobody else uses; libclamav only stores the two.
        unsafe { sys::cl_engine_set_clcb_sigload_progress(self.0.as_ptr(), callback, context) };
        // SAFETY: as above.
        unsafe {
            sys::cl_engine_set_clcb_engine_compile_progress(self.0.as_ptr(), callback, context)
        };
    }

    /// Has libclamav name every signature before it loads it; `None` ends that. `context` must live until then.
    pub(super) fn watch(&mut self, callback: sys::clcb_sigload, context: *mut c_void) {
        // SAFETY: a living engine that, by `&mut`, nobody else uses; libclamav only stores the two.
        unsafe { sys::cl_engine_set_clcb_sigload(self.0.as_ptr(), callback, context) };
    }

    /// Loads a file or a directory and returns the number of signatures.
    pub(super) fn load(&mut self, path: &CStr, options: u32) -> Result<u64, ClamCode> {
        let mut signatures = 0;
        // SAFETY: as above; `path` and `signatures` outlive the call.
        let code =
            unsafe { sys::cl_load(path.as_ptr(), self.0.as_ptr(), &mut signatures, options) };
        ClamCode::check(code).map(|()| signatures.into())
    }

    /// Has libclamav read a container from its beginning to its end and check it, and pass over every signature.
    pub(super) fn load_nothing(&mut self, path: &CStr, options: u32) -> Result<(), ClamCode> {
        self.watch(Some(pass_over), std::ptr::null_mut());
        let loaded = self.load(path, options);
        self.watch(None, std::ptr::null_mut());
        loaded.map(drop)
    }

    /// Installs the callbacks and compiles. After this the engine is to be [`RawEngine::compiled`].
    pub(super) fn compile(&mut self) -> Result<(), ClamCode> {
        // SAFETY: a living engine that nobody else uses; the callbacks are functions of the shim.
        unsafe { sys::clamshim_install(self.0.as_ptr()) };
        // SAFETY: as above.
        ClamCode::check(unsafe { sys::cl_engine_compile(self.0.as_ptr()) })
    }

    /// For scans, from now on; it is compiled.
    pub(super) fn compiled(self) -> CompiledEngine {
        CompiledEngine(self)
    }
}

/// An engine whose settings do not change any more: only `clamshim_scan` sees it.
#[derive(Debug)]
pub(super) struct CompiledEngine(RawEngine);

// SAFETY: a compiled engine may be used for scans by many threads at once (clamd does so; the
// header forbids only to change settings meanwhile). Nothing behind `&CompiledEngine` changes a setting: the one setter wants `&mut`.
// The callbacks touch nothing but the context of their own scan.
unsafe impl Sync for CompiledEngine {}

impl CompiledEngine {
    /// Valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *const sys::cl_engine {
        self.0.0.as_ptr()
    }

    /// For a copy of the engine in another process, which has to put its temporary files elsewhere.
    pub(super) fn set_tmp_dir(&mut self, dir: &Path) -> Result<(), ClamCode> {
        let dir = c_path(dir).ok_or_else(|| ClamCode::new(sys::CL_EARG))?;
        self.0.set_text(sys::CL_ENGINE_TMPDIR, &dir)
    }
}

/// Wants no signature.
unsafe extern "C" fn pass_over(
    _kind: *const c_char,
    _name: *const c_char,
    _custom: c_uint,
    _user: *mut c_void,
) -> c_int {
    1
}

impl Drop for RawEngine {
    fn drop(&mut self) {
        // SAFETY: the only handle (no reference was added in C), so this frees the engine, once; no
        // scan is running, because it borrows the handle.
        let _code = unsafe { sys::cl_engine_free(self.0.as_ptr()) };
    }
}

/// A path as C wants it; `None` if it holds a NUL byte.
pub(super) fn c_path(path: &Path) -> Option<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).ok()
}
