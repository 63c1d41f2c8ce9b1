//! Why a request brought nothing, and whether another may.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What went wrong with a request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Nobody answers, or the connection breaks.
    #[error("{0}")]
    Connection(String),
    /// The mirror cannot answer now.
    #[error("the mirror answers {status}{}", wait(*.after))]
    Busy {
        /// 429, or from 500 on.
        status: u16,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// The mirror answers what makes no sense.
    #[error("the mirror is at fault: {0}")]
    Wrong(String),
    /// The mirror does not want to.
    #[error("the mirror answers {status}{}", hint(*.status))]
    Status {
        /// Its answer.
        status: u16,
    },
    /// The file is not there.
    #[error("the mirror does not have it (404)")]
    Missing,
    /// It lies somewhere else.
    #[error(
        "the mirror sends us elsewhere, to {0}, which is not followed: if that is the right place, name it with --from"
    )]
    Elsewhere(String),
    /// It is too large.
    #[error("it has more than {limit} bytes; --max-file-bytes allows more")]
    TooLarge {
        /// As many may come.
        limit: u64,
    },
    /// The other side of the connection is not who it should be.
    #[error("{0}; --ca-file names the authority of a mirror that has its own")]
    NotTrusted(String),
    /// What came cannot be written.
    #[error("what came cannot be written: {0}; make room in the directory")]
    Disk(#[from] io::Error),
}

fn wait(after: Option<Duration>) -> String {
    match after {
        None => String::new(),
        Some(after) => format!(" and wants to be left alone for {} s", after.as_secs()),
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it does not admit this machine",
        _ => "",
    }
}

impl Trouble {
    /// The mirror's fault, in words.
    pub fn wrong(why: impl Into<String>) -> Trouble {
        Trouble::Wrong(why.into())
    }

    /// Whether the same request may do better.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Trouble::Connection(_) | Trouble::Busy { .. } | Trouble::Wrong(_)
        )
    }

    /// Whether other files would fare the same, so that they are not asked for.
    pub fn is_for_all(&self) -> bool {
        match self {
            Trouble::Connection(_) | Trouble::Busy { .. } | Trouble::NotTrusted(_) => true,
            Trouble::Status { status } => matches!(status, 401 | 403),
            _ => false,
        }
    }
}
