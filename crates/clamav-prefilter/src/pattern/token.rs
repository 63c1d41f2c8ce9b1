//! A body pattern as tokens, each with the bytes it consumes.

use super::super::text::ByteSet;
use super::Modifiers;

/// Alternatives multiply when they are nested; a pattern with more is not read.
const MAX_ALTERNATIVES: usize = 4096;
const MAX_NESTING: usize = 16;

/// A pattern in the order in which it matches.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) tokens: Vec<Token>,
    /// The token's place in the pattern can be told from those in front of it: nothing was left out.
    pub(super) whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// One byte out of a set.
    Byte {
        set: ByteSet,
        /// Written as two hexadecimal digits.
        exact: bool,
    },
    /// One of several strings of such bytes.
    Alternatives(Vec<Vec<ByteSet>>),
    /// So many bytes of which nothing is known.
    Opaque(usize),
    /// Any distance. It counts nothing, even where the pattern says how far it is.
    Gap,
    /// A condition on what stands at the edge of the pattern.
    Edge,
    /// A condition inside the pattern, which may consume up to so many bytes.
    Marker(usize),
}

impl Token {
    pub(super) fn min(&self) -> usize {
        match self {
            Token::Byte { .. } => 1,
            Token::Alternatives(all) => all.iter().map(Vec::len).min().unwrap_or(0),
            Token::Opaque(n) => *n,
            Token::Gap | Token::Edge | Token::Marker(_) => 0,
        }
    }

    pub(super) fn max(&self) -> usize {
        match self {
            Token::Alternatives(all) => all.iter().map(Vec::len).max().unwrap_or(0),
            Token::Marker(n) => *n,
            _ => self.min(),
        }
    }
}

type Read<T> = Result<T, String>;

pub(super) fn read(hex: &[u8], modifiers: Modifiers) -> Read<Pattern> {
    let mut text = hex.trim_ascii().to_vec();
    if modifiers.fullword {
        for byte in &mut text {
            *byte = match *byte {
                b'[' => b'{',
                b']' => b'}',
                other => other,
            };
        }
        text = [b"(W)", &text[..], b"(W)"].concat();
    }
    let reader = Reader {
        text: &text,
        nocase: modifiers.nocase,
    };
    reader.pattern(modifiers.fullword)
}

struct Reader<'t> {
    text: &'t [u8],
    nocase: bool,
}

impl Reader<'_> {
    fn pattern(&self, fullword: bool) -> Read<Pattern> {
        let text = self.text;
        let mut tokens = Vec::new();
        let mut whole = !fullword;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'*' => {
                    tokens.push(Token::Gap);
                    at += 1;
                }
                b'{' => {
                    tokens.push(Token::Gap);
                    at = self.closing(at, b'}')? + 1;
                }
                b'[' => {
                    whole = false;
                    let first =
                        at == 2 || at.checked_sub(3).is_some_and(|i| b"*}".contains(&text[i]));
                    let end = self.closing(at, b']')? + 1;
                    // The single byte that is tied to the rest is compared apart from it, and must
                    // not enter the sums.
                    at = if first {
                        match tokens.pop() {
                            Some(Token::Byte { .. }) => {}
                            _ => return Err(format!("no byte in front of `[` at {at}")),
                        }
                        end
                    } else {
                        self.pair(end)?;
                        end + 2
                    };
                    tokens.push(Token::Gap);
                }
                b'(' | b'!' => {
                    let (token, end) = self.group(at)?;
                    tokens.push(token);
                    at = end;
                }
                _ => {
                    let (set, exact) = self.pair(at)?;
                    tokens.push(Token::Byte { set, exact });
                    at += 2;
                }
            }
        }
        Ok(Pattern { tokens, whole })
    }

    /// `(…)` or `!(…)` and where it ends.
    fn group(&self, at: usize) -> Read<(Token, usize)> {
        let negated = self.text[at] == b'!';
        let open = at + usize::from(negated);
        let end = self.balanced(open, self.text.len())?;
        let inner = &self.text[open + 1..end - 1];
        if let [kind @ (b'B' | b'L' | b'W')] = inner {
            let at_edge = (at == 0 && !negated) || end == self.text.len();
            let token = match at_edge {
                true => Token::Edge,
                false => Token::Marker(1 + usize::from(*kind == b'L')),
            };
            return Ok((token, end));
        }
        let mut all = Vec::new();
        for (start, stop) in self.alternatives(open + 1, end - 1) {
            all.extend(self.strings(start, stop, 0)?);
            if all.len() > MAX_ALTERNATIVES {
                return Err("too many alternatives".to_owned());
            }
        }
        if all.iter().any(Vec::is_empty) {
            return Err(format!("an empty alternative at {at}"));
        }
        let single = all.iter().all(|one| one.len() == 1);
        let token = match (single, negated) {
            (true, _) => {
                let set = all
                    .iter()
                    .flatten()
                    .fold(ByteSet::EMPTY, |set, one| set.union(*one));
                let set = if negated { set.complement() } else { set };
                Token::Byte { set, exact: false }
            }
            (false, false) => Token::Alternatives(all),
            (false, true) => {
                let length = all[0].len();
                if all.iter().any(|one| one.len() != length) {
                    return Err(format!("negated alternatives of different lengths at {at}"));
                }
                Token::Opaque(length)
            }
        };
        Ok((token, end))
    }

    /// The pieces between `|`, those inside of parentheses aside.
    fn alternatives(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let (mut depth, mut from, mut pieces) = (0_usize, start, Vec::new());
        for at in start..end {
            match self.text[at] {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b'|' if depth == 0 => {
                    pieces.push((from, at));
                    from = at + 1;
                }
                _ => {}
            }
        }
        pieces.push((from, end));
        pieces
    }

    /// Every string that an alternative stands for.
    fn strings(&self, start: usize, end: usize, depth: usize) -> Read<Vec<Vec<ByteSet>>> {
        if depth > MAX_NESTING {
            return Err("alternatives nested too deeply".to_owned());
        }
        let mut strings = vec![Vec::new()];
        let mut at = start;
        while at < end {
            if self.text[at] == b'(' {
                let close = self.balanced(at, end)?;
                let mut longer: Vec<Vec<ByteSet>> = Vec::new();
                for (from, to) in self.alternatives(at + 1, close - 1) {
                    for tail in self.strings(from, to, depth + 1)? {
                        longer.extend(strings.iter().map(|head| [&head[..], &tail[..]].concat()));
                        if longer.len() > MAX_ALTERNATIVES {
                            return Err("too many alternatives".to_owned());
                        }
                    }
                }
                strings = longer;
                at = close;
            } else {
                let (set, _) = self.pair(at)?;
                if at + 2 > end {
                    return Err(format!("half a byte at {at}"));
                }
                strings.iter_mut().for_each(|string| string.push(set));
                at += 2;
            }
        }
        Ok(strings)
    }

    /// Two hexadecimal digits, either of which may be `?`.
    fn pair(&self, at: usize) -> Read<(ByteSet, bool)> {
        let wrong = || format!("no byte at {at}");
        let &[high, low] = self.text.get(at..at + 2).ok_or_else(wrong)? else {
            return Err(wrong());
        };
        let digit = |c: u8| match c {
            b'?' => Ok(None),
            _ => char::from(c)
                .to_digit(16)
                .map(|d| Some(d as u8))
                .ok_or_else(wrong),
        };
        Ok(match (digit(high)?, digit(low)?) {
            (None, None) => (ByteSet::ANY, false),
            (Some(high), None) => (of(|byte| byte >> 4 == high), false),
            (None, Some(low)) => (of(|byte| byte & 15 == low), false),
            (Some(high), Some(low)) => {
                let byte = high << 4 | low;
                let set = ByteSet::one(byte);
                let set = match self.nocase {
                    true => set
                        .with(byte.to_ascii_lowercase())
                        .with(byte.to_ascii_uppercase()),
                    false => set,
                };
                (set, true)
            }
        })
    }

    fn closing(&self, at: usize, end: u8) -> Read<usize> {
        let found = self.text[at..].iter().position(|byte| *byte == end);
        found
            .map(|n| at + n)
            .ok_or_else(|| format!("`{}` is not closed", char::from(self.text[at])))
    }

    /// Behind the parenthesis that closes the one at `at`.
    fn balanced(&self, at: usize, end: usize) -> Read<usize> {
        if self.text.get(at) != Some(&b'(') {
            return Err(format!("no `(` at {at}"));
        }
        let mut depth = 0_usize;
        for here in at..end {
            match self.text[here] {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(here + 1);
            }
        }
        Err("`(` is not closed".to_owned())
    }
}

fn of(member: impl Fn(u8) -> bool) -> ByteSet {
    let members = (0..=255).filter(|byte| member(*byte));
    members.fold(ByteSet::EMPTY, ByteSet::with)
}
