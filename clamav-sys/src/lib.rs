//! Raw declarations of libclamav, generated from the installed `clamav.h`, and of a small C shim
//! that gives every supported version the same face.
//!
//! Nothing here is safe or has an opinion; `scanlib::clam` is the safe layer. Written for
//! libclamav 1.0, 1.4 and 1.5; run with 1.4. Where the library is looked for, and what is
//! tried, is told by the build script's own errors: the variables `CLAMAV_LIB_DIR` and
//! `CLAMAV_INCLUDE_DIR` (both or neither), else pkg-config.
//!
//! With `DOCS_RS` in the environment the build needs neither libclamav nor libclang: the documentation is that of libclamav 1.4, and
//! nothing can be linked.
//!
//! A crate that depends on this one finds `DEP_CLAMAV_VERSION`, `DEP_CLAMAV_VERSION_NUM` and
//! `DEP_CLAMAV_INCLUDE` in the environment of its own build script.

// The names are libclamav's own, and its documentation is in clamav.h.
#[allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// Major and minor version of the headers this crate was built with.
pub const FAMILY: (u32, u32) = if cfg!(clamav_1_0) {
    (1, 0)
} else if cfg!(clamav_1_4) {
    (1, 4)
} else {
    (1, 5)
};
