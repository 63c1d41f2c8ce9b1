//! The members of a JSON object, read from bytes that need not be UTF-8.
//!
//! A strict reader would give up on one bad byte or one lone surrogate anywhere in the record, and
//! the message field would stay escaped and hide what it holds. This one checks only the structure
//! it needs: it takes every valid object, and some that are not.

use std::borrow::Cow;

use memchr::memchr2;

use super::cursor::Cursor;

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'t> {
    String(Quoted<'t>),
    /// A number, `true` or `false`, as written.
    Word(&'t [u8]),
    /// `null`, an array or an object.
    Other,
}

/// What stands between two quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted<'t> {
    inner: &'t [u8],
    escaped: bool,
}

impl<'t> Quoted<'t> {
    /// Without escapes. A lone surrogate becomes U+FFFD; what is no escape stays as it is.
    pub(super) fn unescape(self) -> Cow<'t, [u8]> {
        if self.escaped {
            Cow::Owned(unescape(self.inner))
        } else {
            Cow::Borrowed(self.inner)
        }
    }
}

/// Calls `member` for each member of the object that `text` is; `None` if it is no whole object.
/// Members before the place where it breaks were already passed on.
pub(super) fn object<'t>(
    text: &'t [u8],
    mut member: impl FnMut(Quoted<'t>, Value<'t>),
) -> Option<()> {
    let mut c = Cursor::new(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    space(&mut c);
    c.eat(b'{')?;
    space(&mut c);
    if c.eat(b'}').is_none() {
        loop {
            let name = quoted(&mut c)?;
            space(&mut c);
            c.eat(b':')?;
            space(&mut c);
            member(name, value(&mut c)?);
            space(&mut c);
            if c.eat_any(b",}")? == b'}' {
                break;
            }
            space(&mut c);
        }
    }
    // Collectors may end a record with a line feed or a zero byte.
    c.skip_while(|b| b.is_ascii_whitespace() || b == 0);
    c.rest().is_empty().then_some(())
}

fn space(c: &mut Cursor<'_>) {
    c.skip_while(|b| b.is_ascii_whitespace());
}

fn quoted<'t>(c: &mut Cursor<'t>) -> Option<Quoted<'t>> {
    c.eat(b'"')?;
    let inner = c.rest();
    let (mut length, mut escaped) = (0, false);
    loop {
        let at = length + memchr2(b'"', b'\\', inner.get(length..)?)?;
        if inner[at] == b'"' {
            c.skip(at + 1);
            return Some(Quoted {
                inner: &inner[..at],
                escaped,
            });
        }
        escaped = true;
        length = at + 2;
    }
}

fn value<'t>(c: &mut Cursor<'t>) -> Option<Value<'t>> {
    match c.peek()? {
        b'"' => quoted(c).map(Value::String),
        b'{' | b'[' => nested(c),
        _ => {
            let rest = c.rest();
            let length = c.skip_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            match &rest[..length] {
                b"null" => Some(Value::Other),
                word @ (b"true" | b"false") => Some(Value::Word(word)),
                word @ [b'-' | b'0'..=b'9', ..] => Some(Value::Word(word)),
                _ => None,
            }
        }
    }
}

/// Skips an array or object. Only the nesting and the strings are looked at, with a counter
/// instead of recursion: no depth can overflow the stack.
fn nested<'t>(c: &mut Cursor<'t>) -> Option<Value<'t>> {
    let mut depth = 0_usize;
    loop {
        c.skip_while(|b| !b"\"{}[]".contains(&b));
        match c.peek()? {
            b'"' => drop(quoted(c)?),
            b'{' | b'[' => {
                depth += 1;
                c.skip(1);
            }
            _ => {
                depth -= 1;
                c.skip(1);
                if depth == 0 {
                    return Some(Value::Other);
                }
            }
        }
    }
}

fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let escape = &rest[at..];
        let simple = match escape.get(1) {
            Some(b'"') => Some(b'"'),
            Some(b'\\') => Some(b'\\'),
            Some(b'/') => Some(b'/'),
            Some(b'b') => Some(8),
            Some(b'f') => Some(12),
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b't') => Some(b'\t'),
            _ => None,
        };
        let length = if let Some(byte) = simple {
            out.push(byte);
            2
        } else if let Some((letter, length)) = unicode_escape(escape) {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            length
        } else {
            out.push(b'\\');
            1
        };
        rest = &escape[length..];
    }
    out.extend_from_slice(rest);
    out
}

/// The letter that `\uXXXX` or a pair of them stands for, and how many bytes it takes.
fn unicode_escape(escape: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let escape = escape.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits
            .iter()
            .try_fold(0, |n, &b| Some(n * 16 + char::from(b).to_digit(16)?))
    };
    let first = unit(0)?;
    if let Some(letter) = char::from_u32(first) {
        return Some((letter, 6));
    }
    if let (0xD800..0xDC00, Some(second @ 0xDC00..0xE000)) = (first, unit(6)) {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return Some((char::from_u32(code)?, 12));
    }
    Some((char::REPLACEMENT_CHARACTER, 6))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name, and value as text.
    type Member = (Vec<u8>, Option<Vec<u8>>);

    /// Every top-level member as text, `None` for what the scanner calls `Other`.
    fn members(text: &[u8]) -> Option<Vec<Member>> {
        let mut found = Vec::new();
        object(text, |name, value| {
            let value = match value {
                Value::String(text) => Some(text.unescape().into_owned()),
                Value::Word(word) => Some(word.to_vec()),
                Value::Other => None,
            };
            found.push((name.unescape().into_owned(), value));
        })?;
        Some(found)
    }

    fn twin(text: &[u8]) -> Option<Vec<Member>> {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(text).ok()?;
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text.into_bytes()),
            value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                Some(value.to_string().into_bytes())
            }
            _ => None,
        };
        Some(
            object
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), text(value)))
                .collect(),
        )
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            r#"[a"\\/{}\[\],:\n\u{1F600}]{0,12}"#.prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Value>()),
            ]
        })
    }

    proptest! {
        /// Written in both ways: as serde_json does it, and with every letter of a string escaped.
        #[test]
        fn every_valid_object_reads_as_the_strict_reader_reads_it(
            map in prop::collection::btree_map(any::<String>(), any_value(), 0..6),
            pretty: bool,
        ) {
            let value: serde_json::Value = map.into_iter().collect();
            let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
            let mut ours = members(text.as_bytes()).expect("valid");
            ours.sort();
            let mut theirs = twin(text.as_bytes()).expect("valid");
            theirs.sort();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn every_letter_may_be_escaped(text: String) {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let record = format!("{{\"m\":\"{escaped}\"}}");
            prop_assert_eq!(members(record.as_bytes()), Some(vec![(b"m".to_vec(), Some(text.into_bytes()))]));
        }

        #[test]
        fn no_bytes_panic(text in "[{}\\[\\]\",:\\\\u0-9a-f \u{80}]{0,80}") {
            members(text.as_bytes());
            members(format!("{{{text}").as_bytes());
        }
    }

    #[test]
    fn a_bad_byte_or_a_lone_surrogate_leaves_the_message_readable() {
        let found = members(b"{\"a\":\"\xff\",\"b\":\"\\ud800\\\\x\\q\"}").expect("an object");
        assert_eq!(found[0].1.as_deref(), Some(&b"\xff"[..]));
        assert_eq!(found[1].1.as_deref(), Some("\u{fffd}\\x\\q".as_bytes()));
    }

    #[test]
    fn what_is_no_whole_object_is_refused() {
        for text in [
            "",
            "{",
            "{}x",
            "[]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":nul}",
            "{\"a\":\"\\\"}",
            "{\"a\":1,}",
        ] {
            assert_eq!(members(text.as_bytes()), None, "{text}");
        }
        assert_eq!(members(b" {} \n"), Some(vec![]));
        assert!(members(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_none());
    }
}
