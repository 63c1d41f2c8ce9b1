//! Whether libclamav reads signature files as `clamav-prefilter` does: each test asks both.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod formats;
mod judge;
mod yara;
