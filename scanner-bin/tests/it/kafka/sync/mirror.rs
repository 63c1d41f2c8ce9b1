//! A web server as private mirrors are, and as they are not: it counts requests, and misbehaves where it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How one request is answered, other than well.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Well.
    Well,
    /// Well, but the connection ends after so many bytes of the body.
    Cut(usize),
    /// In chunks, of which the last is missing.
    CutChunks(usize),
    /// With a length that is so much more than what comes.
    Longer(usize),
    /// All of it, with a length that leaves the end out.
    Shorter(usize),
    /// Without a length: it ends where the connection ends.
    NoLength,
    /// In chunks.
    Chunked,
    /// A part, with this `Content-Range`.
    Range(&'static str),
    /// A status, and headers.
    Status(u16, String),
    /// Nothing for so long, and then well.
    Silent(Duration),
    /// So many bytes of the body, and then nothing for so long.
    Stalled(usize, Duration),
    /// Without end, in chunks.
    Endless,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// What was answered.
    pub(crate) status: u16,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    acts: BTreeMap<String, VecDeque<Act>>,
    seen: Vec<Seen>,
    etags: bool,
    ranges: bool,
    dates: bool,
}

pub(crate) struct Mirror {
    port: u16,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Mirror {
    pub(crate) fn start() -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            files: BTreeMap::new(),
            acts: BTreeMap::new(),
            seen: Vec::new(),
            etags: true,
            ranges: true,
            dates: true,
        };
        let mirror = Mirror {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(state)),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let (state, stop) = (Arc::clone(&mirror.state), Arc::clone(&mirror.stop));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let state = Arc::clone(&state);
                // The client may have gone.
                thread::spawn(move || serve(stream.unwrap(), &state).ok());
            }
        });
        mirror
    }

    /// Knows files by neither tag nor date, and sends all of them always.
    pub(crate) fn simple(&self) {
        let mut state = self.state.lock().unwrap();
        (state.etags, state.ranges, state.dates) = (false, false, false);
    }

    pub(crate) fn without_ranges(&self) {
        self.state.lock().unwrap().ranges = false;
    }

    pub(crate) fn without_etags(&self) {
        self.state.lock().unwrap().etags = false;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/clamav", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        state.files.insert(name.to_owned(), content.into());
    }

    /// How the next requests for a file are answered.
    pub(crate) fn acts(&self, name: &str, acts: impl IntoIterator<Item = Act>) {
        let mut state = self.state.lock().unwrap();
        state.acts.entry(name.to_owned()).or_default().extend(acts);
    }

    /// The requests for a file so far, which are forgotten.
    pub(crate) fn seen(&self, name: &str) -> Vec<Seen> {
        let mut state = self.state.lock().unwrap();
        let path = format!("/clamav/{name}");
        let (found, others) = state.seen.drain(..).partition(|seen| seen.path == path);
        state.seen = others;
        found
    }

    /// All requests so far.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().seen.len()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

/// Names a content as long as it does not change.
fn etag(content: &[u8]) -> String {
    let sum = content.iter().fold(17u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    format!("\"{sum:x}-{:x}\"", content.len())
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or("").to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            None => break,
        }
    }
    if path.is_empty() {
        return Ok(());
    }
    let name = path.rsplit('/').next().unwrap_or("").to_owned();
    let (content, act, has_etag, has_ranges, has_date) = {
        let mut state = state.lock().unwrap();
        let act = state.acts.get_mut(&name).and_then(VecDeque::pop_front);
        (
            state.files.get(&name).cloned(),
            act.unwrap_or(Act::Well),
            state.etags,
            state.ranges,
            state.dates,
        )
    };
    let note = |status: u16| {
        state.lock().unwrap().seen.push(Seen {
            path: path.clone(),
            headers: headers.clone(),
            status,
        });
    };
    if let Act::Status(status, more) = &act {
        note(*status);
        let body = "an error page";
        let length = body.len();
        return write!(
            stream,
            "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
        );
    }
    if let Act::Silent(wait) = act {
        note(0);
        thread::sleep(wait);
    }
    let Some(content) = content else {
        note(404);
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let tag = etag(&content);
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let mut head = String::from("Connection: close\r\n");
    if has_etag {
        head += &format!("ETag: {tag}\r\n");
    }
    if has_date {
        head += &format!("Last-Modified: {date}\r\n");
    }
    let get = |name: &str| headers.get(name).map(String::as_str);
    let is_known = match (has_etag, get("if-none-match")) {
        (true, Some(known)) => known == tag,
        (false, _) if has_date => get("if-modified-since") == Some(date),
        _ => false,
    };
    if is_known {
        note(304);
        return write!(stream, "HTTP/1.1 304 Not Modified\r\n{head}\r\n");
    }
    let from = get("range")
        .filter(|_| has_ranges && !matches!(act, Act::Range(_)))
        .filter(|_| get("if-range").is_none_or(|range| range == tag))
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    let (status, body) = match from {
        Some(from) if from >= content.len() => {
            note(416);
            return write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n{head}\r\n"
            );
        }
        Some(from) => {
            let last = content.len() - 1;
            head += &format!("Content-Range: bytes {from}-{last}/{}\r\n", content.len());
            (206, &content[from..])
        }
        None => (200, &content[..]),
    };
    note(status);
    let length = body.len();
    let head = |status: u16, more: &str| format!("HTTP/1.1 {status} Said\r\n{head}{more}\r\n");
    let sized = |length: usize| format!("Content-Length: {length}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut send = |text: &str, body: &[u8]| -> std::io::Result<()> {
        stream.write_all(text.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()
    };
    match act {
        Act::Well | Act::Silent(_) | Act::Status(..) => send(&head(status, &sized(length)), body)?,
        Act::Cut(bytes) => send(&head(status, &sized(length)), &body[..bytes.min(length)])?,
        Act::Longer(more) => send(&head(status, &sized(length + more)), body)?,
        Act::Shorter(less) => send(&head(status, &sized(length - less)), body)?,
        Act::NoLength => send(&head(status, ""), body)?,
        Act::Range(range) => send(
            &head(206, &format!("Content-Range: {range}\r\n{}", sized(length))),
            body,
        )?,
        Act::Chunked => {
            send(&head(status, chunked), format!("{length:x}\r\n").as_bytes())?;
            send("", body)?;
            send("\r\n0\r\n\r\n", b"")?;
        }
        Act::CutChunks(bytes) => {
            send(&head(status, chunked), format!("{bytes:x}\r\n").as_bytes())?;
            send("", &body[..bytes])?;
            send("\r\n", b"")?;
        }
        Act::Stalled(bytes, wait) => {
            send(&head(status, &sized(length)), &body[..bytes])?;
            thread::sleep(wait);
        }
        Act::Endless => {
            send(&head(status, chunked), b"")?;
            let block = [b'x'; 1 << 16];
            loop {
                send("10000\r\n", &block)?;
                send("\r\n", b"")?;
            }
        }
    }
    // A connection that is closed with something unread in it is reset, and what was sent is lost.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut rest = [0; 1024];
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}
