//! What some processes hold of memory, over time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::footprint;

/// How often it is looked at.
const LOOKS: Duration = Duration::from_millis(100);

/// Bytes of memory that a replica holds: its processes with those below them, each page once, and the files that they keep in memory.
pub fn held(roots: &[u32], in_memory: &Path) -> u64 {
    footprint::held(processes(roots)) + files(in_memory)
}

/// The same without sharing, and without files: RSS.
pub fn resident(roots: &[u32]) -> u64 {
    processes(roots).map(resident_of).sum()
}

/// Number of its processes.
pub fn count(roots: &[u32]) -> usize {
    processes(roots).count()
}

fn processes(roots: &[u32]) -> impl Iterator<Item = u32> {
    let families = roots.iter().flat_map(|root| footprint::family(*root));
    // The consumer may be below clamd, or the other way round.
    let pids: BTreeSet<u32> = families.map(|(pid, _)| pid).collect();
    pids.into_iter()
}

fn resident_of(pid: u32) -> u64 {
    // A process that has just ended holds nothing.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes of the files below a directory.
fn files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => files(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Looks again and again until it is dropped.
pub struct Watch {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(pids: Vec<u32>, in_memory: PathBuf) -> Watch {
        let (most, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (to, until) = (Arc::clone(&most), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                to.fetch_max(held(&pids, &in_memory), Ordering::Relaxed);
                thread::sleep(LOOKS);
            }
        });
        Watch {
            most,
            stop,
            thread: Some(thread),
        }
    }

    /// The most so far.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
