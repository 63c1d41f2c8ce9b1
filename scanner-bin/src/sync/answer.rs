//! What a mirror answers, read strictly: a byte in the wrong place is never written.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::trouble::Trouble;

/// What tells one content of a URL from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

impl Validators {
    /// An `ETag` that stands for every byte. A date does not: a second is long.
    pub fn strong(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        etag.starts_with('"').then_some(etag)
    }

    /// Whether there is anything to ask by.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// Status and headers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// 0 until there is one.
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// Takes a line of the head. A new status line begins a new answer: a proxy's or an interim one came before.
    pub fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line.starts_with("HTTP/") {
            let status = line.split_whitespace().nth(1);
            self.status = status.and_then(|word| word.parse().ok()).unwrap_or(0);
            self.headers.clear();
        } else if let Some((name, value)) = line.split_once(':') {
            self.headers
                .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// A header. If it comes twice and says two things, this is both, which is neither a number nor a range.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values: Vec<&str> = Vec::new();
        for (found, value) in &self.headers {
            if found == name && !values.contains(&value.as_str()) {
                values.push(value);
            }
        }
        match values[..] {
            [] => None,
            [one] => Some(Cow::Borrowed(one)),
            _ => Some(Cow::Owned(values.join(", "))),
        }
    }

    /// What the content is known by. A header that could break a request is none.
    pub fn validators(&self) -> Validators {
        let clean = |name| {
            let value = self.header(name)?;
            let is_clean = !value.is_empty()
                && value.len() < 1000
                && value.bytes().all(|byte| (b' '..0x7f).contains(&byte));
            is_clean.then(|| value.into_owned())
        };
        Validators {
            etag: clean("etag"),
            last_modified: clean("last-modified"),
        }
    }

    /// How long the mirror wants to be left alone.
    pub fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let value = self.header("retry-after")?;
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = httpdate::parse_http_date(&value).ok()?;
        Some(at.duration_since(now).unwrap_or_default())
    }

    /// The length of a whole body; `None` if it comes in chunks.
    ///
    /// # Errors
    /// It is encoded, or it ends where the connection ends: nobody could tell whether all of it came.
    pub fn whole(&self) -> Result<Option<u64>, Trouble> {
        self.identity()?;
        match self.header("content-length") {
            Some(length) => match length.parse() {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(Trouble::wrong("its Content-Length is no number")),
            },
            None if self.is_chunked() => Ok(None),
            None => Err(Trouble::wrong(
                "it does not say how long the file is (Content-Length), so that half of one would pass for all of it",
            )),
        }
    }

    /// Checks that this is the rest of what was begun.
    ///
    /// # Errors
    /// It is another part, or a part of something else.
    pub fn rest(&self, have: u64, total: u64, etag: &str) -> Result<(), Trouble> {
        self.identity()?;
        let range = self.header("content-range").unwrap_or_default();
        let wanted = format!("bytes {have}-{}/{total}", total.saturating_sub(1));
        if !range.eq_ignore_ascii_case(&wanted) {
            return Err(Trouble::wrong(format!(
                "its Content-Range is {range:?} where {wanted:?} was asked for"
            )));
        }
        if self.header("etag").is_some_and(|found| found != etag) {
            return Err(Trouble::wrong(
                "it sent a part of another file than the one that was begun (ETag)",
            ));
        }
        match self.header("content-length") {
            Some(length) if length.parse() != Ok(total.saturating_sub(have)) => Err(
                Trouble::wrong("its Content-Length does not fit its Content-Range"),
            ),
            _ => Ok(()),
        }
    }

    fn identity(&self) -> Result<(), Trouble> {
        match self.header("content-encoding").as_deref() {
            None | Some("identity" | "") => Ok(()),
            Some(encoding) => Err(Trouble::wrong(format!(
                "it sent {encoding:?} where the file itself was asked for (Content-Encoding)"
            ))),
        }
    }

    fn is_chunked(&self) -> bool {
        let coding = self.header("transfer-encoding").unwrap_or_default();
        coding.eq_ignore_ascii_case("chunked")
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn answer(lines: &[&str]) -> Answer {
        let mut answer = Answer::default();
        for line in lines {
            answer.line(format!("{line}\r\n").as_bytes());
        }
        answer
    }

    #[test]
    fn the_last_head_counts() {
        let answer = answer(&[
            "HTTP/1.1 200 Connection established",
            "ETag: \"proxy\"",
            "",
            "HTTP/1.1 304 Not Modified",
            "Last-Modified: yesterday",
        ]);
        assert_eq!(answer.status, 304);
        assert_eq!(answer.validators().etag, None);
        assert_eq!(
            answer.validators().last_modified.as_deref(),
            Some("yesterday")
        );
    }

    #[test]
    fn only_an_etag_without_w_stands_for_every_byte() {
        let strong = |etag: &str| {
            let answer = answer(&["HTTP/1.1 200 OK", &format!("eTag: {etag}")]);
            answer.validators().strong().is_some()
        };
        assert!(strong("\"a-1\""));
        assert!(!strong("W/\"a-1\""));
        assert!(!strong(""));
        assert!(!strong("\"a\u{1}\""));
    }

    #[test]
    fn a_length_is_known_or_the_body_is_not_taken() {
        let whole = |header: &str| answer(&["HTTP/1.1 200 OK", header]).whole();
        assert_eq!(whole("Content-Length: 12").unwrap(), Some(12));
        assert_eq!(whole("Transfer-Encoding: Chunked").unwrap(), None);
        let twice = [
            "HTTP/1.1 200 OK",
            "Content-Length: 12",
            "Content-Length: 13",
        ];
        assert!(answer(&twice).whole().is_err());
        for bad in ["X: y", "Content-Length: -1", "Content-Length: 1x"] {
            assert!(whole(bad).is_err(), "{bad}");
        }
        let zipped = [
            "HTTP/1.1 200 OK",
            "Content-Length: 1",
            "Content-Encoding: gzip",
        ];
        assert!(answer(&zipped).whole().is_err());
    }

    #[test]
    fn the_rest_is_the_rest_of_the_same_file_and_nothing_else() {
        let rest = |headers: &[&str]| {
            let head = [&["HTTP/1.1 206 Partial Content"], headers].concat();
            answer(&head).rest(10, 100, "\"a\"").is_ok()
        };
        assert!(rest(&["Content-Range: bytes 10-99/100"]));
        assert!(rest(&[
            "Content-Range: bytes 10-99/100",
            "ETag: \"a\"",
            "Content-Length: 90"
        ]));
        assert!(!rest(&["Content-Range: bytes 10-99/100", "ETag: \"b\""]));
        assert!(!rest(&[
            "Content-Range: bytes 10-99/100",
            "Content-Length: 89"
        ]));
        for range in ["9-99/100", "10-98/100", "10-99/101", "10-99/*", "0-99/100"] {
            assert!(
                !rest(&[&format!("Content-Range: bytes {range}")]),
                "{range}"
            );
        }
        assert!(!rest(&[]));
        let (right, wrong) = (
            "Content-Range: bytes 10-99/100",
            "Content-Range: bytes 0-89/100",
        );
        assert!(!rest(&[right, wrong]) && rest(&[right, right]));
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = SystemTime::from(datetime!(2026-01-01 00:00:00 UTC));
        let wait = |value: &str| {
            answer(&["HTTP/1.1 429 Slow", &format!("Retry-After: {value}")]).retry_after(now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            wait("Thu, 01 Jan 2026 00:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:30 GMT"), Some(Duration::ZERO));
        // The two older forms that HTTP keeps.
        assert_eq!(
            wait("Thursday, 01-Jan-26 00:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            wait("Thu Jan  1 00:00:30 2026"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(wait("soon"), None);
    }
}
