//! What a process may do, by its role. Each step is best effort: an older kernel confines less, and [`Confinement`] reports what holds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};

/// The newest Landlock interface whose rights are handled.
const LANDLOCK: ABI = ABI::V6;
/// Descriptors that a scanning process may hold: libclamav opens a file for each layer of a container.
const MAX_DESCRIPTORS: u64 = 1024;

/// What confines a process; see [`crate::Engine::isolation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Confinement {
    /// The version of Landlock that restricts files, from 4 on also TCP connections, from 6 on also signals to other
    /// processes. 0 where the kernel has no Landlock.
    pub landlock: u32,
    /// Only the system calls that a scan needs are allowed.
    pub seccomp: bool,
    /// No program that it starts gains rights.
    pub no_new_privs: bool,
    /// No other process of the same user can read its memory.
    pub not_dumpable: bool,
    /// Its memory is limited.
    pub memory_limit: bool,
}

impl Confinement {
    /// The name of each mechanism, and whether it holds; for `landlock` its version.
    pub fn mechanisms(&self) -> impl ExactSizeIterator<Item = (&'static str, u32)> + use<> {
        [
            ("landlock", self.landlock),
            ("seccomp", self.seccomp.into()),
            ("no_new_privs", self.no_new_privs.into()),
            ("not_dumpable", self.not_dumpable.into()),
            ("memory_limit", self.memory_limit.into()),
        ]
        .into_iter()
    }

    /// Whether everything holds that this crate can ask a kernel for.
    pub fn is_complete(&self) -> bool {
        let Confinement {
            landlock,
            seccomp,
            no_new_privs,
            not_dumpable,
            memory_limit,
        } = *self;
        landlock >= LANDLOCK as u32 && seccomp && no_new_privs && not_dumpable && memory_limit
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            0 => f.write_str("no Landlock")?,
            version => write!(f, "Landlock {version}")?,
        }
        for (name, holds) in self.mechanisms().skip(1) {
            write!(f, ", {}{name}", if holds > 0 { "" } else { "no " })?;
        }
        Ok(())
    }
}

/// What a process may read and write.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
}

/// Gives up rights that no forked process needs: to gain others, to be read by others, to leave its memory in a file.
pub(super) fn give_up_privileges() -> Confinement {
    let _cores = limit(Resource::Core, 0);
    Confinement {
        no_new_privs: rustix::thread::set_no_new_privs(true).is_ok(),
        not_dumpable: rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok(),
        ..Confinement::default()
    }
}

/// Restricts this thread, and those it starts, to these files and to no TCP connection. Returns the version of Landlock, or 0.
pub(super) fn files(paths: &Paths) -> u32 {
    restrict(paths).unwrap_or(0)
}

fn restrict(paths: &Paths) -> Result<u32, landlock::RulesetError> {
    let created = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = created
        .add_rules(path_beneath_rules(&paths.read, read))?
        .add_rules(path_beneath_rules(
            &paths.write,
            AccessFs::from_all(LANDLOCK) & !AccessFs::Execute & !AccessFs::IoctlDev,
        ))?
        .restrict_self()?;
    Ok(version(&status.landlock))
}

/// What [`confine_process`] leaves to a process.
///
/// ```no_run
/// use scanlib::ProcessRights;
///
/// let rights = ProcessRights::new()
///     .read_below(["/usr", "/etc", "/proc", "/srv/signatures"])
///     .write_below(["/dev/shm"])
///     .connect_to_ports([9092])
///     .listen_on_ports([9090]);
/// println!("{}", scanlib::confine_process(&rights));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProcessRights {
    read: Option<Vec<PathBuf>>,
    write: Vec<PathBuf>,
    connect: Option<Vec<u16>>,
    listen: Option<Vec<u16>>,
}

impl ProcessRights {
    /// Reading every file, writing none, and every TCP connection.
    pub fn new() -> ProcessRights {
        ProcessRights::default()
    }

    /// Reads only these files and what is below these directories, besides what it may write.
    pub fn read_below(mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let paths = paths.into_iter().map(Into::into);
        self.read.get_or_insert_default().extend(paths);
        self
    }

    /// Reads and writes these files and what is below these directories. What does not exist now cannot be written to later.
    pub fn write_below(mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.write.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Connects to these TCP ports only, of any address. UDP is not restricted.
    pub fn connect_to_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.connect.get_or_insert_default().extend(ports);
        self
    }

    /// Listens on these TCP ports only; 0 stands for a free port that the system chooses.
    pub fn listen_on_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.listen.get_or_insert_default().extend(ports);
        self
    }
}

/// Gives up rights that the calling process does not need, for a program that keeps libclamav in processes of its own. Afterwards it
/// has these rights only, starts no program that gains rights, leaves no core file, and other processes of the same user
/// cannot read its memory. Returns what holds; of the rest it does without.
///
/// This concerns the calling thread and those that it starts later, so call it before there are others.
pub fn confine_process(rights: &ProcessRights) -> Confinement {
    let confinement = give_up_privileges();
    Confinement {
        landlock: restrict_to(rights).unwrap_or(0),
        ..confinement
    }
}

fn restrict_to(rights: &ProcessRights) -> Result<u32, landlock::RulesetError> {
    let ProcessRights {
        read,
        write,
        connect,
        listen,
    } = rights;
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut files = AccessFs::from_write(LANDLOCK);
    if read.is_some() {
        files |= reads;
    }
    let mut ruleset = Ruleset::default().handle_access(files)?;
    for (ports, access) in [
        (connect, AccessNet::ConnectTcp),
        (listen, AccessNet::BindTcp),
    ] {
        if ports.is_some() {
            ruleset = ruleset.handle_access(access)?;
        }
    }
    let ports = |ports: &Option<Vec<u16>>, access: AccessNet| {
        let ports = ports.clone().unwrap_or_default().into_iter();
        ports.map(move |port| Ok::<_, landlock::RulesetError>(NetPort::new(port, access)))
    };
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(write, files))?
        .add_rules(path_beneath_rules(read.iter().flatten(), reads))?
        .add_rules(ports(connect, AccessNet::ConnectTcp))?
        .add_rules(ports(listen, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(version(&status.landlock))
}

fn version(status: &LandlockStatus) -> u32 {
    match status {
        LandlockStatus::Available { effective_abi, .. } => *effective_abi as u32,
        _ => 0,
    }
}

/// Limits the private memory of a scanning process, in bytes, and its descriptors. Returns whether the limit on memory holds.
pub(super) fn resources(memory_bytes: Option<u64>) -> bool {
    let _descriptors = limit(Resource::Nofile, MAX_DESCRIPTORS);
    memory_bytes.is_some_and(|bytes| limit(Resource::Data, bytes).is_ok())
}

fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let before = rustix::process::getrlimit(resource);
    let value = before.maximum.map_or(value, |maximum| maximum.min(value));
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )
}

/// Private writable memory of this process, in bytes: what the limit on data counts.
pub(super) fn held_bytes() -> Option<u64> {
    own_bytes("VmData:")
}

/// Memory of this process that is resident, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    own_bytes("VmRSS:")
}

fn own_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// If the system runs out of memory, it ends a scanning process first: that costs one record its scan. To be called before [`files`],
/// after which the system does not allow it; forked processes inherit it.
pub(super) fn be_first_to_go() {
    // What `/proc` has of a process that is not dumpable belongs to the administrator. This process has not read anything yet.
    let dumpable = rustix::process::set_dumpable_behavior;
    let _readable = dumpable(DumpableBehavior::Dumpable);
    let _unprivileged = std::fs::write("/proc/self/oom_score_adj", "800");
    let _not_readable = dumpable(DumpableBehavior::NotDumpable);
}

/// Allows every thread of this process only the system calls that a scan needs; any other fails with `EPERM`. Returns whether it holds.
pub(super) fn system_calls() -> bool {
    fn apply() -> Result<(), Box<dyn std::error::Error>> {
        let filter: BpfProgram = SeccompFilter::new(
            allowed()?,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()?;
        Ok(seccompiler::apply_filter_all_threads(&filter)?)
    }
    apply().is_ok()
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// No socket, no process, no thread, no program, no executable memory, no other process.
fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = FREE.iter().map(|&call| (call, Vec::new())).collect();
    let without = |argument, flag: i32| {
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(flag as u64),
            0,
        )
    };
    // No code, and no shared memory: the limit on memory does not count that.
    let map = vec![without(2, libc::PROT_EXEC)?, without(3, libc::MAP_SHARED)?];
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(map)?]);
    let protect = vec![without(2, libc::PROT_EXEC)?];
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(protect)?]);
    // With others the kernel would send signals to a process of choice, or tell who uses a file.
    let mut commands = Vec::new();
    for command in FCNTL {
        let is = SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            *command as u64,
        )?;
        commands.push(SeccompRule::new(vec![is])?);
    }
    rules.insert(libc::SYS_fcntl, commands);
    // A failed assertion of the C library ends the process by a signal to itself.
    let itself = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(std::process::id()),
    )?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![itself])?]);
    Ok(rules)
}

/// What `fcntl` may be asked for.
const FCNTL: &[i32] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GET_SEALS,
];

const FREE: &[i64] = &[
    // Packets.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    // Files: Landlock says which.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_umask,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    // Memory: `mmap` and `mprotect` have rules of their own, as has `fcntl`.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads that exist already, signals that this process meets, clocks.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a process reads that loads signatures: these, and what libraries of the system look for.
pub(super) fn loading(sources: &[PathBuf], tmp_base: &Path) -> Paths {
    let system = [
        "/etc/clamav",
        "/usr",
        "/lib",
        "/lib64",
        "/etc/ssl",
        "/etc/localtime",
        "/dev/urandom",
        // Its own size, which its scanning processes start with.
        "/proc/self",
    ];
    let system = system.iter().map(PathBuf::from);
    Paths {
        read: sources.iter().cloned().chain(system).collect(),
        write: vec![tmp_base.to_owned(), PathBuf::from("/dev/null")],
    }
}
