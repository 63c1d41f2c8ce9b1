//! A bar on standard error, if that is a terminal: what is done, how fast, and how long it will take.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Before it is known how much there is to do.
const COUNTING: &str = "{spinner} {bytes} {bytes_per_sec}, {msg}, {elapsed}";
/// Once it is known.
const KNOWN: &str = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {msg}, {eta} left";

/// The bar, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar if it is wanted and somebody sees it.
    pub(super) fn new(wanted: bool) -> Progress {
        if !wanted || !io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(COUNTING));
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(Some(bar))
    }

    /// Whether anybody sees it.
    pub(super) fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// How many bytes there are to scan.
    pub(super) fn total(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(bytes);
            bar.set_style(style(KNOWN));
        }
    }

    /// What has been done: bytes of the last object, objects and threats so far.
    pub(super) fn advance(&self, bytes: u64, objects: u64, threats: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
            bar.set_message(format!("{objects} scanned, {threats} infected"));
        }
    }

    /// Takes the bar away while something else is written.
    pub(super) fn without<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away for good.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are tested.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [COUNTING, KNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
