//! libclamav as the judge of what a file says.

use std::fs;

use tempfile::TempDir;

use scanlib::{DatabaseOptions, Engine, EngineBuilder, Library, Payload, Request};

/// The files in a directory of their own.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// With these files and the shipped signature; `None` if libclamav refuses them or passes over all.
pub(crate) fn engine(files: &[(&str, &[u8])]) -> Option<Engine> {
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
pub(crate) fn found(engine: &Engine, message: &[u8]) -> Vec<String> {
    let scan = engine
        .scan(Payload::Bytes(message), &Request::new())
        .unwrap();
    scan.names.iter().map(|name| name.to_string()).collect()
}

/// Whether libclamav loads the files and then finds something in the message.
pub(crate) fn detects(files: &[(&str, &[u8])], message: &[u8]) -> bool {
    engine(files).is_some_and(|engine| !found(&engine, message).is_empty())
}
