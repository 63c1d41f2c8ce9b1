//! Forking, and what becomes of a forked process.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Exit status of a forked process whose own code failed.
const FAILED: i32 = 70;
/// How a process ended that somebody killed, this crate or the system.
pub(super) const KILLED: &str = "signal 9 (SIGKILL)";

/// Runs `run` in a copy of this process; nothing else of the program runs there, and the copy ends with it. Returns the copy's
/// identifier.
///
/// # Safety
///
/// This process has one thread. With more, the copy could find a lock held by a thread that it does not have.
pub(super) unsafe fn fork(
    name: &std::ffi::CStr,
    run: impl FnOnce() -> io::Result<Infallible>,
) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: by this function's contract.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(pid),
            _ => Err(io::Error::last_os_error()),
        };
    }
    let live = || -> io::Result<Infallible> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::other("the parent process has ended"));
        }
        rustix::thread::set_name(name)?;
        run()
    };
    let _failed = catch_unwind(AssertUnwindSafe(live));
    exit(FAILED)
}

/// Ends this process at once: no destructor of the program it was copied from runs.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Ends a child of this process if it has not ended yet, and describes how it ended.
pub(super) fn end(pid: Pid) -> String {
    let mut options = WaitOptions::NOHANG;
    loop {
        match rustix::process::waitpid(Some(pid), options) {
            Ok(Some((_, status))) => return describe(status),
            // Only now: the number of a child that somebody else has waited for may be another's by now.
            Ok(None) => {
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
                options = WaitOptions::empty();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return format!("ended in an unknown way: {error}"),
        }
    }
}

/// Children that have ended already, and how.
pub(super) fn ended() -> Vec<(Pid, String)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = rustix::process::waitpid(None, WaitOptions::NOHANG) {
        ended.push((pid, describe(status)));
    }
    ended
}

fn describe(status: WaitStatus) -> String {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(libc::SIGKILL), _) => KILLED.to_owned(),
        (Some(signal), _) => match Signal::from_named_raw(signal) {
            Some(name) => format!("signal {signal} ({})", signal_name(name)),
            None => format!("signal {signal}"),
        },
        (_, Some(code)) => format!("exit status {code}"),
        _ => "an unknown status".to_owned(),
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::ABORT => "SIGABRT",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::ILL => "SIGILL",
        Signal::SEGV => "SIGSEGV",
        Signal::SYS => "SIGSYS",
        Signal::TRAP => "SIGTRAP",
        Signal::TERM => "SIGTERM",
        _ => "other",
    }
}

/// Number of threads of this process; `None` if the system does not tell.
pub(super) fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Signals that the service manager or a terminal sends to every process of the service: the main process decides what they mean.
pub(super) fn ignore_signals() {
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        // SAFETY: no handler is installed: the signal is ignored.
        let _before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Closes every descriptor from 3 on but these.
pub(super) fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1);
        }
        from = from.max(fd + 1);
    }
    close_range(from, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else {
        return;
    };
    // SAFETY: takes numbers. Nobody in this process uses these descriptors: it was just forked, and its code holds only those it keeps.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed != 0 {
        // A kernel before 5.9. The limit on descriptors bounds their numbers.
        for fd in first..=last.min(1 << 16) {
            // SAFETY: as above.
            let _closed = unsafe { libc::close(fd as RawFd) };
        }
    }
}

/// Connects standard input and output, and standard error if asked, to nothing.
pub(super) fn silence(also_errors: bool) -> io::Result<()> {
    let nothing = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    if also_errors {
        rustix::stdio::dup2_stderr(&nothing)?;
    }
    Ok(())
}

/// Environment variables that a forked process keeps. All others may hold secrets.
const KEPT_VARIABLES: [&[u8]; 8] = [
    b"PATH", b"HOME", b"LANG", b"TZ", b"TMPDIR", b"LC_", b"RUST_", b"LD_",
];

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Overwrites the values of environment variables in this process's memory.
///
/// # Safety
///
/// This process has one thread, and no code of it holds a pointer into its environment.
pub(super) unsafe fn scrub_environment() {
    // SAFETY: by this function's contract nobody else uses the list, which ends with a null pointer.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return;
    }
    loop {
        // SAFETY: within the list: the end has not been met.
        let variable = unsafe { *entry };
        if variable.is_null() {
            return;
        }
        // SAFETY: an entry is a string that ends with a zero byte.
        let length = unsafe { libc::strlen(variable) };
        // SAFETY: that string; by this function's contract nobody else uses it.
        let text = unsafe { std::slice::from_raw_parts_mut(variable.cast::<u8>(), length) };
        let is_kept = KEPT_VARIABLES.iter().any(|name| {
            let rest = text.strip_prefix(*name);
            rest.is_some_and(|rest| name.ends_with(b"_") || rest.starts_with(b"="))
        });
        if !is_kept {
            text.fill(0);
        }
        // SAFETY: the next entry, or the end of the list.
        entry = unsafe { entry.add(1) };
    }
}
