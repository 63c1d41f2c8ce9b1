//! What some processes hold of memory, over time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often it is looked at.
const LOOKS: Duration = Duration::from_millis(100);

/// Bytes of memory that processes hold, each page of several counted once: PSS, and what they keep in files in memory.
pub fn held(pids: &[u32], in_memory: &Path) -> u64 {
    let processes: u64 = pids.iter().map(|pid| of_process(*pid, "Pss:")).sum();
    processes + files(in_memory)
}

/// The same without sharing, and without files: RSS.
pub fn resident(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| of_process(*pid, "Rss:")).sum()
}

fn of_process(pid: u32, name: &str) -> u64 {
    // A process that has just ended holds nothing.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(name));
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
