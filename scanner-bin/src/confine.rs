//! The rights that the service's main process keeps once its settings are read.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use scanlib::{Confinement, ProcessRights};

use crate::config::Config;

/// What every program reads: libraries, certificates, name resolution, time zones, itself.
const SYSTEM: [&str; 13] = [
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
    "/run/systemd/resolve",
    "/run/nscd",
];
/// Files of the system that are often links to elsewhere.
const SYSTEM_LINKS: [&str; 4] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/localtime",
];
/// Name servers, for answers that do not fit into a datagram.
const DNS_PORT: u16 = 53;

/// Limits this process to the files of its settings, to its brokers' ports if they are set, and to its own port, and lets no other
/// process read its memory. To be called before threads are started.
pub fn main_process(config: &Config) -> Confinement {
    // What does not exist now could not be made later.
    kept(config).for_each(|dir| make(dir));
    scanlib::confine_process(&rights(config))
}

/// Directories that the service makes.
fn kept(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let scan = &config.scan;
    let kept = [&scan.crash_journal, &scan.state_dir, &scan.wrong_dir];
    kept.into_iter().flatten()
}

fn rights(config: &Config) -> ProcessRights {
    let temporary = match &config.scan.tmp_dir {
        Some(dir) => vec![dir.clone()],
        None => vec![PathBuf::from("/dev/shm"), std::env::temp_dir()],
    };
    let rights = ProcessRights::new()
        .read_below(SYSTEM)
        .read_below(readable(config))
        .write_below(kept(config))
        .write_below(temporary)
        .write_below(["/dev/null"])
        .listen_on_ports([config.ops.listen.port()]);
    match &*config.kafka.broker_ports {
        [] => rights,
        ports => rights
            .connect_to_ports(bootstrap_ports(&config.kafka.brokers))
            .connect_to_ports(ports.iter().copied())
            .connect_to_ports([DNS_PORT]),
    }
}

/// Files that the settings name, each with the directory that it is in: what is replaced by renaming is another file there, and a link may
/// lead to a directory beside the one that it leads to now.
fn readable(config: &Config) -> Vec<PathBuf> {
    let (kafka, scan) = (&config.kafka, &config.scan);
    let executable = std::env::current_exe().ok();
    let links = SYSTEM_LINKS.map(PathBuf::from);
    let mut named: Vec<&Path> = links.iter().map(PathBuf::as_path).collect();
    named.extend(executable.as_deref());
    named.extend(scan.database.iter().map(PathBuf::as_path));
    named.extend(scan.text_model.as_deref());
    if let Some(tls) = &kafka.tls {
        named.extend(tls.ca_file.as_deref());
        if let Some(client) = &tls.client {
            named.extend([&*client.certificate_file, &*client.key_file]);
        }
    }
    // A property of librdkafka may name a file, too: of a certificate, a key table, a plugin.
    let properties = kafka.properties.values().map(Path::new);
    named.extend(properties.filter(|path| path.is_absolute()));
    let mut readable = Vec::new();
    for path in named {
        // Where the link itself is, and where it leads.
        for path in [Some(path.to_owned()), path.canonicalize().ok()] {
            let Some(path) = path else { continue };
            // The root would be everything.
            let parent = path.parent().filter(|parent| parent.parent().is_some());
            readable.extend(parent.map(Path::to_owned));
            readable.push(path);
        }
    }
    readable
}

/// The ports of `HOST:PORT,…`; a broker without one has Kafka's.
fn bootstrap_ports(brokers: &str) -> impl Iterator<Item = u16> {
    const KAFKA: u16 = 9092;
    brokers.split(',').map(|broker| {
        let port = broker.rsplit_once(':').map(|(_, port)| port.trim());
        port.and_then(|port| port.parse().ok()).unwrap_or(KAFKA)
    })
}

/// As those make it that use it: for this user alone. They report a failure.
fn make(dir: &Path) {
    let _reported_by_its_user = DirBuilder::new().recursive(true).mode(0o700).create(dir);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_a_port_has_kafkas() {
        let ports = |brokers| bootstrap_ports(brokers).collect::<Vec<_>>();
        assert_eq!(ports("a:9093, SSL://b:19092,[::1]:7"), [9093, 19092, 7]);
        assert_eq!(ports("a,PLAINTEXT://b"), [9092, 9092]);
    }

    #[test]
    fn what_a_link_leads_to_is_readable_and_so_is_what_stands_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("sets/1")).unwrap();
        std::fs::create_dir(dir.join("links")).unwrap();
        let link = dir.join("links/current");
        std::os::unix::fs::symlink(dir.join("sets/1"), &link).unwrap();
        let mut config = Config::default();
        config.scan.database = vec![link.clone()];
        let readable = readable(&config);
        for path in [
            link,
            dir.join("links"),
            dir.join("sets/1"),
            dir.join("sets"),
        ] {
            assert!(readable.contains(&path), "{path:?} of {readable:?}");
        }
        assert!(!readable.contains(&PathBuf::from("/")));
    }
}
