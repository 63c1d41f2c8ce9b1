//! Running two closures in parallel.

use std::panic;
use std::thread;

/// Stack of a thread that calls libclamav, in bytes. Its parsers recurse, and are written for the 8 MiB of a process's first thread, four
/// times what Rust gives a thread by default.
pub const SCAN_STACK_BYTES: usize = 8 << 20;

/// Runs `work` on a new thread and `meanwhile` on the current one, and returns when both have finished. A panic of either propagates.
/// If no thread can be started, `work` runs on the current thread after `meanwhile`.
pub(super) fn join<A: Send, B>(
    work: impl Fn() -> A + Sync,
    meanwhile: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let started = thread::Builder::new()
            .stack_size(SCAN_STACK_BYTES)
            .spawn_scoped(scope, &work);
        let here = meanwhile();
        let there = match started {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(_) => work(),
        };
        (there, here)
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_run_at_once_and_both_answers_come_back() {
        let (to_here, from_there) = mpsc::channel();
        let sender = std::sync::Mutex::new(to_here);
        let work = || sender.lock().unwrap().send(7).is_ok();
        let meanwhile = || from_there.recv_timeout(Duration::from_secs(60));
        assert_eq!(join(work, meanwhile), (true, Ok(7)));
    }

    #[test]
    fn a_panic_of_either_goes_on() {
        let says = |panic: Box<dyn std::any::Any + Send>| panic.downcast_ref::<&str>().copied();
        let there = catch_unwind(AssertUnwindSafe(|| join(|| panic!("there"), || 1)));
        assert_eq!(there.map_err(says).unwrap_err(), Some("there"));
        let here = catch_unwind(AssertUnwindSafe(|| join(|| 1, || panic!("here"))));
        assert_eq!(here.map_err(says).unwrap_err(), Some("here"));
    }
}
