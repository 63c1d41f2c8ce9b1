//! The words of a rule file, cut as libclamav's lexer cuts them.
//!
//! Never fails and never looks at what a word is for. Where libclamav's lexer gives up (a line end
//! within a string, a byte that is not ASCII outside of one) this one goes on after that place:
//! then it sees more rules than libclamav, never fewer.

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A name or a keyword.
    Word(&'t str),
    Number(Number),
    /// What stands between quotes, its escapes resolved.
    Text(Literal),
    /// What stands between slashes; `\/` is a slash, other escapes are as they were.
    Regex(Literal),
    /// What stands between braces, if it can be a hex string. `exact` if libclamav thinks so, too.
    Hex {
        body: &'t str,
        exact: bool,
    },
    /// `$name`, without the dollar.
    String(&'t str),
    /// `$name*`, without dollar and asterisk.
    Strings(&'t str),
    /// `#name`.
    Count(&'t str),
    /// `@name`.
    Offset(&'t str),
    /// `!name`, which libclamav does not know.
    Length(&'t str),
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    Compare(Compare),
    /// `<<`, `>>`.
    Shift,
    /// `include "…"`.
    Include,
    /// Any other printable character.
    Sign(u8),
    /// A string or regular expression that does not end, or a byte that is not allowed.
    Broken(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An integer; libclamav's is not always the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Its value, unless libclamav's arithmetic may wrap around.
    pub(super) value: Option<i64>,
    /// Its lowest 32 bits, if it has no more.
    pub(super) word: Option<u32>,
}

/// The bytes of a string or regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) bytes: Vec<u8>,
    /// A NUL stood in the file, where libclamav's copying ends.
    pub(super) cut: bool,
}

/// Cuts one word after the other.
pub(super) struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t [u8]) -> Lexer<'t> {
        Lexer { text, at: 0 }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Takes the longest run of such bytes.
    fn take(&mut self, such: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.iter().take_while(|byte| such(**byte)).count();
        self.at += len;
        // Every caller asks for ASCII.
        std::str::from_utf8(rest.get(..len).unwrap_or_default()).unwrap_or_default()
    }

    /// Takes a name, whose first byte stands `skip` bytes on and may be a digit.
    fn name(&mut self, skip: usize) -> &'t str {
        self.at += skip;
        self.take(is_word)
    }

    fn skip_blank(&mut self) {
        loop {
            self.take(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            let rest = self.rest();
            let len = match rest {
                [b'/', b'/', ..] => memchr::memchr(b'\n', rest),
                [b'/', b'*', inner @ ..] => {
                    memchr::memmem::find(inner, b"*/").map(|inner| inner + 4)
                }
                _ => return,
            };
            self.at += len.unwrap_or(rest.len());
        }
    }

    fn number(&mut self) -> Number {
        if let [b'0', b'x', digit, ..] = self.rest()
            && digit.is_ascii_hexdigit()
        {
            self.at += 2;
            let word = u32::from_str_radix(self.take(|byte| byte.is_ascii_hexdigit()), 16).ok();
            // 0x80000000 and more are negative.
            let value = word
                .and_then(|word| i32::try_from(word).ok())
                .map(i64::from);
            return Number { value, word };
        }
        let digits = self.take(|byte| byte.is_ascii_digit()).parse::<i64>().ok();
        let unit = match self.rest() {
            [b'K', b'B', ..] => 1 << 10,
            [b'M', b'B', ..] => 1 << 20,
            _ => 1,
        };
        if unit > 1 {
            self.at += 2;
        }
        let value = digits.and_then(|digits| digits.checked_mul(unit));
        let word = value.and_then(|value| u32::try_from(value).ok());
        Number { value, word }
    }

    fn text(&mut self) -> Token<'t> {
        self.at += 1;
        let (mut bytes, mut cut) = (Vec::new(), false);
        loop {
            match self.rest() {
                [] | [b'\n', ..] => return Token::Broken("a string without an end"),
                [b'"', ..] => {
                    self.at += 1;
                    return Token::Text(Literal { bytes, cut });
                }
                [b'\\', b'x', high, low, ..]
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    bytes.push(nibble(*high) << 4 | nibble(*low));
                    self.at += 4;
                }
                [b'\\', escaped, ..] => {
                    match escaped {
                        b't' => bytes.push(b'\t'),
                        b'n' => bytes.push(b'\n'),
                        b'"' | b'\\' => bytes.push(*escaped),
                        // Others are reported, and left out.
                        _ => {}
                    }
                    self.at += 2;
                }
                [byte, ..] => {
                    cut |= *byte == 0;
                    bytes.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    fn regex(&mut self) -> Token<'t> {
        self.at += 1;
        let (mut bytes, mut cut) = (Vec::new(), false);
        loop {
            match self.rest() {
                [] | [b'\n', ..] | [b'\\'] | [b'\\', b'\n', ..] => {
                    self.at += usize::from(self.peek(0) == Some(b'\\'));
                    return Token::Broken("a regular expression without an end");
                }
                [b'/', ..] => {
                    self.at += 1;
                    self.at += usize::from(self.peek(0) == Some(b'i'));
                    self.at += usize::from(self.peek(0) == Some(b's'));
                    return Token::Regex(Literal { bytes, cut });
                }
                [b'\\', b'/', ..] => {
                    bytes.push(b'/');
                    self.at += 2;
                }
                [b'\\', escaped, ..] => {
                    cut |= *escaped == 0;
                    bytes.extend([b'\\', *escaped]);
                    self.at += 2;
                }
                [byte, ..] => {
                    cut |= *byte == 0;
                    bytes.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    /// A hex string, if there is one. Comments and carriage returns in it are a later YARA's.
    fn hex(&mut self) -> Option<Token<'t>> {
        let start = self.at;
        self.at += 1;
        let mut exact = true;
        loop {
            self.take(|byte| byte.is_ascii_hexdigit() || b" -|?[]()\n\t".contains(&byte));
            match self.rest() {
                [b'\r' | b'~', ..] => self.at += 1,
                [b'/', b'/' | b'*', ..] => self.skip_blank(),
                _ => break,
            }
            exact = false;
        }
        let body = self.text.get(start + 1..self.at).unwrap_or_default();
        match (self.peek(0), std::str::from_utf8(body)) {
            (Some(b'}'), Ok(body)) if !body.is_empty() => {
                self.at += 1;
                Some(Token::Hex { body, exact })
            }
            _ => {
                self.at = start;
                None
            }
        }
    }

    /// The rest of `include "…"`, of which the word has been taken.
    fn include(&mut self) -> bool {
        let rest = self.rest();
        let blank = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        if blank == 0 || rest.get(blank) != Some(&b'"') {
            return false;
        }
        let path = rest.get(blank + 1..).unwrap_or_default();
        let end = memchr::memchr(b'"', path).map_or(path.len(), |end| end + 1);
        self.at += blank + 1 + end;
        true
    }

    fn sign(&mut self, first: u8) -> Token<'t> {
        let (token, len) = match (first, self.peek(1)) {
            (b'=', Some(b'=')) => (Token::Compare(Compare::Equal), 2),
            (b'!', Some(b'=')) => (Token::Compare(Compare::NotEqual), 2),
            (b'<', Some(b'=')) => (Token::Compare(Compare::LessOrEqual), 2),
            (b'>', Some(b'=')) => (Token::Compare(Compare::GreaterOrEqual), 2),
            (b'<', Some(b'<')) | (b'>', Some(b'>')) => (Token::Shift, 2),
            (b'<', _) => (Token::Compare(Compare::Less), 1),
            (b'>', _) => (Token::Compare(Compare::Greater), 1),
            (0x20..0x7f, _) => (Token::Sign(first), 1),
            _ => (
                Token::Broken("a byte that is not allowed outside of strings"),
                1,
            ),
        };
        self.at += len;
        token
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.skip_blank();
        let first = self.peek(0)?;
        Some(match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => match self.name(0) {
                "include" if self.include() => Token::Include,
                word => Token::Word(word),
            },
            b'0'..=b'9' => Token::Number(self.number()),
            b'"' => self.text(),
            b'/' => self.regex(),
            b'$' => match self.name(1) {
                name if self.peek(0) == Some(b'*') => {
                    self.at += 1;
                    Token::Strings(name)
                }
                name => Token::String(name),
            },
            b'#' => Token::Count(self.name(1)),
            b'@' => Token::Offset(self.name(1)),
            b'!' if self.peek(1).is_some_and(is_word) => Token::Length(self.name(1)),
            b'{' => match self.hex() {
                Some(hex) => hex,
                None => self.sign(first),
            },
            _ => self.sign(first),
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The value of a hex digit.
pub(super) fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        Lexer::new(text.as_bytes()).collect()
    }

    fn literal(bytes: &[u8]) -> Literal {
        Literal {
            bytes: bytes.to_vec(),
            cut: false,
        }
    }

    fn number(value: Option<i64>, word: Option<u32>) -> Token<'static> {
        Token::Number(Number { value, word })
    }

    #[test]
    fn words_names_and_signs() {
        assert_eq!(
            tokens("rule a_1:$x$y*#z@!w!= <=<< //c\n/*d*/1..2"),
            [
                Token::Word("rule"),
                Token::Word("a_1"),
                Token::Sign(b':'),
                Token::String("x"),
                Token::Strings("y"),
                Token::Count("z"),
                Token::Offset(""),
                Token::Length("w"),
                Token::Compare(Compare::NotEqual),
                Token::Compare(Compare::LessOrEqual),
                Token::Shift,
                number(Some(1), Some(1)),
                Token::Sign(b'.'),
                Token::Sign(b'.'),
                number(Some(2), Some(2)),
            ]
        );
    }

    #[test]
    fn numbers_that_wrap_around_have_no_value() {
        assert_eq!(
            tokens("0x5A4d 3KB 4MB 0x80000000 0x100000000 17592186044416MB 99999999999999999999"),
            [
                number(Some(0x5a4d), Some(0x5a4d)),
                number(Some(3072), Some(3072)),
                number(Some(4 << 20), Some(4 << 20)),
                number(None, Some(0x8000_0000)),
                number(None, None),
                number(None, None),
                number(None, None),
            ]
        );
    }

    #[test]
    fn unknown_escapes_vanish() {
        assert_eq!(
            tokens(r#""a\"\\\t\x4A\q\r\xg" "#),
            [Token::Text(literal(b"a\"\\\tJg"))]
        );
    }

    #[test]
    fn regular_expressions_keep_their_escapes_but_the_slash() {
        assert_eq!(
            tokens(r"/a\/b\.[/is /c\\/si"),
            [
                Token::Regex(literal(br"a/b\.[")),
                Token::Regex(literal(br"c\\")),
                Token::Word("i"),
            ]
        );
    }

    #[test]
    fn a_brace_opens_a_hex_string_or_a_rule() {
        assert_eq!(
            tokens("{ 4d ?? [2-4] (5A|6b) } { meta {~0 // x }\n/*}*/1}"),
            [
                Token::Hex {
                    body: " 4d ?? [2-4] (5A|6b) ",
                    exact: true
                },
                Token::Sign(b'{'),
                Token::Word("meta"),
                Token::Hex {
                    body: "~0 // x }\n/*}*/1",
                    exact: false
                },
            ]
        );
    }

    #[test]
    fn after_what_does_not_end_it_goes_on_with_the_next_line() {
        for (text, first) in [
            ("\"abc\nrule", "a string without an end"),
            ("/abc\nrule", "a regular expression without an end"),
            ("/abc\\\nrule", "a regular expression without an end"),
            ("\u{1}rule", "a byte that is not allowed outside of strings"),
        ] {
            assert_eq!(
                tokens(text),
                [Token::Broken(first), Token::Word("rule")],
                "{text}"
            );
        }
        assert_eq!(tokens("/* rule"), []);
    }

    #[test]
    fn an_include_is_more_than_its_word() {
        assert_eq!(
            tokens("include \t\"a\nb\" include x myinclude"),
            [
                Token::Include,
                Token::Word("include"),
                Token::Word("x"),
                Token::Word("myinclude"),
            ]
        );
    }
}
