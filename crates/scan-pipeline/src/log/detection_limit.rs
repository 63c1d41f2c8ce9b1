//! How many lines about detections a record's author can have written: so many a second for one name and source.
//!
//! Time is cut into windows of a second or more. A window ends with the first detection after its second, or when the thread of
//! [`DetectionLog`] notices that it is over; for each name and source that had lines suppressed there is then one line that counts them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::metrics::Metrics;

/// The shortest window.
const WINDOW: Duration = Duration::from_secs(1);
/// Names and sources that are counted by themselves in one window. The name of a source is the record's to choose, so those beyond share
/// one count.
pub const MAX_KEYS: usize = 128;

/// The limit of this process; without one, every detection is logged.
static IN_USE: RwLock<Option<Arc<Shared>>> = RwLock::new(None);

/// Whether a detection is to be logged. It is counted if not.
pub(super) fn admit(threat_name: &str, source_host: &str) -> bool {
    let in_use = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    in_use
        .as_ref()
        .is_none_or(|shared| shared.admit(threat_name, source_host))
}

/// Detections of one name from one source that were not logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Name and source; `None` for all those beyond [`MAX_KEYS`].
    pub of: Option<(String, String)>,
    /// How many.
    pub count: u64,
}

impl Suppressed {
    fn log(&self) {
        match &self.of {
            Some((threat_name, source_host)) => tracing::warn!(
                suppressed = self.count,
                threat_name,
                source_host,
                "Detections not logged, as there were too many in a second"
            ),
            None => tracing::warn!(
                suppressed = self.count,
                "Detections of further names and sources not logged, as there were too many in a second"
            ),
        }
    }
}

/// The detections of a window, in bounded memory.
#[derive(Debug)]
pub struct DetectionLimit {
    per_second: u64,
    started: Option<Instant>,
    seen: HashMap<(String, String), u64>,
    beyond: u64,
}

impl DetectionLimit {
    /// So many lines a second for one name and source; 0 for no limit.
    pub fn new(per_second: u32) -> DetectionLimit {
        DetectionLimit {
            per_second: u64::from(per_second),
            started: None,
            seen: HashMap::new(),
            beyond: 0,
        }
    }

    /// Whether a detection is to be logged. [`end`](DetectionLimit::end) ends the window before it, if it is over.
    pub fn admit(&mut self, threat_name: &str, source_host: &str, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        self.started.get_or_insert(now);
        let key = (threat_name.to_owned(), source_host.to_owned());
        let is_full = self.seen.len() >= MAX_KEYS;
        let count = match self.seen.get_mut(&key) {
            Some(count) => count,
            None if is_full => &mut self.beyond,
            None => self.seen.entry(key).or_default(),
        };
        *count += 1;
        *count <= self.per_second
    }

    /// Ends the window if it is over at this time, or at any time: what was suppressed in it.
    pub fn end(&mut self, now: Option<Instant>) -> Vec<Suppressed> {
        let is_over = self.started.is_some_and(|started| {
            now.is_none_or(|now| now.saturating_duration_since(started) >= WINDOW)
        });
        if !is_over {
            return Vec::new();
        }
        self.started = None;
        let beyond = std::mem::take(&mut self.beyond);
        let seen = self.seen.drain().map(|(key, count)| (Some(key), count));
        let mut suppressed: Vec<Suppressed> = seen
            .chain([(None, beyond)])
            .filter(|(_, count)| *count > self.per_second)
            .map(|(of, count)| Suppressed {
                of,
                count: count - self.per_second,
            })
            .collect();
        suppressed.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.of.cmp(&b.of)));
        suppressed
    }
}

#[derive(Debug)]
struct Shared {
    limit: Mutex<DetectionLimit>,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn admit(&self, threat_name: &str, source_host: &str) -> bool {
        let now = Instant::now();
        let (ended, is_admitted) = {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            (
                limit.end(Some(now)),
                limit.admit(threat_name, source_host, now),
            )
        };
        if !is_admitted {
            self.metrics.detection_lines_suppressed.inc();
        }
        ended.iter().for_each(Suppressed::log);
        is_admitted
    }

    fn end(&self, now: Option<Instant>) {
        let ended = {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            limit.end(now)
        };
        ended.iter().for_each(Suppressed::log);
    }
}

/// Limits the lines of [`threat_detected`](super::threat_detected) in this process until it is dropped.
#[derive(Debug)]
pub struct DetectionLog {
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DetectionLog {
    /// So many lines a second for one name and source; 0 for no limit. Counts suppressed ones in the metrics.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn limit(per_second: u32, metrics: Arc<Metrics>) -> std::io::Result<DetectionLog> {
        let shared = Arc::new(Shared {
            limit: Mutex::new(DetectionLimit::new(per_second)),
            metrics,
        });
        let (stop, stopped) = bounded(0);
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("detections".to_owned())
            .spawn(move || watch(&watched, &stopped))?;
        *IN_USE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&shared));
        Ok(DetectionLog {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for DetectionLog {
    fn drop(&mut self) {
        *IN_USE.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It runs nothing that panics.
            let _ended = thread.join();
        }
        self.shared.end(None);
    }
}

/// Ends windows in which nothing is detected any more.
fn watch(shared: &Shared, stopped: &Receiver<()>) {
    while stopped.recv_timeout(WINDOW) == Err(RecvTimeoutError::Timeout) {
        shared.end(Some(Instant::now()));
    }
}
