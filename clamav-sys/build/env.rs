//! Reading a variable and telling cargo about it are one act, so neither can be forgotten.

use std::ffi::OsString;

/// The value of `name`, where the variant for the target (`x86_64_unknown_linux_gnu_NAME`) goes
/// first. An empty value counts as not set.
pub(crate) fn var(name: &str) -> Option<OsString> {
    let target = std::env::var("TARGET")
        .unwrap_or_default()
        .replace('-', "_");
    read(&format!("{target}_{name}")).or_else(|| read(name))
}

fn read(name: &str) -> Option<OsString> {
    println!("cargo::rerun-if-env-changed={name}");
    std::env::var_os(name).filter(|value| !value.is_empty())
}
