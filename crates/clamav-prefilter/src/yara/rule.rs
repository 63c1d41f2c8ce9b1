//! The sections of one rule.

use super::Body;
use super::cursor::Cursor;
use super::lexer::Token;
use super::strings::{Modifiers, Value};
use crate::required::Required;

/// A rule, read but not understood.
pub(super) struct Rule<'r, 't> {
    pub(super) strings: Vec<Declared<'r, 't>>,
    pub(super) condition: &'r [Token<'t>],
    /// What stands after it.
    pub(super) after: &'r [Token<'t>],
    /// libclamav's grammar allows all of it, but for the condition.
    pub(super) exact: bool,
}

/// `$name = value modifiers`
pub(super) struct Declared<'r, 't> {
    /// Without the dollar; empty for a string without a name.
    pub(super) name: &'t str,
    value: Value<'r>,
    modifiers: Modifiers,
}

impl Declared<'_, '_> {
    /// What is needed for a match, or why nothing is known.
    pub(super) fn required(&self, body: Body<'_>) -> Result<Required, String> {
        self.value.required(self.modifiers, body)
    }

    /// Whether libclamav leaves out a rule for having this string.
    pub(super) fn is_refused(&self) -> bool {
        self.value.is_refused(self.modifiers)
    }
}

/// Reads a rule from the words after its name.
pub(super) fn read<'r, 't: 'r>(tokens: &'r [Token<'t>]) -> Result<Rule<'r, 't>, String> {
    let mut cursor = Cursor::new(tokens);
    let mut exact = true;
    if cursor.accept_sign(b':') {
        cursor.expect_name()?;
        while cursor.expect_name().is_ok() {}
    }
    cursor.expect_sign(b'{')?;
    if cursor.accept_word("meta") {
        cursor.expect_sign(b':')?;
        exact &= meta(&mut cursor)?;
    }
    let mut strings = Vec::new();
    if cursor.accept_word("strings") {
        cursor.expect_sign(b':')?;
        while let Some(Token::String(name)) = cursor.peek() {
            cursor.at += 1;
            strings.push(declared(name, &mut cursor, &mut exact)?);
        }
        exact &= !strings.is_empty();
    }
    cursor.expect_word("condition")?;
    cursor.expect_sign(b':')?;
    let condition = cursor.rest();
    let Some(end) = condition
        .iter()
        .position(|token| *token == Token::Sign(b'}'))
    else {
        return Err("a condition without an end".to_owned());
    };
    Ok(Rule {
        strings,
        condition: condition.get(..end).unwrap_or_default(),
        after: condition.get(end + 1..).unwrap_or_default(),
        exact,
    })
}

/// Skips what says nothing; whether libclamav would.
fn meta(cursor: &mut Cursor<'_, '_>) -> Result<bool, String> {
    let (mut exact, mut some) = (true, false);
    while cursor.expect_name().is_ok() {
        some = true;
        cursor.expect_sign(b'=')?;
        exact &= !cursor.accept_sign(b'-');
        match cursor.peek() {
            Some(Token::Text(_) | Token::Number(_) | Token::Word("true" | "false")) => {
                cursor.at += 1;
            }
            _ => return Err(cursor.unexpected()),
        }
    }
    Ok(exact && some)
}

fn declared<'r, 't>(
    name: &'t str,
    cursor: &mut Cursor<'r, 't>,
    exact: &mut bool,
) -> Result<Declared<'r, 't>, String> {
    cursor.expect_sign(b'=')?;
    let value = match cursor.peek() {
        Some(Token::Text(text)) => {
            *exact &= !text.cut;
            Value::Text(text)
        }
        Some(Token::Regex(pattern)) => {
            *exact &= !pattern.cut;
            Value::Regex(pattern)
        }
        Some(Token::Hex { body, exact: known }) => {
            *exact &= known;
            Value::Hex(body)
        }
        _ => return Err(cursor.unexpected()),
    };
    cursor.at += 1;
    let mut modifiers = Modifiers::default();
    while let Some(Token::Word(word)) = cursor.peek() {
        match *word {
            "ascii" => modifiers.ascii = true,
            "wide" => modifiers.wide = true,
            "nocase" => modifiers.nocase = true,
            "fullword" => modifiers.fullword = true,
            "private" => *exact = false,
            "xor" | "base64" | "base64wide" => {
                *exact = false;
                modifiers.recoded = true;
            }
            _ => break,
        }
        cursor.at += 1;
        *exact &= !matches!(value, Value::Hex(_));
        if modifiers.recoded && cursor.accept_sign(b'(') {
            cursor.skip_to(b'(', b')')?;
        }
    }
    Ok(Declared {
        name,
        value,
        modifiers,
    })
}
