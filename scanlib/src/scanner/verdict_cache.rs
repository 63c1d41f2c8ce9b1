//! Remembers libclamav's verdicts, so that a sender who repeats a costly buffer pays for it once.
//!
//! Only what libclamav would conclude again is kept: a complete scan, a malformed object, or a limit that depends on the bytes alone.
//! A scan that ran out of time, crashed, or failed for want of memory or temporary space is never kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::clam::{EngineScan, Request};
use crate::report::Incomplete;

/// Maximum length of the names, or of the log, kept for one verdict, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// SHA-256 of where libclamav ran, the scan options and the buffer. A sender who could make two buffers collide could have one judged as the other.
type Key = [u8; 32];

/// Verdicts of one engine, shared by its scanners.
#[derive(Debug)]
pub(crate) struct VerdictCache {
    /// A young half that fills this far replaces the old one.
    half: usize,
    halves: Mutex<Halves>,
}

/// Entries that are used move to the young half; the old half is dropped as a whole. Thus an eviction costs nothing per entry, and what is
/// asked for stays.
#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Key, EngineScan>,
    old: HashMap<Key, EngineScan>,
}

impl VerdictCache {
    /// `None` for no entries.
    pub(crate) fn new(entries: usize) -> Option<VerdictCache> {
        (entries > 0).then(|| VerdictCache {
            half: entries.div_ceil(2),
            halves: Mutex::default(),
        })
    }

    /// The verdict on this buffer: the one that is known, or else that of `scan`. The flag is true if it was known.
    ///
    /// `process` is the number of the scanning process. What one of them concluded is not believed once it was replaced: it may have been
    /// taken over by what it scanned.
    pub(super) fn get_or_scan<E>(
        &self,
        process: u64,
        buffer: &[u8],
        request: &Request<'_>,
        scan: impl FnOnce() -> Result<EngineScan, E>,
    ) -> Result<(EngineScan, bool), E> {
        // libclamav is given the name as well.
        if request.is_named() {
            return Ok((scan()?, false));
        }
        let key = key(process, buffer, request);
        if let Some(known) = self.get(&key) {
            return Ok((known, true));
        }
        let scan = scan()?;
        if is_repeatable(&scan) {
            self.put(key, scan.clone());
        }
        Ok((scan, false))
    }

    fn get(&self, key: &Key) -> Option<EngineScan> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.young.get(key) {
            return Some(known.clone());
        }
        let known = halves.old.remove(key)?;
        halves.put(self.half, *key, known.clone());
        Some(known)
    }

    fn put(&self, key: Key, scan: EngineScan) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.put(self.half, key, scan);
    }
}

impl Halves {
    fn put(&mut self, half: usize, key: Key, scan: EngineScan) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, scan);
    }
}

fn key(process: u64, buffer: &[u8], request: &Request<'_>) -> Key {
    let mut hasher = Sha256::new();
    hasher.update(process.to_le_bytes());
    hasher.update([request.option_bits()]);
    hasher.update(buffer);
    hasher.finalize().into()
}

/// Whether another scan of the same buffer would end alike, and the verdict is small enough to keep.
fn is_repeatable(scan: &EngineScan) -> bool {
    let text = match &scan.incomplete {
        None
        | Some(
            Incomplete::FileTooLarge { .. }
            | Incomplete::MemberTooLarge { .. }
            | Incomplete::ScanBytes
            | Incomplete::FileCount
            | Incomplete::Recursion,
        ) => 0,
        Some(Incomplete::Malformed { log, .. }) => log.iter().map(String::len).sum(),
        Some(
            Incomplete::Cancelled
            | Incomplete::Deadline
            | Incomplete::EngineTimeLimit
            | Incomplete::OtherLimit(_)
            | Incomplete::DecodedPayloads
            | Incomplete::DecodeDepth
            | Incomplete::Crashed { .. }
            | Incomplete::TemporaryRoom
            | Incomplete::Changed
            | Incomplete::EngineError { .. },
        ) => return false,
    };
    text + scan.names.iter().map(String::len).sum::<usize>() <= MAX_TEXT_BYTES
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::clam::ScanOptions;

    fn found(name: &str) -> EngineScan {
        EngineScan {
            names: vec![name.to_owned()],
            ..EngineScan::nothing(None)
        }
    }

    /// Looks a buffer up; the flag is true if it was known.
    fn ask(cache: &VerdictCache, buffer: &[u8], request: &Request<'_>, scan: EngineScan) -> bool {
        let scanned = Cell::new(false);
        let (answer, is_known) = cache
            .get_or_scan(1, buffer, request, || {
                scanned.set(true);
                Ok::<_, Infallible>(scan.clone())
            })
            .unwrap();
        assert_eq!(answer, scan);
        assert_ne!(scanned.get(), is_known);
        is_known
    }

    #[test]
    fn options_and_bytes_make_an_entry() {
        let cache = VerdictCache::new(8).unwrap();
        let plain = Request::new();
        let all = Request::new().options(ScanOptions {
            all_matches: true,
            ..ScanOptions::default()
        });
        assert!(!ask(&cache, b"one", &plain, found("A")));
        assert!(ask(&cache, b"one", &plain, found("A")));
        assert!(!ask(&cache, b"two", &plain, found("B")));
        assert!(!ask(&cache, b"one", &all, found("C")));
        assert!(ask(&cache, b"one", &plain, found("A")));
        let named = Request::new().name("one.txt");
        assert!(!ask(&cache, b"one", &named, found("D")));
        assert!(
            !ask(&cache, b"one", &named, found("D")),
            "the name counts, too"
        );
    }

    #[test]
    fn a_verdict_goes_with_the_process_that_gave_it() {
        let cache = VerdictCache::new(8).unwrap();
        let ask = |process, name| {
            let scan = || Ok::<_, Infallible>(found(name));
            let answer = cache.get_or_scan(process, b"one", &Request::new(), scan);
            answer.unwrap().0.names
        };
        assert_eq!(ask(1, "A lie"), ["A lie"]);
        assert_eq!(ask(1, "The truth"), ["A lie"]);
        assert_eq!(ask(2, "The truth"), ["The truth"]);
    }

    #[test]
    fn what_may_end_differently_is_scanned_again() {
        let cache = VerdictCache::new(8).unwrap();
        for incomplete in [
            Incomplete::EngineTimeLimit,
            Incomplete::Deadline,
            Incomplete::Cancelled,
            Incomplete::TemporaryRoom,
            Incomplete::EngineError {
                code: None,
                log: Vec::new(),
            },
            Incomplete::Malformed {
                code: None,
                log: vec!["x".repeat(MAX_TEXT_BYTES + 1)],
            },
        ] {
            let scan = EngineScan::nothing(Some(incomplete));
            for _ in 0..2 {
                assert!(
                    !ask(&cache, b"buffer", &Request::new(), scan.clone()),
                    "{scan:?}"
                );
            }
        }
        let malformed = EngineScan::nothing(Some(Incomplete::Malformed {
            code: None,
            log: vec!["cannot parse".to_owned()],
        }));
        assert!(!ask(&cache, b"buffer", &Request::new(), malformed.clone()));
        assert!(ask(&cache, b"buffer", &Request::new(), malformed));
    }

    proptest! {
        /// The number of entries never exceeds the limit, and a verdict is never returned for another buffer.
        #[test]
        fn memory_is_bounded(entries in 1_usize..20, asked in prop::collection::vec(any::<u8>(), 0..200)) {
            let cache = VerdictCache::new(entries).unwrap();
            for buffer in asked {
                ask(&cache, &[buffer], &Request::new(), found(&buffer.to_string()));
                let halves = cache.halves.lock().unwrap();
                prop_assert!(halves.young.len() + halves.old.len() <= entries.div_ceil(2) * 2);
            }
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let cache = VerdictCache::new(8).unwrap();
        ask(&cache, b"often", &Request::new(), found("often"));
        for number in 0..100_u8 {
            ask(&cache, &[number], &Request::new(), found("once"));
            assert!(
                ask(&cache, b"often", &Request::new(), found("often")),
                "{number}"
            );
        }
        assert!(
            !ask(&cache, &[0], &Request::new(), found("once")),
            "dropped long ago"
        );
    }
}
