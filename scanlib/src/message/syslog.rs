//! Syslog headers, read tolerantly. The parser never fails: what it does not recognise stays in
//! the body, so a wrong guess costs metadata and no byte.

use super::cursor::Cursor;
use super::time::Stamp;
use super::{Format, Pri};

/// What the header of a text says, and where the body starts.
pub(super) struct Syslog<'t> {
    pub(super) format: Format,
    pub(super) pri: Option<Pri>,
    pub(super) stamp: Option<Stamp>,
    pub(super) host: Option<&'t [u8]>,
    pub(super) app: Option<&'t [u8]>,
    pub(super) pid: Option<&'t [u8]>,
    pub(super) body_start: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longer words are no host name, longer tags no program.
const MAX_HOST: usize = 255;
const MAX_TAG: usize = 64;

/// What application logs write where syslog has the host.
const LEVEL_WORDS: [&[u8]; 11] = [
    b"TRACE",
    b"DEBUG",
    b"INFO",
    b"NOTICE",
    b"WARN",
    b"WARNING",
    b"ERROR",
    b"ERR",
    b"CRITICAL",
    b"FATAL",
    b"SEVERE",
];

pub(super) fn parse(text: &[u8]) -> Syslog<'_> {
    let mut start = Cursor::new(text);
    if start.rest().starts_with(BYTE_ORDER_MARK) {
        start.skip(BYTE_ORDER_MARK.len());
    }
    start.skip_while(|b| b.is_ascii_whitespace());
    skip_octet_count(&mut start);
    let mut after_pri = start;
    let pri = Pri::read(start.rest()).map(|(pri, length)| {
        after_pri.skip(length);
        pri
    });
    if let Some(pri) = pri
        && let Some(found) = rfc5424(after_pri, pri)
    {
        return found;
    }
    rfc3164(after_pri, pri).unwrap_or(Syslog {
        format: Format::Plain,
        pri: None,
        stamp: None,
        host: None,
        app: None,
        pid: None,
        body_start: 0,
    })
}

/// `57 <34>…`, as messages are framed on TCP.
fn skip_octet_count(cursor: &mut Cursor<'_>) {
    let mut c = *cursor;
    if c.number(1, 9).is_some() && c.eat(b' ').is_some() && c.peek() == Some(b'<') {
        *cursor = c;
    }
}

/// `VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP MSG]`;
/// structured data that is missing or broken is part of the body.
fn rfc5424<'t>(mut c: Cursor<'t>, pri: Pri) -> Option<Syslog<'t>> {
    c.number(1, 3)?;
    c.eat(b' ')?;
    let stamp = if c.rest().starts_with(b"- ") {
        c.skip(1);
        None
    } else {
        Some(Stamp::read_rfc3339(&mut c)?)
    };
    let mut word = || {
        c.eat(b' ')?;
        c.word()
    };
    let (host, app, pid, _msgid) = (word()?, word()?, word()?, word()?);
    c.eat(b' ')?;
    if c.peek() == Some(b'-') && c.rest().get(1).is_none_or(|b| *b <= b' ') {
        c.skip(1);
    } else {
        skip_structured_data(&mut c);
    }
    c.skip_blanks();
    if c.rest().starts_with(BYTE_ORDER_MARK) {
        c.skip(BYTE_ORDER_MARK.len());
    }
    let known = |word: &'t [u8]| (word != b"-").then_some(word);
    Some(Syslog {
        format: Format::Rfc5424,
        pri: Some(pri),
        stamp,
        host: known(host),
        app: known(app),
        pid: known(pid),
        body_start: c.at(),
    })
}

/// One or more `[id name="value" …]`; stays where it is if an element does not end.
fn skip_structured_data(cursor: &mut Cursor<'_>) {
    let mut c = *cursor;
    while c.eat(b'[').is_some() {
        let (mut quoted, mut escaped, mut closed) = (false, false, false);
        let length = c
            .rest()
            .iter()
            .take_while(|&&b| {
                closed = !quoted && b == b']';
                quoted ^= b == b'"' && !escaped;
                escaped = quoted && b == b'\\' && !escaped;
                !closed
            })
            .count();
        if !closed {
            return;
        }
        c.skip(length + 1);
        *cursor = c;
    }
}

/// `TIMESTAMP HOST TAG[PID]: MSG` of which anything may be missing. Without a priority it is
/// believed only with a time, a host and a tag: other logs start with a time, too.
fn rfc3164<'t>(mut c: Cursor<'t>, pri: Option<Pri>) -> Option<Syslog<'t>> {
    c.skip_blanks();
    let stamp = match Stamp::read_bsd(&mut c) {
        Some(stamp) => Some(stamp),
        // With a blank in the middle it is a database's or an application's time.
        None if pri.is_some() || c.rest().get(10) == Some(&b'T') => Stamp::read_rfc3339(&mut c),
        None => None,
    };
    if stamp.is_none() && pri.is_none() {
        return None;
    }
    c.skip_blanks();
    let mut tag = read_tag(&mut c);
    let mut host = None;
    if tag.is_none() && stamp.is_some() {
        host = read_host(&mut c);
        if host.is_some() {
            c.skip_blanks();
            tag = read_tag(&mut c);
        }
    }
    if pri.is_none() && (host.is_none_or(|word| LEVEL_WORDS.contains(&word)) || tag.is_none()) {
        return None;
    }
    c.skip_blanks();
    let (app, pid) = tag.unwrap_or_default();
    Some(Syslog {
        format: Format::Rfc3164,
        pri,
        stamp,
        host,
        app,
        pid,
        body_start: c.at(),
    })
}

fn read_host<'t>(cursor: &mut Cursor<'t>) -> Option<&'t [u8]> {
    let mut c = *cursor;
    let word = c.word()?;
    let plausible = |b: &u8| b.is_ascii_alphanumeric() || b".-_:/%#@".contains(b);
    if word.len() > MAX_HOST || !word.iter().all(plausible) {
        return None;
    }
    *cursor = c;
    Some(word)
}

type Tag<'t> = (Option<&'t [u8]>, Option<&'t [u8]>);

/// `program:`, `program[pid]:` or `program[pid]`, each in front of a blank or the end.
/// `http://…` and `10:30` are thereby none.
fn read_tag<'t>(cursor: &mut Cursor<'t>) -> Option<Tag<'t>> {
    let mut c = *cursor;
    let window = &c.rest()[..c.rest().len().min(MAX_TAG)];
    let length = window
        .iter()
        .take_while(|&&b| b > b' ' && b != b'[' && b != b':' && b != 0x7f)
        .count();
    if length == 0 {
        return None;
    }
    let app = &c.rest()[..length];
    c.skip(length);
    let mut pid = None;
    if c.eat(b'[').is_some() {
        let window = &c.rest()[..c.rest().len().min(MAX_TAG)];
        let length = window.iter().position(|&b| b == b']')?;
        let inner = &window[..length];
        if inner.is_empty() || !inner.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        pid = Some(inner);
        c.skip(length + 1);
        let _ = c.eat(b':');
    } else {
        c.eat(b':')?;
    }
    if !matches!(c.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
        return None;
    }
    *cursor = c;
    Some((Some(app), pid))
}
