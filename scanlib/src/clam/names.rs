//! The names of the signatures that libclamav loads, and the exclusions among them.
//!
//! Only those that look into a plain message are named: hashes are too many, and whoever reads a hash
//! file reads it line by line like libclamav. Signatures in `.sdb`, `.ftm` and `.ioc` are never named
//! by libclamav. Some are named that it then does not load, for another functionality level or target.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use super::exclusions::Exclusions;
use super::handle::RawEngine;
use clamav_prefilter::names::{LoadedNames, Named, NamedKind};

/// What libclamav names, and what is kept out meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) loaded: LoadedNames,
    /// What is kept out of the engine; none of it is among the signatures.
    pub(crate) exclusions: Exclusions,
}

impl Names {
    /// Runs `work`, which loads, and notes down what libclamav names meanwhile.
    pub(super) fn during<T>(
        &mut self,
        engine: &mut RawEngine,
        work: impl FnOnce(&mut RawEngine) -> T,
    ) -> T {
        engine.watch(Some(on_signature), ptr::from_mut(self).cast());
        let result = work(engine);
        // From here on C has no way to `self`.
        engine.watch(None, ptr::null_mut());
        result
    }

    /// Whether libclamav is to pass over the signature.
    fn note(&mut self, kind: &[u8], name: &[u8]) -> bool {
        let kind = NamedKind::of(kind);
        if self.exclusions.excludes(kind, name, 1) {
            return true;
        }
        if let Some(kind) = kind.filter(|kind| *kind != NamedKind::Hash) {
            self.loaded.signatures.push(Named {
                kind,
                name: name.into(),
            });
        }
        false
    }
}

unsafe extern "C" fn on_signature(
    kind: *const c_char,
    name: *const c_char,
    _custom: c_uint,
    user: *mut c_void,
) -> c_int {
    // SAFETY: libclamav hands back what `Names::during` gave it, on the thread that is in there; nobody else uses it
    // until libclamav has returned.
    let names = unsafe { &mut *user.cast::<Names>() };
    if kind.is_null() || name.is_null() {
        names.loaded.incomplete = true;
        return 0;
    }
    // SAFETY: not NULL, and libclamav hands a terminated string that lives until this returns.
    let kind = unsafe { CStr::from_ptr(kind) }.to_bytes();
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // A panic must not cross C.
    match panic::catch_unwind(AssertUnwindSafe(|| names.note(kind, name))) {
        Ok(is_excluded) => c_int::from(is_excluded),
        Err(_) => {
            names.loaded.incomplete = true;
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{DatabaseOptions, EngineBuilder, Library};

    const MD5: &str = "44d88612fea8a8f36de82e1278abb02f";

    /// What libclamav names of these files.
    fn named(files: &[(&str, &str)]) -> Names {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let mut names = Some(Names::default());
        let engine = EngineBuilder::new(Library::init().unwrap())
            .unwrap()
            .builtin_signatures()
            .unwrap()
            .database_options(DatabaseOptions {
                pua: true,
                bytecode_unsigned: true,
                ..DatabaseOptions::default()
            })
            .database(dir.path())
            .unwrap()
            .compile_and_name(&mut names);
        assert!(engine.is_ok(), "{files:?}: {engine:?}");
        let mut names = names.unwrap();
        assert!(!names.loaded.incomplete);
        // The shipped one.
        assert_eq!(names.loaded.signatures.remove(0).kind, NamedKind::Body);
        names
    }

    #[test]
    fn every_kind_that_looks_into_messages_is_named() {
        for (file, content, kind, name) in [
            ("a.ndb", "N:0:*:616263646566\n", NamedKind::Body, "N"),
            ("a.ndu", "N:0:*:616263646566\n", NamedKind::Body, "N"),
            ("a.db", "N=616263646566\n", NamedKind::Plain, "N"),
            (
                "a.LDB",
                "N;Target:0;0;616263646566\n",
                NamedKind::Logical,
                "N",
            ),
            (
                "a.yar",
                "rule N { strings: $a = \"abcdef\" condition: $a }\n",
                NamedKind::Yara,
                "YARA.N",
            ),
        ] {
            let expected = Named {
                kind,
                name: name.as_bytes().into(),
            };
            assert_eq!(
                named(&[(file, content)]).loaded.signatures,
                [expected],
                "{file}"
            );
        }
    }

    #[test]
    fn what_never_looks_into_messages_is_not() {
        let hash = format!("{MD5}:68:N\n");
        let section = format!("68:{MD5}:N\n");
        for ending in [
            "hdb", "hsb", "hdu", "hsu", "fp", "sfp", "HDB", "x.y.Hsb", "ndb.hdb",
        ] {
            let name = format!("a.{ending}");
            assert_eq!(named(&[(&name, &hash)]).loaded.signatures, [], "{name}");
        }
        for ending in ["mdb", "msb", "mdu", "msu", "MDB"] {
            let name = format!("a.{ending}");
            assert_eq!(named(&[(&name, &section)]).loaded.signatures, [], "{name}");
        }
        for (name, content) in [
            ("a.imp", format!("{MD5}:*:N:90\n")),
            ("a.cdb", "N:CL_TYPE_ZIP:*:evil:*:*:*:1:*:*\n".to_owned()),
            ("a.zmd", "N:0:evil:1:1:*:*:1:*\n".to_owned()),
            ("a.rmd", "N:0:evil:1:1:*:*:1:*\n".to_owned()),
            ("a.pdb", "H:example.com\n".to_owned()),
            ("a.wdb", "M:one.example:two.example\n".to_owned()),
        ] {
            assert_eq!(named(&[(name, &content)]).loaded.signatures, [], "{name}");
        }
    }

    #[test]
    fn a_load_without_names_goes_on_as_before() {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let engine = builder.builtin_signatures().unwrap().compile().unwrap();
        assert_eq!(engine.info().signatures, 1);
    }
}
