//! Log lines, captured.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use scanner_bin::config::Secrets;
use scanner_bin::log;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log lines that pass the filter while the closure runs.
pub fn captured(filter: &str, events: impl FnOnce()) -> String {
    let output = Captured::default();
    let writer = output.clone();
    let subscriber = log::subscriber(filter, move || writer.clone(), Secrets::default()).unwrap();
    tracing::subscriber::with_default(subscriber, events);
    let bytes = output.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}
