//! From a body pattern, as `.ndb`, `.ldb`, `.ftm` and YARA files write it, to what it needs.
//!
//! A pattern is read into [tokens](token), of which the [guaranteed](slack) ones are certainly compared
//! with the message; from these come [literals](literal), and the verdict "cannot match at all".

mod literal;
mod offset;
mod slack;
mod token;

pub use offset::Offset;

use super::required::Required;
use super::text::ByteSet;

/// Which texts a pattern is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The message and its normalised form (target 0).
    Generic,
    /// The normalised form only (target 7).
    Normalised,
    /// The message only: a file type's pattern.
    Message,
    /// The reading of a message as UTF-16, in which any byte may stand: a file type's pattern.
    Decoded,
}

impl Target {
    /// By its number in a signature; `None` if plain messages are not matched with it.
    pub(crate) fn of(number: u32) -> Option<Target> {
        match number {
            0 => Some(Target::Generic),
            7 => Some(Target::Normalised),
            _ => None,
        }
    }

    fn sees_message(self) -> bool {
        self != Target::Normalised
    }

    fn sees_normalised(self) -> bool {
        matches!(self, Target::Generic | Target::Normalised)
    }

    /// The bytes that stand in what it sees before that is normalised.
    fn alphabet(self) -> ByteSet {
        match self {
            Target::Decoded => ByteSet::ANY,
            _ => ByteSet::PLAIN,
        }
    }
}

/// How a pattern is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modifiers {
    /// ASCII letters match in either case.
    pub(crate) nocase: bool,
    /// Words only: the pattern stands between bytes that are no letters or digits.
    pub(crate) fullword: bool,
}

/// What a pattern needs to match a plain message.
///
/// # Errors
/// Why it is not understood. Then it may match anything.
pub(crate) fn required(
    hex: &[u8],
    target: Target,
    offset: Offset,
    modifiers: Modifiers,
) -> Result<Required, String> {
    let pattern = token::read(hex, modifiers)?;
    Ok(literal::required(&pattern, target, offset))
}

#[cfg(test)]
mod tests {
    use super::super::required::Atom;
    use super::*;

    fn text(literal: &str) -> Required {
        Required::text(literal.as_bytes())
    }

    fn generic(hex: &str) -> Required {
        required(
            hex.as_bytes(),
            Target::Generic,
            Offset::Any,
            Modifiers::default(),
        )
        .expect(hex)
    }

    #[test]
    fn literals_are_what_is_certainly_compared_in_normalised_form() {
        assert_eq!(generic("6576696c2d7061796c6f6164"), text("evil-payload"));
        assert_eq!(
            generic("4576696c{2}50{3-8}6c6f61*64726f70"),
            Required::all(vec![
                text("evil"),
                text("p"),
                text("loa"),
                text("drop"),
                // It has upper case, so it matches the message alone, which is searched in lower case.
                Required::Has(Atom::Raw(b"evil".to_vec().into())),
                Required::Has(Atom::Raw(b"p".to_vec().into())),
                Required::Has(Atom::Raw(b"loa".to_vec().into())),
                Required::Has(Atom::Raw(b"drop".to_vec().into())),
            ])
        );
        assert_eq!(generic("(B)70617373776f7264(B)"), text("password"));
        assert_eq!(generic("6?6e64652d78"), text("nde-x"));
        assert_eq!(generic("3c(73|53)(63|43)(72|52)69"), text("<scri"));
        assert_eq!(
            generic("2f62696e2f(6261|7a)7368"),
            Required::all(vec![
                text("/bin/"),
                text("s"),
                Required::any(vec![text("ba"), text("z")])
            ])
        );
        assert_eq!(
            generic("616263(64|65666768){3}6b6c6d6e6f"),
            Required::all(vec![
                text("abc"),
                // Not "klmno": with the longer alternative its last three bytes are not compared.
                text("kl"),
                Required::any(vec![text("d"), text("efgh")]),
            ])
        );
        assert_eq!(
            generic("(77676574|6375726c)20687474703a2f2f"),
            Required::all(vec![
                text(" http://"),
                Required::any(vec![text("wget"), text("curl")])
            ])
        );
    }

    #[test]
    fn what_cannot_stand_in_a_plain_message_never_matches() {
        assert_eq!(generic("00004d5a"), Required::Never);
        let upper = required(
            b"4576696c",
            Target::Normalised,
            Offset::Any,
            Modifiers::default(),
        );
        assert_eq!(upper, Ok(Required::Never));
        let nocase = Modifiers {
            nocase: true,
            ..Modifiers::default()
        };
        let upper = required(b"4e6565646c65", Target::Normalised, Offset::Any, nocase);
        assert_eq!(upper, Ok(text("needle")));
        let spaces = required(
            b"61202062",
            Target::Normalised,
            Offset::Any,
            Modifiers::default(),
        );
        assert_eq!(spaces, Ok(Required::Never));
    }

    #[test]
    fn what_normalisation_would_lose_is_searched_in_the_message_itself() {
        let raw = |bytes: &[u8]| Required::Has(Atom::Raw(bytes.into()));
        assert_eq!(
            generic("0d0a0d0a"),
            Required::all(vec![text(" "), raw(b"\r\n\r\n")])
        );
        assert_eq!(
            generic("61620909636465"),
            Required::all(vec![text("ab cde"), raw(b"ab\t\tcde")])
        );
        assert_eq!(
            generic("c3a96162636465"),
            Required::all(vec![text("abcde"), raw(b"\xc3\xa9abcde")])
        );
    }

    #[test]
    fn offsets_bound_where_a_literal_stands() {
        let at = |hex: &str, offset| {
            required(
                hex.as_bytes(),
                Target::Generic,
                offset,
                Modifiers::default(),
            )
            .expect(hex)
        };
        let by = |literal: &str, by| {
            Required::Has(Atom::Text {
                literal: literal.as_bytes().into(),
                by: Some(by),
            })
        };
        assert_eq!(
            at("616263", Offset::Absolute { at: 4, range: 0 }),
            by("abc", 4)
        );
        assert_eq!(
            at("616263??646566", Offset::Absolute { at: 4, range: 10 }),
            Required::all(vec![by("abc", 14), by("def", 18)])
        );
        // Behind a gap nothing is known of the place.
        assert_eq!(
            at("616263*646566", Offset::Absolute { at: 0, range: 0 }),
            Required::all(vec![by("abc", 0), text("def")])
        );
        assert_eq!(
            at("616263", Offset::FromEnd { back: 6, range: 0 }),
            Required::all(vec![Required::Has(Atom::Length(6)), text("abc")])
        );
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for hex in [
            "6", "616", "zz", "61(62", "61{2", "61[2", "!6162", "61()", "61(|62)",
        ] {
            let read = required(
                hex.as_bytes(),
                Target::Generic,
                Offset::Any,
                Modifiers::default(),
            );
            assert!(read.is_err_and(|why| !why.is_empty()), "{hex}");
        }
    }
}
