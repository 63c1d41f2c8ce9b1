/// A syslog priority: facility × 8 + severity, 0 to 191.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pri(u8);

const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

impl Pri {
    /// `None` above 191.
    pub fn new(number: u8) -> Option<Pri> {
        (number < 192).then_some(Pri(number))
    }

    /// Reads `<0>` to `<191>` at the start and says how many bytes it takes.
    #[cfg(feature = "syslog")]
    pub(super) fn read(text: &[u8]) -> Option<(Pri, usize)> {
        let digits = text
            .strip_prefix(b"<")?
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if !(1..=3).contains(&digits) || text.get(digits + 1) != Some(&b'>') {
            return None;
        }
        let number = std::str::from_utf8(&text[1..=digits]).ok()?.parse().ok()?;
        Some((Pri::new(number)?, digits + 2))
    }

    /// The number itself.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Name of the facility, for example `daemon`.
    pub fn facility(self) -> &'static str {
        FACILITIES[usize::from(self.0 / 8)]
    }

    /// Name of the severity, for example `notice`.
    pub fn level(self) -> &'static str {
        LEVELS[usize::from(self.0 % 8)]
    }
}
