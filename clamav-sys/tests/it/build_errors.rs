//! A missing or wrong library gives one error that says what was tried and what to install. These tests run
//! the very build script that built this crate, in broken surroundings.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const SCRIPT: &str = env!("CLAMAV_SYS_BUILD_SCRIPT");

/// Runs the build script as cargo would and returns the one error it reports.
fn error_of(variables: &[(&str, &Path)]) -> String {
    let out = TempDir::new().unwrap();
    let mut command = Command::new(SCRIPT);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .env("OUT_DIR", out.path())
        .env("OPT_LEVEL", "0")
        .env("HOST", env!("CLAMAV_SYS_TARGET"))
        .env("TARGET", env!("CLAMAV_SYS_TARGET"))
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let errors: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("cargo::error="))
        .collect();
    assert!(
        output.status.success(),
        "cargo would print everything: {stdout}"
    );
    assert_eq!(errors.len(), 1, "exactly one error, in {stdout}");
    assert!(
        !out.path().join("bindings.rs").exists(),
        "nothing half-made is left"
    );
    errors[0].to_owned()
}

fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
}

#[test]
fn nothing_found_names_both_ways_and_the_package() {
    let empty = TempDir::new().unwrap();
    let error = error_of(&[
        ("PKG_CONFIG_PATH", empty.path()),
        ("PKG_CONFIG_LIBDIR", empty.path()),
    ]);
    assert_names(
        &error,
        &[
            "CLAMAV_LIB_DIR",
            "CLAMAV_INCLUDE_DIR",
            "pkg-config",
            "apt-get install libclamav-dev",
        ],
    );
}

#[test]
fn a_missing_pkg_config_is_named() {
    let error = error_of(&[("PKG_CONFIG", Path::new("/nonexistent/pkg-config"))]);
    assert_names(
        &error,
        &["/nonexistent/pkg-config", "could not run", "libclamav-dev"],
    );
}

#[test]
fn half_a_pair_of_variables_is_an_error() {
    let empty = TempDir::new().unwrap();
    let error = error_of(&[("CLAMAV_LIB_DIR", empty.path())]);
    assert_names(
        &error,
        &["CLAMAV_LIB_DIR is set", "CLAMAV_INCLUDE_DIR is not"],
    );
    let error = error_of(&[("CLAMAV_INCLUDE_DIR", empty.path())]);
    assert_names(
        &error,
        &["CLAMAV_INCLUDE_DIR is set", "CLAMAV_LIB_DIR is not"],
    );
}

#[test]
fn directories_that_hold_nothing_are_named() {
    let (lib, include) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let error = error_of(&[
        ("CLAMAV_LIB_DIR", lib.path()),
        ("CLAMAV_INCLUDE_DIR", include.path()),
    ]);
    assert_names(
        &error,
        &[
            lib.path().to_str().unwrap(),
            "libclamav.so",
            include.path().to_str().unwrap(),
            "clamav.h",
            "libclamav-dev",
        ],
    );
}

#[test]
fn a_version_nobody_checked_is_refused_by_its_number() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("libclamav.so"), "").unwrap();
    fs::write(dir.path().join("clamav.h"), "").unwrap();
    for (number, text) in [
        ("0x010600", "1.6.0"),
        ("0x000067", "0.0.103"),
        ("0x010300", "1.3.0"),
    ] {
        let header = format!("#define CLAMAV_VERSION_NUM {number}\n");
        fs::write(dir.path().join("clamav-version.h"), header).unwrap();
        let error = error_of(&[
            ("CLAMAV_LIB_DIR", dir.path()),
            ("CLAMAV_INCLUDE_DIR", dir.path()),
        ]);
        assert_names(
            &error,
            &[text, "written for 1.0, 1.4, 1.5", "CLAMAV_INCLUDE_DIR"],
        );
    }
}

#[test]
fn a_header_without_a_version_is_refused() {
    let dir = TempDir::new().unwrap();
    for name in ["libclamav.so", "clamav.h", "clamav-version.h"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let error = error_of(&[
        ("CLAMAV_LIB_DIR", dir.path()),
        ("CLAMAV_INCLUDE_DIR", dir.path()),
    ]);
    assert_names(&error, &["CLAMAV_VERSION_NUM"]);
}

#[test]
fn a_missing_libclang_names_its_package() {
    let empty = TempDir::new().unwrap();
    let error = error_of(&[
        ("LIBCLANG_PATH", empty.path()),
        ("LLVM_CONFIG_PATH", Path::new("/nonexistent")),
    ]);
    assert_names(
        &error,
        &["bindgen", "apt-get install libclang-dev", "LIBCLANG_PATH"],
    );
}
