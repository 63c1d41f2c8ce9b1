//! A place in a row of words.

use super::lexer::Token;

pub(super) struct Cursor<'r, 't> {
    tokens: &'r [Token<'t>],
    pub(super) at: usize,
}

impl<'r, 't> Cursor<'r, 't> {
    pub(super) fn new(tokens: &'r [Token<'t>]) -> Cursor<'r, 't> {
        Cursor { tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'r Token<'t>> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'r Token<'t>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn rest(&self) -> &'r [Token<'t>] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    pub(super) fn accept(&mut self, wanted: &Token<'_>) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    pub(super) fn accept_sign(&mut self, sign: u8) -> bool {
        self.accept(&Token::Sign(sign))
    }

    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        self.accept(&Token::Word(word))
    }

    pub(super) fn expect_sign(&mut self, sign: u8) -> Result<(), String> {
        match self.accept_sign(sign) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), String> {
        match self.accept_word(word) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// A name that is no keyword.
    pub(super) fn expect_name(&mut self) -> Result<&'t str, String> {
        match self.peek() {
            Some(Token::Word(name)) if !is_keyword(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Skips up to the sign that closes what the last one has opened.
    pub(super) fn skip_to(&mut self, open: u8, close: u8) -> Result<(), String> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                None => return Err(self.unexpected()),
                Some(Token::Sign(sign)) if *sign == open => depth += 1,
                Some(Token::Sign(sign)) if *sign == close => depth -= 1,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Why it does not go on here.
    pub(super) fn unexpected(&self) -> String {
        match self.peek() {
            None => "an unexpected end".to_owned(),
            Some(Token::Broken(why)) => (*why).to_owned(),
            Some(Token::Word(word)) => {
                let word: String = word.chars().take(40).collect();
                format!("unexpected '{word}'")
            }
            Some(Token::Sign(sign)) => format!("unexpected '{}'", char::from(*sign)),
            Some(token) => format!("unexpected {}", kind(token)),
        }
    }
}

fn kind(token: &Token<'_>) -> &'static str {
    match token {
        Token::Number(_) => "number",
        Token::Text(_) => "string",
        Token::Regex(_) => "regular expression",
        Token::Hex { .. } => "hex string",
        Token::Include => "include",
        Token::Compare(_) | Token::Shift => "operator",
        _ => "name of a string",
    }
}

/// Words that cannot be names.
pub(super) fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 33] = [
        "all",
        "and",
        "any",
        "ascii",
        "at",
        "condition",
        "contains",
        "entrypoint",
        "false",
        "filesize",
        "for",
        "fullword",
        "global",
        "import",
        "in",
        "int16",
        "int32",
        "int8",
        "matches",
        "meta",
        "nocase",
        "not",
        "of",
        "or",
        "private",
        "rule",
        "strings",
        "them",
        "true",
        "uint16",
        "uint32",
        "uint8",
        "wide",
    ];
    KEYWORDS.contains(&word)
}
