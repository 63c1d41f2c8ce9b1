//! How one object is to be scanned.

use std::time::Instant;

use super::cancel::CancelToken;
use super::isolation::Channel;
use super::options::ScanOptions;

/// How one object is to be scanned. Borrows what it names, so that one costs nothing to make.
///
/// ```
/// use std::time::{Duration, Instant};
/// use scanlib::{CancelToken, Request};
///
/// let stop = CancelToken::new();
/// let request = Request::new()
///     .name("mail-4711.eml")
///     .deadline(Instant::now() + Duration::from_secs(5))
///     .cancel(&stop);
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) options: ScanOptions,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: Option<&'a CancelToken>,
    /// Of whoever runs the scanner.
    pub(super) stop: Option<&'a CancelToken>,
    /// In a scanning process: whatever arrives here while the scan runs stops it.
    pub(super) lane: Option<&'a Channel>,
}

impl<'a> Request<'a> {
    /// No name, default options, no deadline, not to be cancelled.
    pub fn new() -> Request<'a> {
        Request::default()
    }

    /// Where the object comes from; need not be a file. A few signatures look at it.
    pub fn name(mut self, name: &'a str) -> Request<'a> {
        self.name = Some(name);
        self
    }

    /// What to look for.
    pub fn options(mut self, options: ScanOptions) -> Request<'a> {
        self.options = options;
        self
    }

    /// When the answer stops being of use; see [`CancelToken`] for how soon a scan notices.
    pub fn deadline(mut self, at: Instant) -> Request<'a> {
        self.deadline = Some(at);
        self
    }

    /// Lets another thread stop the scan.
    pub fn cancel(mut self, token: &'a CancelToken) -> Request<'a> {
        self.cancel = Some(token);
        self
    }

    /// As [`Request::cancel`], for the scanner's own token: either one stops the scan.
    pub(crate) fn stop(mut self, token: Option<&'a CancelToken>) -> Request<'a> {
        self.stop = token;
        self
    }

    /// Whether somebody has stopped it.
    pub(crate) fn is_cancelled(&self) -> bool {
        let tokens = self.cancel.iter().chain(&self.stop);
        tokens.into_iter().any(|token| token.is_cancelled())
            || self.lane.is_some_and(Channel::is_readable)
    }

    /// Whether libclamav is given a name.
    pub(crate) fn is_named(&self) -> bool {
        self.name.is_some()
    }

    /// The options, one bit each.
    pub(crate) fn option_bits(&self) -> u8 {
        self.options.to_bits()
    }

    /// Whether every signature that matches is to be reported.
    pub(crate) fn all_matches(&self) -> bool {
        self.options.all_matches
    }
}
