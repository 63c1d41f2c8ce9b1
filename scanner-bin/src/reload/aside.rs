//! Work that gives way: while signatures are loaded beside those in use, scans go on as if there were nothing else to do.

use std::panic::resume_unwind;
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use scanlib::SCAN_STACK_BYTES;

/// How far behind: a tenth of the weight of a thread that scans, where both want the same processor.
const NICE: i32 = 10;

/// The last place that there is.
const LAST: i32 = 19;

fn behind(nice: i32) -> i32 {
    (nice + NICE).min(LAST)
}

/// Does the work on a thread of its own that gives way to all others, and waits for it. A thread that has given way once may not come
/// forward again, hence its own; if none can be had, the work is done here.
pub(super) fn aside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let mut work = Some(work);
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("loader".to_owned())
            .stack_size(SCAN_STACK_BYTES);
        let work = &mut work;
        let handle = thread.spawn_scoped(scope, move || {
            // Where it is not allowed the work is done all the same.
            let _given = getpriority_process(Some(gettid()))
                .and_then(|nice| setpriority_process(Some(gettid()), behind(nice)));
            work.take().map(|work| work())
        });
        handle.ok().map(thread::ScopedJoinHandle::join)
    });
    match (done, work) {
        (Some(Ok(Some(result))), _) => result,
        (Some(Err(panic)), _) => resume_unwind(panic),
        (_, Some(work)) => work(),
        // Taken, and neither done nor panicked.
        (_, None) => unreachable!(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_behind_all_others_and_this_thread_stays_where_it_is() {
        let nice = || getpriority_process(Some(gettid())).unwrap();
        let before = nice();
        assert_eq!(aside(nice), behind(before));
        assert!(behind(before) > before || before == LAST);
        assert_eq!(nice(), before);
    }

    #[test]
    #[should_panic(expected = "as before")]
    fn a_panic_is_a_panic_here() {
        aside(|| panic!("as before"));
    }
}
