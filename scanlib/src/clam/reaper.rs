//! Freeing an engine takes long for a full database (it walks every signature), and the last owner
//! may be a worker in the middle of its work. So it happens on a thread of its own.

use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};

use super::allocator;

/// How many engines are being freed right now.
static FREEING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Frees an engine, or ends the processes that have one, soon; at once if no thread can be had. Lets go of `alive` once the memory is
/// free.
pub(super) fn free(engine: impl Send + 'static, alive: Arc<()>) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // At exit libraries clean up after themselves, under the feet of a thread that still frees.
        // SAFETY: `wait` is a plain function; handlers run in reverse order of registration, so
        // before those of the libraries that libclamav initialised earlier.
        let _full = unsafe { libc::atexit(wait) };
    });

    let job = Job::new(engine, alive);
    // If the thread cannot be started, the closure is dropped and the engine freed with it, here.
    let _thread = std::thread::Builder::new()
        .name("engine-reaper".to_owned())
        .spawn(move || {
            drop(job);
            allocator::give_back();
        });
}

/// Counts itself while it exists. The engine goes first, because it is the first field.
struct Job<E> {
    _engine: E,
    _alive: Arc<()>,
    _count: Count,
}

struct Count;

impl<E> Job<E> {
    fn new(engine: E, alive: Arc<()>) -> Job<E> {
        *FREEING.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Job {
            _engine: engine,
            _alive: alive,
            _count: Count,
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        *FREEING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_all();
    }
}

extern "C" fn wait() {
    let mut freeing = FREEING.lock().unwrap_or_else(PoisonError::into_inner);
    while *freeing > 0 {
        freeing = FREED.wait(freeing).unwrap_or_else(PoisonError::into_inner);
    }
}
