//! How the service is asked to stop: by a signal, or by the program that runs it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// A request to stop, shared by everybody who may make it and everybody who must heed it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
}

impl Shutdown {
    /// Not requested yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// From now on the first SIGTERM or SIGINT requests an orderly stop, and a second one ends the
    /// process at once, with the exit code that a shell shows for that signal. Nothing is committed
    /// on that way: what was not acknowledged is read again by the next owner.
    ///
    /// # Errors
    /// The operating system refused the handlers.
    pub fn on_signals(&self) -> io::Result<()> {
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order of registration: this one sees what the last signal left.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.requested))?;
            flag::register(signal, Arc::clone(&self.requested))?;
        }
        Ok(())
    }

    /// From now on SIGHUP does not end the process: it sets what is returned.
    ///
    /// # Errors
    /// The operating system refused the handler.
    pub fn hangups() -> io::Result<Arc<AtomicBool>> {
        let asked = Arc::new(AtomicBool::new(false));
        flag::register(SIGHUP, Arc::clone(&asked))?;
        Ok(asked)
    }

    /// Asks for an orderly stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }

    /// True once a stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }
}
