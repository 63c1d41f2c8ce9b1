//! Taking YARA rules out of files.

use std::fs;
use std::io;
use std::path::Path;

/// Takes the rules of these names out of all `.yar` files of a directory; returns those that were there.
pub fn remove(dir: &Path, names: &[String]) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "yar") {
            let text = fs::read(&path)?;
            fs::write(&path, without(&text, names, &mut removed))?;
        }
    }
    Ok(removed)
}

/// A rule ends with a line of its own for its last brace, as everybody writes them.
fn without(text: &[u8], names: &[String], removed: &mut Vec<String>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut is_inside = false;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if let Some(name) = rule(line)
            && names.contains(&name)
        {
            removed.push(name);
            is_inside = true;
        }
        if !is_inside {
            kept.extend_from_slice(line);
        }
        is_inside &= line.trim_ascii_end() != b"}";
    }
    kept
}

/// The name of the rule that starts in this line.
fn rule(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let starts = words
        .by_ref()
        .find(|word| !matches!(*word, "private" | "global"))?;
    let name = words.next()?;
    (starts == "rule" && !name.is_empty()).then(|| name.to_owned())
}
