//! Which names of files are asked for and written.

use std::path::Path;

use scanlib::database;

/// Longest name.
const LONGEST: usize = 100;

/// What a mirror of ClamAV's own signatures has.
pub const USUAL: [&str; 3] = ["main.cvd", "daily.cvd", "bytecode.cvd"];

/// Whether a file of this name is signatures, and lies where it seems to.
///
/// # Errors
/// Why it is not, for people.
pub fn check(name: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("--file {name:?}: {why}"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_plain) {
        return wrong(
            "a file's name is wanted, without a directory: up to 100 letters, digits, dots, - and _",
        );
    }
    if name.starts_with(['.', '-']) {
        return wrong("a name that begins with a dot or a dash is not taken");
    }
    if !database::is_signature_file(name) || Path::new(name).extension().is_none() {
        return wrong(
            "libclamav loads no file of this kind: it ends in .cvd, .ndb, .ldb, .hdb, .yar or the like",
        );
    }
    Ok(())
}

/// What a container's detached signature is called, for libclamav 1.5.
pub fn sign(container: &str, version: u32) -> String {
    let (stem, ending) = container.rsplit_once('.').unwrap_or((container, ""));
    format!("{stem}-{version}.{ending}.sign")
}

/// Whether `name` is a detached signature of some version of the container.
pub fn is_sign_of(name: &str, container: &str) -> bool {
    let (stem, ending) = container.rsplit_once('.').unwrap_or((container, ""));
    let version = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".sign"))
        .and_then(|rest| rest.strip_suffix(ending))
        .and_then(|rest| rest.strip_suffix('.'));
    version.is_some_and(|version| version.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signature_files_are_taken_and_no_others() {
        for name in USUAL
            .iter()
            .chain(&["a.ndb", "x_1-2.YAR", "urlhaus.ndb", "own.ign2"])
        {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "../main.cvd",
            "a/b.ndb",
            ".hidden.ndb",
            "-x.ndb",
            "a b.ndb",
            "a%2fb.ndb",
            "main.cvd.sign",
            "main",
            "cvd",
            ".cvd",
            "x.txt",
            "a\n.ndb",
            &format!("{}.ndb", "a".repeat(97)),
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_detached_signature_belongs_to_a_version_of_a_container() {
        assert_eq!(sign("main.cvd", 62), "main-62.cvd.sign");
        assert!(is_sign_of("main-62.cvd.sign", "main.cvd"));
        for other in [
            "main-x.cvd.sign",
            "main-62.cld.sign",
            "daily-62.cvd.sign",
            "main.cvd",
        ] {
            assert!(!is_sign_of(other, "main.cvd"), "{other}");
        }
    }
}
