//! bindgen over `wrapper.h`, with an allow-list: what is not named here does not exist in Rust.
//! Nothing on the list mentions an OpenSSL type.

use std::panic;
use std::path::{Path, PathBuf};

const FUNCTIONS: [&str; 10] = [
    // The library itself.
    "cl_(init|retver|retflevel|strerror|set_clcb_msg)",
    // An engine and its settings.
    "cl_engine_(new|compile|free|addref|set_num|get_num|set_str|get_str)",
    "cl_engine_set_clcb_(pre_cache|pre_scan|post_scan|file_inspection|virus_found)",
    "cl_engine_set_clcb_(sigload|sigload_progress|engine_compile_progress)",
    // Signature databases.
    "cl_(load|countsigs)",
    "cl_cvd(head|parse|verify|free)",
    // What is scanned, and the scan.
    "cl_fmap_(open_memory|open_handle|close)",
    "cl_scan(map|desc)_callback",
    "clamshim_.*",
    "cl_retdbdir",
];

const TYPES: [&str; 5] = [
    "cl_error_t",
    "cl_engine_field",
    "cl_scan_options",
    "cl_msg",
    "clamshim_.*",
];

const CONSTANTS: [&str; 4] = [
    "CL_(DB|SCAN|COUNTSIGS|INIT)_.*",
    "CLAMAV_VERSION.*",
    "CL_COUNT_PRECISION",
    "CLAMSHIM_.*",
];

pub(crate) fn generate(include_dirs: &[PathBuf], root: &Path, output: &Path) -> Result<(), String> {
    let mut builder = bindgen::Builder::default()
        .header(root.join("wrapper.h").display().to_string())
        .clang_arg(format!("-I{}", root.join("shim").display()))
        .clang_args(
            include_dirs
                .iter()
                .map(|dir| format!("-I{}", dir.display())),
        )
        // An enum of C can hold any number, so a Rust enum would be undefined behaviour.
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        // The header's comments are not rustdoc.
        .generate_comments(false)
        .derive_default(true)
        .merge_extern_blocks(true);
    for item in FUNCTIONS {
        builder = builder.allowlist_function(item);
    }
    for item in TYPES {
        builder = builder.allowlist_type(item);
    }
    for item in CONSTANTS {
        builder = builder.allowlist_var(item);
    }

    // Without libclang bindgen panics; that panic is turned into a sentence.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let generated = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    panic::set_hook(hook);

    let bindings = match generated {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => {
            return Err(format!(
                "bindgen could not read clamav.h: {error} (it includes OpenSSL's headers; \
                 Debian: apt-get install libclamav-dev libssl-dev)"
            ));
        }
        Err(payload) => {
            let reason = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked");
            return Err(format!(
                "bindgen failed: {reason}. It needs libclang: apt-get install libclang-dev, or set \
                 LIBCLANG_PATH to the directory that holds libclang.so"
            ));
        }
    };
    bindings
        .write_to_file(output)
        .map_err(|error| format!("{} cannot be written: {error}", output.display()))
}
