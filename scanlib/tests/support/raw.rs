//! libclamav without our layer, to show what it does by itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;

use clamav_sys as sys;
use scanlib::Library;
use tempfile::TempDir;

use super::{memory_dir, signatures};

/// What a callback answers for the n-th layer, counted from 1.
pub type Answer = fn(layer: u32) -> sys::cl_error_t;

/// Which callbacks an engine has; each answers by what the scan's [`Watch`] says.
#[derive(Clone, Copy, Default)]
pub struct Callbacks {
    pub virus_found: bool,
    pub pre_cache: bool,
    pub pre_scan: bool,
    pub file_inspection: bool,
}

/// What happens in the callbacks of one scan.
#[derive(Default)]
pub struct Watch {
    pub pre_cache: Option<Answer>,
    pub pre_scan: Option<Answer>,
    pub file_inspection: Option<Answer>,
    pub pre_cache_layers: u32,
    pub pre_scan_layers: u32,
    pub file_inspection_layers: u32,
    pub types: Vec<String>,
    pub names: Vec<String>,
}

/// What libclamav returned.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    pub code: sys::cl_error_t,
    /// `None` for NULL.
    pub name: Option<String>,
}

impl Answered {
    pub fn clean() -> Answered {
        Answered {
            code: sys::CL_CLEAN,
            name: None,
        }
    }

    pub fn virus(name: &str) -> Answered {
        Answered {
            code: sys::CL_VIRUS,
            name: Some(name.to_owned()),
        }
    }
}

pub struct RawEngine {
    engine: *mut sys::cl_engine,
    pub tmp: TempDir,
}

impl RawEngine {
    /// An engine with our two signatures, after `settings`.
    pub fn new(callbacks: Callbacks, settings: &[(sys::cl_engine_field, i64)]) -> RawEngine {
        RawEngine::with_tmp(callbacks, settings, memory_dir())
    }

    pub fn with_tmp(
        callbacks: Callbacks,
        settings: &[(sys::cl_engine_field, i64)],
        tmp: TempDir,
    ) -> RawEngine {
        Library::init().unwrap();
        // SAFETY: the library is initialised.
        let engine = unsafe { sys::cl_engine_new() };
        assert!(!engine.is_null());
        let mut raw = RawEngine { engine, tmp };
        for &(field, value) in settings {
            raw.set(field, value);
        }
        let path = CString::new(raw.tmp.path().to_str().unwrap()).unwrap();
        // SAFETY: a living engine, not yet shared; the string is copied.
        let code = unsafe { sys::cl_engine_set_str(engine, sys::CL_ENGINE_TMPDIR, path.as_ptr()) };
        assert_eq!(code, sys::CL_SUCCESS);
        let database = memory_dir();
        std::fs::write(database.path().join("test.ndb"), signatures()).unwrap();
        raw.load(database.path());
        raw.install(callbacks);
        // SAFETY: a living engine that nobody uses yet.
        assert_eq!(unsafe { sys::cl_engine_compile(engine) }, sys::CL_SUCCESS);
        raw
    }

    /// The callbacks live as long as the process, and nobody uses the engine yet.
    fn install(&mut self, callbacks: Callbacks) {
        if callbacks.virus_found {
            // SAFETY: see above.
            unsafe { sys::cl_engine_set_clcb_virus_found(self.engine, Some(virus_found)) };
        }
        if callbacks.pre_cache {
            // SAFETY: see above.
            unsafe { sys::cl_engine_set_clcb_pre_cache(self.engine, Some(pre_cache)) };
        }
        if callbacks.pre_scan {
            // SAFETY: see above.
            unsafe { sys::cl_engine_set_clcb_pre_scan(self.engine, Some(pre_scan)) };
        }
        if callbacks.file_inspection {
            // SAFETY: see above.
            unsafe { sys::cl_engine_set_clcb_file_inspection(self.engine, Some(file_inspection)) };
        }
    }

    fn load(&mut self, path: &Path) {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        let mut count = 0;
        // SAFETY: a living engine that nobody uses yet; path and count outlive the call.
        let code =
            unsafe { sys::cl_load(path.as_ptr(), self.engine, &mut count, sys::CL_DB_STDOPT) };
        assert_eq!(code, sys::CL_SUCCESS);
    }

    /// False if libclamav sees no signature file in a directory; whether it can load one is another question.
    pub fn finds_a_database(directory: &Path) -> bool {
        Library::init().unwrap();
        let path = CString::new(directory.to_str().unwrap()).unwrap();
        let mut count = 0;
        // SAFETY: the library is initialised.
        let engine = unsafe { sys::cl_engine_new() };
        assert!(!engine.is_null());
        // SAFETY: a new engine; path and count outlive the call.
        let code = unsafe { sys::cl_load(path.as_ptr(), engine, &mut count, sys::CL_DB_STDOPT) };
        // SAFETY: the only handle, freed once.
        unsafe { sys::cl_engine_free(engine) };
        code != sys::CL_EOPEN
    }

    /// Also after compiling, which our own layer does not allow.
    pub fn set(&mut self, field: sys::cl_engine_field, value: i64) {
        // SAFETY: a living engine and, by `&mut`, no scan is running.
        let code = unsafe { sys::cl_engine_set_num(self.engine, field, value) };
        assert_eq!(code, sys::CL_SUCCESS);
    }

    pub fn number(&self, field: sys::cl_engine_field) -> i64 {
        // SAFETY: a living engine; no error is asked for.
        unsafe { sys::cl_engine_get_num(self.engine, field, ptr::null_mut()) }
    }

    pub fn scan(&self, data: &[u8], options: sys::cl_scan_options, watch: &mut Watch) -> Answered {
        // SAFETY: the bytes outlive the map.
        let map = unsafe { sys::cl_fmap_open_memory(data.as_ptr().cast(), data.len()) };
        assert!(!map.is_null());
        let mut options = options;
        let mut name: *const c_char = ptr::null();
        let mut scanned = 0;
        // SAFETY: engine, map, options and context outlive the call; the callbacks use the context alone.
        let code = unsafe {
            sys::cl_scanmap_callback(
                map,
                ptr::null(),
                &mut name,
                &mut scanned,
                self.engine,
                &mut options,
                ptr::from_mut(watch).cast(),
            )
        };
        let answered = Answered {
            code,
            name: text(name),
        };
        // SAFETY: opened above, used no more.
        unsafe { sys::cl_fmap_close(map) };
        answered
    }

    pub fn scan_file(
        &self,
        file: &File,
        options: sys::cl_scan_options,
        watch: &mut Watch,
    ) -> Answered {
        let mut options = options;
        let mut name: *const c_char = ptr::null();
        let mut scanned = 0;
        // SAFETY: as in `scan`; the descriptor is open.
        let code = unsafe {
            sys::cl_scandesc_callback(
                file.as_raw_fd(),
                ptr::null(),
                &mut name,
                &mut scanned,
                self.engine,
                &mut options,
                ptr::from_mut(watch).cast(),
            )
        };
        Answered {
            code,
            name: text(name),
        }
    }
}

impl Drop for RawEngine {
    fn drop(&mut self) {
        // SAFETY: the only handle, freed once.
        unsafe { sys::cl_engine_free(self.engine) };
    }
}

/// `clamscan`'s defaults, which leave alerts about limits off.
pub fn options() -> sys::cl_scan_options {
    sys::cl_scan_options {
        general: sys::CL_SCAN_GENERAL_HEURISTICS,
        parse: !0,
        heuristic: 0,
        mail: 0,
        dev: 0,
    }
}

/// The same with alerts about limits.
pub fn options_with_limits() -> sys::cl_scan_options {
    sys::cl_scan_options {
        heuristic: sys::CL_SCAN_HEURISTIC_EXCEEDS_MAX,
        ..options()
    }
}

pub fn all_matches(options: sys::cl_scan_options) -> sys::cl_scan_options {
    sys::cl_scan_options {
        general: options.general | sys::CL_SCAN_GENERAL_ALLMATCHES,
        ..options
    }
}

fn text(name: *const c_char) -> Option<String> {
    // SAFETY: NULL or a string of libclamav that lives as long as the engine.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned())
}

fn watch<'w>(context: *mut c_void) -> &'w mut Watch {
    // SAFETY: the context of every scan above is a `Watch` that outlives it, and nothing else uses it meanwhile.
    unsafe { &mut *context.cast() }
}

unsafe extern "C" fn virus_found(_fd: c_int, name: *const c_char, context: *mut c_void) {
    watch(context).names.extend(text(name));
}

unsafe extern "C" fn pre_cache(
    _fd: c_int,
    kind: *const c_char,
    context: *mut c_void,
) -> sys::cl_error_t {
    let watch = watch(context);
    watch.pre_cache_layers += 1;
    watch.types.extend(text(kind));
    watch
        .pre_cache
        .map_or(sys::CL_CLEAN, |answer| answer(watch.pre_cache_layers))
}

unsafe extern "C" fn pre_scan(
    _fd: c_int,
    _kind: *const c_char,
    context: *mut c_void,
) -> sys::cl_error_t {
    let watch = watch(context);
    watch.pre_scan_layers += 1;
    watch
        .pre_scan
        .map_or(sys::CL_CLEAN, |answer| answer(watch.pre_scan_layers))
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn file_inspection(
    _fd: c_int,
    _kind: *const c_char,
    _ancestors: *mut *const c_char,
    _parent_size: usize,
    _name: *const c_char,
    _size: usize,
    _buffer: *const c_char,
    _level: u32,
    _attributes: u32,
    context: *mut c_void,
) -> sys::cl_error_t {
    let watch = watch(context);
    watch.file_inspection_layers += 1;
    watch
        .file_inspection
        .map_or(sys::CL_CLEAN, |answer| answer(watch.file_inspection_layers))
}
