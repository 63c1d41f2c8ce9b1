//! `db sync`: signature files from a private mirror, into a directory that services read. It runs once and ends; a service never downloads.
//!
//! ```text
//! DIR/
//!   main.cvd, …            what services read: each gets its name by a rename, after everything below
//!   .scanner-sync/         where a sync works; neither libclamav nor the service looks into it
//!     lock                 held by the sync that is at work
//!     records.json         what the mirror had last, and what of it was refused
//!     incoming/NAME        on its way, with NAME.begun while it can be gone on with
//! ```
//!
//! ask (ETag) → fetch (goes on where it broke) → SHA-256, if demanded → header, version → digital signature → on the disk → rename

pub mod answer;
mod bring;
pub mod check;
pub mod digests;
pub mod fetch;
pub mod home;
pub mod mirror;
pub mod name;
pub mod part;
pub mod patience;
pub mod row;
pub mod trouble;

use std::fmt;
use std::path::Path;

use scanlib::Library;

use digests::Digests;
use fetch::Manner;
use home::{Home, HomeError};
use mirror::Mirror;
use row::Row;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// From where.
    pub mirror: Mirror,
    /// Which, see [`name::check`].
    pub files: Vec<String>,
    /// An older container may take the place of a newer one.
    pub allow_downgrade: bool,
    /// Everything is fetched and examined, whatever is known.
    pub force: bool,
    /// Digests that files must have: those that carry no digital signature all, others if they are in the list. `None` demands none.
    pub digests: Option<Digests>,
    /// How it is asked for.
    pub manner: Manner,
}

/// The directory, and then everything in it that is wanted.
///
/// # Errors
/// The directory cannot be used.
pub fn run(
    wanted: &Wanted,
    to: &Path,
    library: Library,
    say: &dyn Fn(fmt::Arguments<'_>),
) -> Result<Vec<Row>, HomeError> {
    let home = Home::take(to)?;
    Ok(bring::Sync::new(wanted, home, library, say).run())
}
