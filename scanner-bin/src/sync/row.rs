//! What became of each file, for whoever started the sync.

use scanlib::database::Container;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The mirror had a newer one, which is there now.
    Updated,
    /// What is there is what the mirror has.
    Current,
    /// What the mirror has is no good. What was there is there.
    Refused,
    /// It could not be had. What was there is there.
    Failed,
}

impl What {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Updated => "updated",
            What::Current => "current",
            What::Refused => "refused",
            What::Failed => "failed",
        }
    }
}

/// A file, and what became of it.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub what: What,
    /// Why, if it is not as it should be.
    pub why: Option<String>,
    /// The version that was there.
    pub before: Option<u32>,
    /// What is there now says of itself.
    pub container: Option<Container>,
    /// Length of what is there now.
    pub bytes: Option<u64>,
    /// How many bytes came.
    pub received: u64,
}
