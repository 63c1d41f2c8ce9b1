//! What libclamav says of a message, what the prefilter says, and how they go together.

use std::fs;
use std::path::Path;

use scanlib::prefilter::{Cause, Gate, Prefilter, Scratch};
use scanlib::{DatabaseOptions, Engine, EngineBuilder, Library, LoadError, Payload, Request};

/// Messages of this length or less are clean to libclamav.
pub(crate) const NOT_LOOKED_AT: usize = 5;

/// With these files, by name.
///
/// # Errors
/// Why libclamav refuses them.
pub(crate) fn engine(files: &[(String, &[u8])]) -> Result<Engine, LoadError> {
    // Memory if there is any: files are written for each input.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => panic!("no temporary directory: {error}"),
    };
    for (name, content) in files {
        if let Err(error) = fs::write(directory.path().join(name), content) {
            panic!("{name}: {error}");
        }
    }
    load(directory.path())
}

fn load(database: &Path) -> Result<Engine, LoadError> {
    let Ok(library) = Library::init() else {
        panic!("no libclamav");
    };
    let options = DatabaseOptions {
        pua: true,
        ..DatabaseOptions::default()
    };
    EngineBuilder::new(library)?
        .database_options(options)
        .clean_cache(None)
        .database(database)?
        .compile()
}

/// Panics if the engine finds something in a message that its prefilter clears, or if it steps of the decision contradict it.
pub(crate) fn is_sound(engine: &Engine, message: &[u8], scratch: &mut Scratch) {
    let gate = engine.prefilter().check(message, scratch);
    is_explained(engine.prefilter(), message, gate);
    if gate != Gate::Cleared {
        return;
    }
    match engine.scan(Payload::Bytes(message), &Request::new()) {
        Ok(scan) => assert!(
            scan.names.is_empty(),
            "cleared, and yet libclamav finds {:?} in {}",
            scan.names,
            message.escape_ascii()
        ),
        Err(error) => panic!("{error}"),
    }
}

/// The decision is what its steps say, each of which is taken on its own; and the normalised text is as it should be.
pub(crate) fn is_explained(prefilter: &Prefilter, message: &[u8], gate: Gate) {
    let explained = prefilter.explain(message);
    assert_eq!(explained.gate, gate, "a used buffer changes the decision");
    let has_reason = explained.not_plain.is_some()
        || !explained.unprovable.is_empty()
        || explained.candidates.iter().any(|one| one.is_possible)
        || explained.utf16
        || explained.digest;
    let is_off = explained.not_plain == Some(Cause::Off);
    let is_short = message.len() <= NOT_LOOKED_AT && !is_off;
    assert_eq!(
        gate == Gate::Cleared,
        is_short || !has_reason,
        "{explained:?}"
    );
    if explained.not_plain.is_none() {
        let normal = normalised(message);
        assert_eq!(explained.normalised, normal, "{}", message.escape_ascii());
    }
}

/// As libclamav normalises text: lower case, one space for white space, nothing for other bytes.
fn normalised(message: &[u8]) -> Vec<u8> {
    let kept = message
        .iter()
        .filter(|byte| matches!(byte, 9..=13 | 32..=127));
    let mut text: Vec<u8> = Vec::new();
    for byte in kept {
        match byte {
            9..=13 | 32 if text.last() == Some(&b' ') => {}
            9..=13 | 32 => text.push(b' '),
            byte => text.push(byte.to_ascii_lowercase()),
        }
    }
    text
}
