//! Generations of signatures: what a set of files holds, by content; whether it may take over; and the last two that did, kept in a
//! directory of this replica's own, so that it comes back on them whatever has become of the files since.
//!
//! ```text
//! STATE/
//!   lock                   held by the process that uses the directory
//!   current                → generations/ID: what is in use
//!   generations/ID/        a copy that is never changed: manifest.json, and 0/, 1/, … for each path of scan.database
//!   held.json              what is not tried again, and why
//!   attempt.json           what is being loaded at this moment
//!   wanted.json            what an operator asked for with `db activate` or `db rollback`
//!   history.jsonl          what happened
//! ```

pub mod canary;
pub mod held;
pub mod history;
pub mod manifest;
pub mod snapshot;
pub mod state;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a set of signature files is, by their names and contents: SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// Takes an identity back from where it was written; `None` if it is none.
    pub fn parse(text: &str) -> Option<Id> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Id(text.to_owned()))
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginning, which is enough for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}
