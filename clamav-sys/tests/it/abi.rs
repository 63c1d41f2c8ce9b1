//! Rust's view of the header, the C compiler's view, and the library that is loaded: one and the same.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::ffi::CStr;
use std::mem::size_of;

use clamav_sys as sys;

fn c_view() -> sys::clamshim_abi {
    let mut abi = sys::clamshim_abi::default();
    // SAFETY: room for the answer.
    unsafe { sys::clamshim_describe(&mut abi) };
    abi
}

#[test]
fn rust_and_c_agree_on_sizes() {
    let c = c_view();
    assert_eq!(c.sizeof_scan_options, size_of::<sys::cl_scan_options>());
    assert_eq!(c.sizeof_error, size_of::<sys::cl_error_t>());
    assert_eq!(c.sizeof_engine_field, size_of::<sys::cl_engine_field>());
    assert_eq!(c.sizeof_observer, size_of::<sys::clamshim_observer>());
    assert_eq!(c.sizeof_input, size_of::<sys::clamshim_input>());
}

#[test]
fn rust_and_c_agree_on_numbers_that_moved_between_versions() {
    let c = c_view();
    let pairs = [
        (c.engine_max_scansize, sys::CL_ENGINE_MAX_SCANSIZE),
        (c.engine_max_filesize, sys::CL_ENGINE_MAX_FILESIZE),
        (c.engine_tmpdir, sys::CL_ENGINE_TMPDIR),
        (c.engine_disable_cache, sys::CL_ENGINE_DISABLE_CACHE),
        (c.engine_max_scantime, sys::CL_ENGINE_MAX_SCANTIME),
        (c.virus, sys::CL_VIRUS),
        (c.last_error, sys::CL_ELAST_ERROR),
    ];
    for (c, rust) in pairs {
        assert_eq!(u32::try_from(c), Ok(rust));
    }
}

#[test]
fn the_header_is_of_the_family_that_was_detected() {
    let (major, minor) = sys::FAMILY;
    assert_eq!(sys::CLAMAV_VERSION_NUM >> 8, major << 8 | minor);
    assert_eq!(c_view().version_num, sys::CLAMAV_VERSION_NUM);
}

#[test]
fn the_loaded_library_is_of_the_same_family() {
    // SAFETY: asks for nothing but a string constant.
    let text = unsafe { sys::cl_retver() };
    // SAFETY: a string constant.
    let text = unsafe { CStr::from_ptr(text) };
    let (major, minor) = sys::FAMILY;
    let family = format!("{major}.{minor}.");
    assert!(
        text.to_str().unwrap().starts_with(&family),
        "{text:?} is not {family}x"
    );
}

/// A number that moved is not only equal in both languages: the library acts on it.
#[test]
fn a_setting_arrives_where_it_was_meant_to() {
    // SAFETY: the library is initialised before the engine is made; the engine is used on this thread only.
    unsafe { assert_eq!(sys::cl_init(sys::CL_INIT_DEFAULT), sys::CL_SUCCESS) };
    // SAFETY: initialised.
    let engine = unsafe { sys::cl_engine_new() };
    assert!(!engine.is_null());
    // Each has another type or range in C, so a shifted number would not come back.
    for (field, value) in [
        (sys::CL_ENGINE_MAX_SCANTIME, 12_345),
        (sys::CL_ENGINE_MAX_FILESIZE, 77 << 20),
        (sys::CL_ENGINE_DISABLE_CACHE, 1),
        (sys::CL_ENGINE_MAX_RECURSION, 7),
    ] {
        // SAFETY: a living engine.
        let code = unsafe { sys::cl_engine_set_num(engine, field, value) };
        let mut error = 0;
        // SAFETY: as above, with room for the error.
        let back = unsafe { sys::cl_engine_get_num(engine, field, &mut error) };
        assert_eq!((code, back), (sys::CL_SUCCESS, value));
        assert_eq!(error, 0);
    }
    // SAFETY: the only handle, freed once.
    assert_eq!(unsafe { sys::cl_engine_free(engine) }, sys::CL_SUCCESS);
}
