//! Text of the kind that logs are made of: words of our own, and real lines where they are at hand.

use super::random::Random;

const WORDS: &[&str] = &[
    "sshd[4721]:",
    "Failed",
    "password",
    "for",
    "root",
    "from",
    "10.1.2.3",
    "port",
    "22",
    "GET",
    "/index.php?id=1",
    "HTTP/1.1\"",
    "200",
    "Mozilla/5.0",
    "kernel:",
    "eth0:",
    "link",
    "up",
    "user=admin",
    "action=deny",
    "src=192.168.0.7",
    "dst=8.8.8.8",
    "proto=TCP",
    "CRON[991]:",
    "session",
    "opened",
    "Oct 11 22:14:15",
    "<34>1",
    "2026-03-01T12:00:00Z",
    "level=info",
    "msg=\"request",
    "done\"",
    "C:\\Windows\\System32\\cmd.exe",
    "EventID=4688",
    "error:",
    "timeout",
    "after",
    "30s",
    "{\"a\":1}",
    "systemd[1]:",
    "Started",
    "nginx",
    "-",
    "[warn]",
    "http://example.org/a",
    "curl/7.88",
    "status=ok",
    "caf\u{e9}",
    "\u{4e2d}\u{6587}",
    "key",
    "TLSv1.2",
    "select",
    "union",
    "/etc/passwd",
    "cmd",
    "echo",
    "base64",
    "java.lang.String",
];

/// The words of this program, and what lines it was given.
pub struct Words {
    lines: Vec<Vec<u8>>,
}

impl Words {
    pub fn new(lines: Vec<Vec<u8>>) -> Words {
        Words { lines }
    }

    /// A few words, or a piece of a real line.
    pub fn phrase(&self, random: &mut Random) -> Vec<u8> {
        if !self.lines.is_empty() && random.percent(30) {
            let line = random.pick(&self.lines);
            let start = random.below(line.len());
            let end = (start + random.between(1, 80)).min(line.len());
            return line[start..end].to_vec();
        }
        let count = random.between(1, 6);
        let words: Vec<_> = (0..count).map(|_| *random.pick(WORDS)).collect();
        words.join(" ").into_bytes()
    }

    /// An ordinary message.
    pub fn line(&self, random: &mut Random) -> Vec<u8> {
        if !self.lines.is_empty() && random.percent(70) {
            return random.pick(&self.lines).clone();
        }
        let mut out = Vec::new();
        for _ in 0..random.between(1, 8) {
            out.extend(self.phrase(random));
            out.push(b' ');
        }
        out
    }
}
