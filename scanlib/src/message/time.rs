//! The times that syslog writes: RFC 3339, and `Oct 19 21:44:02` with or without year and zone.

use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use super::cursor::Cursor;

/// A time as read, perhaps without year.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    year: Option<i32>,
    month: Month,
    day: u8,
    time: Time,
    zone: Zone,
}

#[derive(Clone, Copy, Debug)]
enum Zone {
    /// Nothing said: taken as UTC.
    Absent,
    Offset(UtcOffset),
    /// An abbreviation we do not know: the time cannot be placed.
    Unknown,
}

/// Abbreviations with one common meaning, in minutes east of UTC. `IST` and its like have several.
const ZONES: [(&[u8], i16); 22] = [
    (b"UTC", 0),
    (b"GMT", 0),
    (b"UT", 0),
    (b"Z", 0),
    (b"EST", -300),
    (b"EDT", -240),
    (b"CST", -360),
    (b"CDT", -300),
    (b"MST", -420),
    (b"MDT", -360),
    (b"PST", -480),
    (b"PDT", -420),
    (b"WET", 0),
    (b"WEST", 60),
    (b"CET", 60),
    (b"CEST", 120),
    (b"EET", 120),
    (b"EEST", 180),
    (b"MSK", 180),
    (b"JST", 540),
    (b"AEST", 600),
    (b"AEDT", 660),
];

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const WEEKDAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

impl Stamp {
    /// `2003-10-11T22:14:15.003Z`; a blank instead of the `T`, a comma instead of the point and a
    /// missing zone are tolerated.
    pub(super) fn read_rfc3339(cursor: &mut Cursor<'_>) -> Option<Stamp> {
        let mut c = *cursor;
        let year = c.number(4, 4)?;
        c.eat(b'-')?;
        let month = Month::try_from(u8::try_from(c.number(2, 2)?).ok()?).ok()?;
        c.eat(b'-')?;
        let day = u8::try_from(c.number(2, 2)?).ok()?;
        c.eat_any(b"Tt ")?;
        let time = read_clock(&mut c)?;
        let zone = read_offset(&mut c).map_or(Zone::Absent, Zone::Offset);
        let year = Some(i32::try_from(year).ok()?);
        *cursor = c;
        Some(Stamp {
            year,
            month,
            day,
            time,
            zone,
        })
    }

    /// `Oct 19 21:44:02`, after a weekday, with a year before or after the clock, with a zone, with
    /// a colon at the end: whatever of these is there.
    pub(super) fn read_bsd(cursor: &mut Cursor<'_>) -> Option<Stamp> {
        let mut c = *cursor;
        if read_name(&mut c, &WEEKDAYS).is_some() {
            c.eat_any(b", ")?;
            c.skip_blanks();
        }
        let month = u8::try_from(read_name(&mut c, &MONTHS)? + 1).ok()?;
        let month = Month::try_from(month).ok()?;
        blanks(&mut c)?;
        let day = u8::try_from(c.number(1, 2)?).ok()?;
        blanks(&mut c)?;
        let mut year = read_year(&mut c);
        if year.is_some() {
            blanks(&mut c)?;
        }
        let time = read_clock(&mut c)?;
        let mut zone = Zone::Absent;
        for _ in 0..2 {
            let mut next = c;
            if blanks(&mut next).is_none() {
                break;
            }
            if year.is_none()
                && let Some(found) = read_year(&mut next)
            {
                year = Some(found);
            } else if matches!(zone, Zone::Absent)
                && let Some(found) = read_zone(&mut next)
            {
                zone = found;
            } else {
                break;
            }
            c = next;
        }
        // Some devices end the time with a colon; it must not look like a tag.
        if c.rest().starts_with(b": ") {
            c.skip(1);
        }
        *cursor = c;
        Some(Stamp {
            year,
            month,
            day,
            time,
            zone,
        })
    }

    /// The instant. Without a year it is the last one that is not more than a day after
    /// `reference`; without reference it stays unknown.
    pub(super) fn resolve(&self, reference: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
        let offset = match self.zone {
            Zone::Absent => UtcOffset::UTC,
            Zone::Offset(offset) => offset,
            Zone::Unknown => return None,
        };
        let in_year = |year| {
            let date = Date::from_calendar_date(year, self.month, self.day).ok()?;
            // Checked: the last hours of the year 9999 have no UTC form, and the first of the year 0
            // have none in RFC 3339.
            PrimitiveDateTime::new(date, self.time)
                .assume_offset(offset)
                .checked_to_offset(UtcOffset::UTC)
                .filter(|time| time.year() >= 0)
        };
        if let Some(year) = self.year {
            return in_year(year);
        }
        let latest = reference?.checked_add(Duration::DAY)?;
        // Four years back, for the 29th of February.
        (0..=5)
            .filter_map(|back| in_year(latest.year() + 1 - back))
            .find(|time| *time <= latest)
    }
}

/// Milliseconds since 1970 in UTC as an instant.
pub(super) fn from_unix_ms(ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

/// A whole text as RFC 3339.
pub(super) fn parse_rfc3339(text: &[u8]) -> Option<OffsetDateTime> {
    let mut cursor = Cursor::new(text);
    let stamp = Stamp::read_rfc3339(&mut cursor)?;
    if cursor.rest().is_empty() {
        stamp.resolve(None)
    } else {
        None
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn format(time: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

fn blanks(c: &mut Cursor<'_>) -> Option<()> {
    (c.skip_blanks() > 0).then_some(())
}

/// Three letters out of a list, any case, as a word of their own; gives the place in the list.
fn read_name(c: &mut Cursor<'_>, names: &[&[u8]]) -> Option<usize> {
    let found = c.rest().get(..3)?;
    let place = names
        .iter()
        .position(|name| found.eq_ignore_ascii_case(name))?;
    if c.rest().get(3).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    c.skip(3);
    Some(place)
}

/// `21:44:02`, with any number of decimals, of which three count. A leap second is the last
/// ordinary one.
fn read_clock(c: &mut Cursor<'_>) -> Option<Time> {
    let mut part = || u8::try_from(c.number(2, 2)?).ok();
    let hour = part()?;
    c.eat(b':')?;
    let minute = u8::try_from(c.number(2, 2)?).ok()?;
    c.eat(b':')?;
    let second = u8::try_from(c.number(2, 2)?).ok()?;
    let mut milli = 0;
    let mut fraction = *c;
    if fraction.eat_any(b".,").is_some() {
        let before = fraction.at();
        if let Some(digits) = fraction.number(1, 3) {
            let scale = [100, 10, 1][fraction.at() - before - 1];
            milli = u16::try_from(digits * scale).ok()?;
            fraction.skip_while(|b| b.is_ascii_digit());
            *c = fraction;
        }
    }
    Time::from_hms_milli(hour, minute, if second == 60 { 59 } else { second }, milli).ok()
}

/// `Z`, `+02:00`, `-0530`.
fn read_offset(c: &mut Cursor<'_>) -> Option<UtcOffset> {
    let mut next = *c;
    let offset = if next.eat_any(b"Zz").is_some() {
        UtcOffset::UTC
    } else {
        let sign = if next.eat_any(b"+-")? == b'-' { -1 } else { 1 };
        let hours = i8::try_from(next.number(2, 2)?).ok()?;
        let _ = next.eat(b':');
        let minutes = i8::try_from(next.number(2, 2)?).ok()?;
        UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?
    };
    *c = next;
    Some(offset)
}

/// Four digits of a plausible year as a word of their own.
fn read_year(c: &mut Cursor<'_>) -> Option<i32> {
    let mut next = *c;
    let year = next
        .number(4, 4)
        .filter(|year| (1970..2200).contains(year))?;
    if !matches!(next.peek(), None | Some(b' ' | b'\t' | b':')) {
        return None;
    }
    *c = next;
    i32::try_from(year).ok()
}

/// A known abbreviation, or two to five capitals in front of a year: anything else in this place
/// may be the host.
fn read_zone(c: &mut Cursor<'_>) -> Option<Zone> {
    let mut next = *c;
    let word = next.word()?;
    let known = ZONES.iter().find(|(name, _)| *name == word);
    let zone = if let Some((_, minutes)) = known {
        Zone::Offset(UtcOffset::from_whole_seconds(i32::from(*minutes) * 60).ok()?)
    } else {
        let mut after = next;
        let capitals = (2..=5).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase);
        if !capitals || blanks(&mut after).is_none() || read_year(&mut after).is_none() {
            return None;
        }
        Zone::Unknown
    };
    *c = next;
    Some(zone)
}
