//! What the kernel tells of changes, so that a look need not wait for its time.
//!
//! It is a help and no more: inotify says nothing of what another machine writes to a network file system, drops events when its queue is
//! full, and may have no watches left. So looks go on at their times, whatever it says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Room for some hundred events.
const BUFFER: usize = 64 << 10;
/// So many files that are being written are remembered; with more of them looks come at their times only.
const OPEN: usize = 1024;

/// The directories in which signature files may change.
#[derive(Debug)]
pub(super) struct Notice {
    /// `None` where the kernel has none to give.
    inotify: Option<Inotify>,
    paths: Vec<PathBuf>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    /// Files that were written to and not closed since.
    open: BTreeSet<(i32, OsString)>,
}

impl Notice {
    /// Listens for changes of these files, and of the files in these directories.
    pub(super) fn of(paths: &[PathBuf]) -> Notice {
        let inotify = match paths.is_empty() {
            true => None,
            false => Inotify::init()
                .inspect_err(|error| tracing::info!(%error, "No inotify: changes of signature files are seen by looking only"))
                .ok(),
        };
        let mut notice = Notice {
            inotify,
            paths: paths.to_vec(),
            watched: BTreeMap::new(),
            open: BTreeSet::new(),
        };
        notice.follow();
        notice
    }

    /// Whether something changed since the last time, and nobody is still writing.
    pub(super) fn heard(&mut self) -> bool {
        let mut is_changed = false;
        let mut buffer = [0; BUFFER];
        let Some(inotify) = &mut self.inotify else {
            return false;
        };
        // What cannot be read now is read the next time, or seen by looking.
        while let Ok(events) = inotify.read_events(&mut buffer) {
            let mut is_empty = true;
            for event in events {
                is_empty = false;
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    self.open.clear();
                }
                let file = event
                    .name
                    .map(|name| (event.wd.get_watch_descriptor_id(), name.to_owned()));
                let is_written = event.mask.contains(EventMask::MODIFY);
                match file {
                    Some(file) if is_written => {
                        self.open.insert(file);
                    }
                    Some(file) => {
                        self.open.remove(&file);
                    }
                    None => (),
                }
                is_changed |= !is_written;
            }
            if is_empty {
                break;
            }
        }
        if self.open.len() > OPEN {
            self.open.clear();
            return false;
        }
        if is_changed {
            // Another directory may have taken a name.
            self.follow();
        }
        is_changed && self.open.is_empty()
    }

    /// Watches what is not watched yet.
    pub(super) fn follow(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let wanted: BTreeSet<PathBuf> = self
            .paths
            .iter()
            .flat_map(|path| directories(path))
            .collect();
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut watched = BTreeMap::new();
        for directory in wanted {
            // One that is watched already keeps its number.
            match inotify.watches().add(&directory, mask) {
                Ok(number) => {
                    watched.insert(directory, number);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "Not watched: changes there are seen by looking only");
                }
            }
        }
        let numbers: BTreeSet<_> = watched
            .values()
            .map(WatchDescriptor::get_watch_descriptor_id)
            .collect();
        for (_, old) in std::mem::replace(&mut self.watched, watched) {
            if !numbers.contains(&old.get_watch_descriptor_id()) {
                // It goes by itself with its directory.
                inotify.watches().remove(old).ok();
            }
        }
    }
}

/// Where a change would change what is found under a path: the directory itself, or that of the file; and where there is a symlink on the
/// way, the directory in which it lies.
fn directories(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let mut found = Vec::new();
    match path.is_dir() {
        true => found.extend(path.canonicalize().ok()),
        false => found.extend(parent(&path)),
    }
    let links = path.ancestors().filter(|part| part.is_symlink());
    found.extend(links.filter_map(parent));
    found
}
