//! What the tests against a broker share: the broker itself, a client of their own, and the real binary as a process.
//!
//! A test program says `mod support;` and takes what it needs.

// Each test program compiles this module by itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]
// A harness that cannot go on has nothing better to do than to panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod broker;
pub mod client;
pub mod corpus;
pub mod footprint;
pub mod http;
pub mod judgement;
pub mod kube;
pub mod load;
pub mod logs;
pub mod machine;
pub mod memory_group;
pub mod metrics;
pub mod process;
pub mod scene;
pub mod svg;
pub mod tally;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tell the person who runs the tests. libtest swallows `eprintln!` of tests that pass; this reaches the terminal.
macro_rules! announce {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // A closed standard error is no reason to fail a test.
        writeln!(std::io::stderr(), $($text)*).ok();
    }};
}
pub(crate) use announce;

/// Whether an embedded stand-in, or a test left out, is not good enough.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Test data too large for the repository: `$SCANNER_TEST_DATA`, else `../shared/data` beside the workspace. `None` means that
/// the caller must leave the test out, which has been announced.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SCANNER_TEST_DATA")
        .map_or_else(|| workspace().join("../shared/data"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    announce!(
        "left out: what needs {} (set SCANNER_TEST_DATA)",
        path.display()
    );
    None
}

/// `prefix` made unique on a broker that several tests share: for topics, groups, instances.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// The first of `count` adjacent ports of 127.0.0.1 on which nobody listens.
///
/// They lie below the range from which the kernel takes the ports of outgoing connections: a client that keeps knocking at a
/// broker which is down could otherwise be given that very port, connect to itself and keep the broker from coming back.
pub fn free_ports(count: u16) -> u16 {
    const FIRST: u16 = 20_000;
    const RANGE: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(RANGE)).unwrap();
    for _ in 0..RANGE / count {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % (RANGE - count);
        let bound: Result<Vec<_>, _> = (port..port + count)
            .map(|port| TcpListener::bind(("127.0.0.1", port)))
            .collect();
        if bound.is_ok() {
            return port;
        }
    }
    panic!("no {count} adjacent free ports from {FIRST} on");
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Ask until `answer` is some, at most for `timeout`; then panic with what was awaited.
pub fn wait_for<T>(what: &str, timeout: Duration, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
