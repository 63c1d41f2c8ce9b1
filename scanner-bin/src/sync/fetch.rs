//! One request, by libcurl, whose answer is judged before a byte of it is written.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use curl::easy::{Easy2, Handler, List, WriteError};

use super::answer::{Answer, Validators};
use super::mirror::Mirror;
use super::part::{Begun, Part};
use super::trouble::Trouble;

/// So many times a mirror may send us on to another place of its own.
const REDIRECTS: usize = 5;
/// Slower than so many bytes a second is standing still.
const SLOWEST: u32 = 1024;

/// So much of a page that says where else to look is thrown away.
const IGNORED: usize = 64 << 10;

/// How requests are made.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take, and how long nothing may come.
    pub patience: Duration,
    /// No file may have more bytes.
    pub max_file_bytes: u64,
}

/// What a request brought.
#[derive(Debug)]
pub enum Got {
    /// The mirror still has what was there before.
    Unchanged,
    /// All of the file is in the part.
    Whole {
        /// What this content is known by.
        validators: Validators,
        /// Its first bytes came in an earlier request.
        pieced: bool,
    },
}

/// Asks for a URL. What is in the part is gone on with if that can be; else `unless` is what need not be sent again.
///
/// # Errors
/// See [`Trouble`]. What came of the file is in the part.
pub fn get(
    mirror: &Mirror,
    url: &str,
    unless: &Validators,
    part: &mut Part,
    manner: &Manner,
) -> Result<Got, Trouble> {
    let mut at = url.to_owned();
    for _ in 0..=REDIRECTS {
        match once(url, &at, unless, part, manner)? {
            Next::Got(got) => return Ok(got),
            Next::At(next) if mirror.is_same_origin(&next) => at = next,
            Next::At(next) => return Err(Trouble::Elsewhere(next)),
        }
    }
    Err(Trouble::wrong(format!(
        "it sends us on and on, last to {at}"
    )))
}

enum Next {
    Got(Got),
    At(String),
}

fn once(
    url: &str,
    at: &str,
    unless: &Validators,
    part: &mut Part,
    manner: &Manner,
) -> Result<Next, Trouble> {
    let begun = part.begun(url);
    let mut headers = Vec::new();
    match &begun {
        Some((begun, have)) => {
            headers.push(format!("Range: bytes={have}-"));
            headers.push(format!("If-Range: {}", begun.etag));
        }
        None => {
            let etag = unless.etag.iter();
            headers.extend(etag.map(|etag| format!("If-None-Match: {etag}")));
            let date = unless.last_modified.iter();
            headers.extend(date.map(|date| format!("If-Modified-Since: {date}")));
        }
    }
    let mut easy = Easy2::new(Receiver {
        answer: Answer::default(),
        url,
        is_conditional: begun.is_none() && !unless.is_empty(),
        begun,
        limit: manner.max_file_bytes,
        part,
        judged: None,
        ignored: 0,
    });
    let performed = prepare(&mut easy, at, headers, manner).and_then(|()| easy.perform());
    let to = easy.redirect_url().ok().flatten().map(str::to_owned);
    let receiver = easy.get_mut();
    if performed.is_ok() {
        // A body of nothing is never handed over.
        receiver.judge();
    }
    match (receiver.judged.take(), performed) {
        (Some(Judged::Trouble(trouble)), _) => Err(trouble),
        (Some(Judged::Unchanged), _) => Ok(Next::Got(Got::Unchanged)),
        (Some(Judged::Elsewhere), _) => match to {
            Some(to) => Ok(Next::At(to)),
            None => Err(Trouble::wrong("it sends us elsewhere without saying where")),
        },
        (_, Err(error)) => Err(broken(&error, manner)),
        (None, Ok(())) => Err(Trouble::wrong("it answers nothing")),
        (Some(Judged::Body { total }), Ok(())) => {
            let bytes = receiver.part.bytes();
            if total.is_some_and(|total| total != bytes) {
                let why = format!("{bytes} bytes came of {}", total.unwrap_or_default());
                return Err(Trouble::Connection(why));
            }
            Ok(Next::Got(Got::Whole {
                validators: receiver.answer.validators(),
                pieced: receiver.answer.status == 206,
            }))
        }
    }
}

fn prepare(
    easy: &mut Easy2<Receiver<'_>>,
    url: &str,
    headers: Vec<String>,
    manner: &Manner,
) -> Result<(), curl::Error> {
    easy.url(url)?;
    easy.useragent(concat!("scanner-bin/", env!("CARGO_PKG_VERSION")))?;
    easy.connect_timeout(manner.patience)?;
    easy.low_speed_limit(SLOWEST)?;
    easy.low_speed_time(manner.patience)?;
    // Redirects are judged first.
    easy.follow_location(false)?;
    if let Some(path) = &manner.ca_file {
        easy.cainfo(path)?;
    }
    let mut list = List::new();
    for header in headers {
        list.append(&header)?;
    }
    easy.http_headers(list)
}

/// What libcurl says of a connection that did not do.
fn broken(error: &curl::Error, manner: &Manner) -> Trouble {
    let text = match error.extra_description() {
        Some(more) if !more.is_empty() => format!("{}: {more}", error.description()),
        _ => error.description().to_owned(),
    };
    if error.is_operation_timedout() {
        let seconds = manner.patience.as_secs();
        return Trouble::Connection(format!("nothing came for {seconds} s (--patience): {text}"));
    }
    match error.is_peer_failed_verification()
        || error.is_ssl_cacert()
        || error.is_ssl_cacert_badfile()
        || error.is_ssl_certproblem()
    {
        true => Trouble::NotTrusted(text),
        false => Trouble::Connection(text),
    }
}

/// What is to be made of an answer.
enum Judged {
    /// The body is the file, or the rest of it.
    Body {
        /// Its length, if it is known.
        total: Option<u64>,
    },
    /// There is nothing new.
    Unchanged,
    /// It is somewhere else.
    Elsewhere,
    /// It is no use.
    Trouble(Trouble),
}

/// Takes what comes.
struct Receiver<'a> {
    answer: Answer,
    url: &'a str,
    /// What is gone on with, if anything, and how much of it is there.
    begun: Option<(Begun, u64)>,
    /// It was said what need not be sent.
    is_conditional: bool,
    limit: u64,
    part: &'a mut Part,
    judged: Option<Judged>,
    ignored: usize,
}

impl Receiver<'_> {
    /// Judges the head, once.
    fn judge(&mut self) {
        if self.judged.is_none() {
            self.judged = Some(self.head().unwrap_or_else(Judged::Trouble));
        }
    }

    fn head(&mut self) -> Result<Judged, Trouble> {
        match (self.answer.status, &self.begun) {
            (200, _) => {
                let total = self.answer.whole()?;
                self.within(total.unwrap_or(0))?;
                let validators = self.answer.validators();
                self.part.start(self.url, &validators, total)?;
                Ok(Judged::Body { total })
            }
            (206, Some((begun, have))) => {
                let judged = self.answer.rest(*have, begun.total, &begun.etag);
                if judged.is_err() {
                    self.part.forget()?;
                }
                judged?;
                self.within(begun.total)?;
                Ok(Judged::Body {
                    total: Some(begun.total),
                })
            }
            (206, None) => Err(Trouble::wrong(
                "it sent a part where all of it was asked for (206)",
            )),
            (304, _) if self.is_conditional => Ok(Judged::Unchanged),
            (304, _) => Err(Trouble::wrong(
                "it says that nothing changed, which was not the question (304)",
            )),
            (416, Some(_)) => {
                self.part.forget()?;
                Err(Trouble::wrong(
                    "it does not have the rest of what was begun (416)",
                ))
            }
            (301 | 302 | 303 | 307 | 308, _) => Ok(Judged::Elsewhere),
            (404 | 410, _) => Err(Trouble::Missing),
            (status @ (408 | 429 | 500..), _) => Err(Trouble::Busy {
                status,
                after: self.answer.retry_after(SystemTime::now()),
            }),
            (status, _) => Err(Trouble::Status { status }),
        }
    }

    fn within(&self, bytes: u64) -> Result<(), Trouble> {
        match bytes > self.limit {
            true => Err(Trouble::TooLarge { limit: self.limit }),
            false => Ok(()),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Trouble> {
        self.within(self.part.bytes() + data.len() as u64)?;
        Ok(self.part.append(data)?)
    }
}

impl Handler for Receiver<'_> {
    fn header(&mut self, data: &[u8]) -> bool {
        self.answer.line(data);
        true
    }

    fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        self.judge();
        match self.judged {
            Some(Judged::Body { .. }) => {}
            // libcurl says where to only at the end.
            Some(Judged::Elsewhere) if self.ignored < IGNORED => {
                self.ignored += data.len();
                return Ok(data.len());
            }
            // Fewer than all are taken for an error: the rest of an error page is nobody's concern.
            _ => return Ok(0),
        }
        match self.take(data) {
            Ok(()) => Ok(data.len()),
            Err(trouble) => {
                self.judged = Some(Judged::Trouble(trouble));
                Ok(0)
            }
        }
    }
}
