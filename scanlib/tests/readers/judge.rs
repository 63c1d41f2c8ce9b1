//! libclamav, and the prefilter, on what a signature file finds.

use std::fs;

use scanlib::prefilter::{Gate, Prefilter, Scratch};

use scanlib::{DatabaseOptions, Engine, EngineBuilder, Library, Payload, Request};
use tempfile::TempDir;

/// The files in a directory of their own.
pub fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// With these files and the shipped signature; `None` if libclamav refuses them or passes over all.
pub fn engine(files: &[(&str, &[u8])]) -> Option<Engine> {
    let dir = directory(files);
    EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .builtin_signatures()
        .unwrap()
        .database_options(DatabaseOptions {
            pua: true,
            ..DatabaseOptions::default()
        })
        .database(dir.path())
        .ok()?
        .compile()
        .ok()
}

/// What an engine finds in a message, in libclamav's words.
pub fn found(engine: &Engine, message: &[u8]) -> Vec<String> {
    let scan = engine
        .scan(Payload::Bytes(message), &Request::new())
        .unwrap();
    scan.names.iter().map(|name| name.to_string()).collect()
}

/// Whether libclamav loads the files and then finds something in the message.
pub fn detects(files: &[(&str, &[u8])], message: &[u8]) -> bool {
    engine(files).is_some_and(|engine| !found(&engine, message).is_empty())
}

/// Whether the prefilter, built from this file alone, clears the message.
pub fn clears(name: &str, file: &[u8], message: &[u8]) -> bool {
    let prefilter = Prefilter::unproven(name, file);
    prefilter.check(message, &mut Scratch::default()) == Gate::Cleared
}

/// Whether libclamav finds something in the message. If it does, the prefilter must not clear it.
pub fn finds(name: &str, file: &[u8], message: &[u8]) -> bool {
    let found = detects(&[(name, file)], message);
    assert!(
        !(found && clears(name, file, message)),
        "cleared in spite of {name}: {}",
        file.escape_ascii()
    );
    found
}
