//! Times as results and log lines write them: RFC 3339, UTC, milliseconds.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

const MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// `2025-10-20T02:44:02.484Z`
pub fn rfc3339_millis(at: OffsetDateTime) -> String {
    // Every date of the calendar has this form.
    at.to_offset(UtcOffset::UTC)
        .format(MILLIS)
        .unwrap_or_default()
}

/// The same for milliseconds since 1970; `None` if that is outside of the years 0 to 9999.
pub fn rfc3339_from_millis(millis: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    (0..=9999).contains(&at.year()).then(|| rfc3339_millis(at))
}
