//! The records of the demo: realistic syslog traffic, with a few messages that must be found.
//!
//! The same seed gives the same records, so that two runs can be compared.

use scanlib::Severity;
use scanlib::eicar;

use crate::random::SplitMix;

/// One record to send.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Its bytes.
    pub value: Vec<u8>,
    /// What the scanner has to say of it.
    pub expected: Expected,
}

/// What the scanner has to say of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Expected {
    /// Ordinary traffic: nothing is to be found.
    Clean,
    /// One of the planted messages.
    Planted(Planted),
}

/// The messages that the demo plants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Planted {
    /// EICAR behind a syslog prefix, inside a JSON record.
    Eicar,
    /// PowerShell with an encoded command.
    PowerShell,
    /// A URL of the kind that is worth a second look.
    Url,
    /// A stacked SQL statement.
    Sql,
    /// A message of the same kind in which there is nothing to find.
    Harmless,
}

impl Planted {
    /// All of them.
    pub(super) const ALL: [Planted; 5] = [
        Planted::Eicar,
        Planted::PowerShell,
        Planted::Url,
        Planted::Sql,
        Planted::Harmless,
    ];

    /// The name under which it has to be found, and the severity; `None` if it has to be clean.
    pub(super) fn detection(self) -> Option<(&'static str, Severity)> {
        match self {
            Planted::Eicar => Some(("Malicious pattern: eicar_test", Severity::High)),
            Planted::PowerShell => Some(("Malicious pattern: powershell_encoded", Severity::High)),
            Planted::Url => Some(("Suspicious content: suspicious_url", Severity::Medium)),
            Planted::Sql => Some(("Injection attempt: sql_injection", Severity::High)),
            Planted::Harmless => None,
        }
    }

    fn text(self) -> String {
        match self {
            Planted::Eicar => eicar::text(),
            // "Write-Host demo" in UTF-16LE and base64.
            Planted::PowerShell => {
                "powershell.exe -nop -w hidden -enc VwByAGkAdABlAC0ASABvAHMAdAAgAGQAZQBtAG8A".into()
            }
            Planted::Url => "GET http://malicious-site.example/payload.exe".into(),
            Planted::Sql => "login failed: user='admin'; DROP TABLE users; --'".into(),
            Planted::Harmless => "user logged in successfully".into(),
        }
    }
}

/// Records that hold each planted message once, spread over `count` records of ordinary traffic.
pub(super) fn records(seed: u64, count: usize) -> Vec<Record> {
    let mut random = SplitMix::new(seed);
    let mut records: Vec<Record> = (0..count).map(|n| ordinary(&mut random, n)).collect();
    let step = (count / (Planted::ALL.len() + 1)).max(1);
    for (place, planted) in Planted::ALL.into_iter().enumerate() {
        let line = format!("Oct 20 02:44:02 test-host test-app: {}", planted.text());
        let at = ((place + 1) * step + 2 * place).min(records.len());
        records.insert(
            at,
            Record {
                value: json(&line, 4),
                expected: Expected::Planted(planted),
            },
        );
    }
    records
}

/// One line of ordinary traffic, as plain syslog or wrapped by a collector in JSON.
fn ordinary(random: &mut SplitMix, n: usize) -> Record {
    let host = ["web-1", "web-2", "db-1", "edge", "build-7"][random.below(5) as usize];
    let ip = format!("192.0.2.{}", random.below(254) + 1);
    let pid = 300 + random.below(30_000);
    let (pri, text) = match random.below(6) {
        0 => (
            38,
            format!(
                "sshd[{pid}]: Accepted publickey for deploy from {ip} port {} ssh2",
                1024 + random.below(60_000)
            ),
        ),
        1 => (
            30,
            format!(
                "systemd[1]: Started Session {} of User deploy.",
                random.below(9_000)
            ),
        ),
        2 => (
            78,
            format!(
                "CRON[{pid}]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)"
            ),
        ),
        3 => (
            134,
            format!(
                "nginx: {ip} - - \"GET /assets/app.{}.js HTTP/1.1\" 200 {}",
                random.below(99_999),
                random.below(90_000)
            ),
        ),
        4 => (
            6,
            format!(
                "kernel: [{}.{:06}] eth0: link up, 10000 Mbps, full duplex",
                1000 + random.below(90_000),
                random.below(999_999)
            ),
        ),
        _ => (
            134,
            format!(
                "haproxy[{pid}]: {ip}:{} frontend~ api/srv{} 0/0/1/{}/{} 200",
                1024 + random.below(60_000),
                random.below(4),
                random.below(90),
                random.below(900)
            ),
        ),
    };
    let line = match n % 3 {
        0 => format!(
            "<{pri}>1 2026-10-20T02:{:02}:{:02}.{:03}Z {host} {}",
            n / 60 % 60,
            n % 60,
            n % 1000,
            rfc5424(&text)
        ),
        _ => format!(
            "<{pri}>Oct 20 02:{:02}:{:02} {host} {text}",
            n / 60 % 60,
            n % 60
        ),
    };
    let value = if n.is_multiple_of(2) {
        line.into_bytes()
    } else {
        json(&line, pri & 7)
    };
    Record {
        value,
        expected: Expected::Clean,
    }
}

/// `app[pid]: text` in the words of RFC 5424: APP-NAME, PROCID, MSGID, no structured data.
fn rfc5424(text: &str) -> String {
    let (tag, message) = text.split_once(": ").unwrap_or(("-", text));
    let (app, pid) = tag
        .split_once('[')
        .map_or((tag, "-"), |(a, p)| (a, p.trim_end_matches(']')));
    format!("{app} {pid} - - {message}")
}

/// A record as the collector of the earlier deployment wrote it.
fn json(line: &str, severity: usize) -> Vec<u8> {
    let level = [
        "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
    ][severity];
    serde_json::json!({
        "message": line, "source_ip": "192.0.2.1", "source_host": "gateway", "source_port": "32596",
        "facility": "user", "priority": level, "level": level, "program": "collector", "pid": "",
        "timestamp": "2026-10-20T02:44:02Z",
    })
    .to_string()
    .into_bytes()
}
