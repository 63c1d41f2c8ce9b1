//! Finds libclamav, asks which version it is, generates the declarations, compiles the shim.
//! Every failure is one sentence that names what was tried and what to install.

#![forbid(unsafe_code)]

mod bind;
mod detect;
mod env;
mod locate;

use std::path::{Path, PathBuf};

use detect::Version;
use locate::Located;

fn main() {
    if let Err(problem) = build() {
        // One `cargo::error` and a normal exit: cargo then prints this and nothing else.
        println!("cargo::error={}", problem.replace(['\n', '\r'], " "));
    }
}

fn build() -> Result<(), String> {
    let root = directory("CARGO_MANIFEST_DIR")?;
    let out = directory("OUT_DIR")?;
    for input in ["build", "shim", "wrapper.h", DOCUMENTED] {
        println!("cargo::rerun-if-changed={input}");
    }
    if env::var("DOCS_RS").is_some() {
        return documentation_only(&root, &out);
    }

    let located = locate::locate(env::var, pkg_config)?;
    let version = detect::ask(&located.include_dirs, &out)?.supported(&located.found_by)?;
    declare(&located, version);
    bind::generate(&located.include_dirs, &root, &out.join("bindings.rs"))?;
    compile_shim(&located, &root)?;
    // After the shim, because a static linker resolves from left to right.
    if let Some(lib_dir) = &located.lib_dir {
        println!("cargo::rustc-link-search=native={}", lib_dir.display());
        println!("cargo::rustc-link-lib=clamav");
    }
    Ok(())
}

/// Declarations of libclamav 1.4 as bindgen made them; a test compares them with what it makes.
const DOCUMENTED: &str = "documented.rs";

/// Documentation is built where no libclamav is installed. Nothing built this way can be linked.
fn documentation_only(root: &Path, out: &Path) -> Result<(), String> {
    let (from, to) = (root.join(DOCUMENTED), out.join("bindings.rs"));
    std::fs::copy(&from, &to)
        .map_err(|error| format!("{} cannot be copied: {error}", from.display()))?;
    declare_families();
    println!("cargo::rustc-cfg=clamav_1_4");
    println!("cargo::metadata=version=1.4.0");
    println!("cargo::metadata=version_num={}", 0x01_04_00);
    Ok(())
}

fn declare_families() {
    for (major, minor) in detect::FAMILIES {
        println!("cargo::rustc-check-cfg=cfg(clamav_{major}_{minor})");
    }
}

/// The version as a cfg for this crate, and as metadata for whoever depends on it.
fn declare(located: &Located, version: Version) {
    declare_families();
    println!(
        "cargo::rustc-cfg=clamav_{}_{}",
        version.major, version.minor
    );
    println!("cargo::metadata=version={version}");
    println!("cargo::metadata=version_num={}", version.number());
    if let Some(include) = located.include_dirs.first() {
        println!("cargo::metadata=include={}", include.display());
    }
    // The tests run this very program against broken surroundings.
    if let (Ok(this), Ok(target)) = (std::env::current_exe(), std::env::var("TARGET")) {
        println!(
            "cargo::rustc-env=CLAMAV_SYS_BUILD_SCRIPT={}",
            this.display()
        );
        println!("cargo::rustc-env=CLAMAV_SYS_TARGET={target}");
    }
}

fn compile_shim(located: &Located, root: &Path) -> Result<(), String> {
    cc::Build::new()
        .file(root.join("shim/shim.c"))
        .include(root.join("shim"))
        .includes(&located.include_dirs)
        .std("c11")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .try_compile("clamshim")
        .map_err(|error| format!("the C shim does not compile against this libclamav: {error}"))
}

fn pkg_config() -> Result<Vec<PathBuf>, String> {
    let library = pkg_config::Config::new()
        .probe("libclamav")
        .map_err(|error| match error {
            pkg_config::Error::Command { command, cause } => {
                format!("`{command}` could not run: {cause}")
            }
            pkg_config::Error::ProbeFailure { command, .. } => {
                format!("`{command}` knows no package libclamav")
            }
            other => other.to_string(),
        })?;
    // Debian's headers lie where every compiler looks, and then pkg-config names no directory.
    if library.include_paths.is_empty() {
        let prefix = pkg_config::get_variable("libclamav", "includedir")
            .map_err(|error| error.to_string())?;
        return Ok(vec![prefix.into()]);
    }
    Ok(library.include_paths)
}

fn directory(variable: &str) -> Result<PathBuf, String> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set: this program is run by cargo"))
}
