//! libclamav's expressions over the numbers of subsignatures.
//!
//! Its reader knows no precedence. The first operator outside of parentheses splits an expression into what
//! stands left and *all* that stands right of it: `0&1|2` is `0&(1|2)`. If there is none, the last operator
//! inside one pair of parentheses splits their content: `(0|1&2)` is `((0|1)&2)`; and a count behind the
//! closing one belongs to the whole, if the expression ends with it.

/// An expression as libclamav reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// A subsignature, and how often it has to match if that is said.
    Leaf { id: usize, count: Option<Count> },
    /// Two expressions, and how often they have to match together if that is said.
    Both(
        Operator,
        Box<Expression>,
        Box<Expression>,
        Option<BlockCount>,
    ),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    And,
    Or,
}

/// A number of matches, compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) compare: Compare,
    pub(crate) number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    More,
    Less,
}

/// The number of matches of a block, and of how many different subsignatures they have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockCount {
    pub(crate) count: Count,
    pub(crate) different: u32,
}

/// Deeper expressions are not read.
const MAX_DEPTH: usize = 64;
const MAX_LENGTH: usize = 16 << 10;

/// Reads an expression.
///
/// # Errors
/// Why it is not understood.
pub(crate) fn read(text: &[u8]) -> Result<Expression, String> {
    if text.len() > MAX_LENGTH {
        return Err("the expression is too long".to_owned());
    }
    expression(text, 0)
}

/// Where an expression is split.
#[derive(Default)]
struct Split {
    /// The first operator outside of parentheses.
    outside: Option<(Operator, usize)>,
    /// The last one in a single pair of them.
    inside: Option<(Operator, usize)>,
    /// Where that pair closes, and what is counted behind it.
    block_end: usize,
    block: Option<BlockCount>,
    /// The last sign or closing parenthesis.
    modifier: Option<usize>,
}

fn split(text: &[u8]) -> Result<Split, String> {
    let mut split = Split::default();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'(' => depth += 1,
            b')' => {
                depth = depth.checked_sub(1).ok_or("`)` without `(`")?;
                split.modifier = Some(at);
            }
            b'>' | b'<' | b'=' => split.modifier = Some(at),
            b'&' | b'|' => {
                let operator = if byte == b'&' {
                    Operator::And
                } else {
                    Operator::Or
                };
                match depth {
                    0 => {
                        split.outside = Some((operator, at));
                        return Ok(split);
                    }
                    1 => split.inside = Some((operator, at)),
                    _ => {}
                }
            }
            _ => {}
        }
        if split.inside.is_some() && depth == 0 {
            split.block_end = at;
            let (block, end) = block_count(text, at + 1)?;
            at = end - 1;
            split.block = block;
            if end >= text.len() {
                return Ok(split);
            }
            split.block = None;
        }
        at += 1;
    }
    match depth {
        0 => Ok(split),
        _ => Err("`(` is not closed".to_owned()),
    }
}

/// A count behind a block, and where it ends; nothing is consumed if there is none.
fn block_count(text: &[u8], at: usize) -> Result<(Option<BlockCount>, usize), String> {
    let Some(compare) = text.get(at).and_then(|byte| compare(*byte)) else {
        return Ok((None, at));
    };
    let (number, mut end) = number(text, at + 1).ok_or("no number behind a block")?;
    let mut different = 0;
    if text.get(end) == Some(&b',')
        && let Some((n, next)) = self::number(text, end + 1)
    {
        (different, end) = (n, next);
    }
    // libclamav passes over whatever digits and commas follow.
    let more = text[end..]
        .iter()
        .take_while(|b| b.is_ascii_digit() || **b == b',')
        .count();
    let count = Count { compare, number };
    Ok((Some(BlockCount { count, different }), end + more))
}

fn expression(text: &[u8], depth: usize) -> Result<Expression, String> {
    if depth > MAX_DEPTH {
        return Err("the expression is nested too deeply".to_owned());
    }
    let found = split(text)?;
    let (operator, at, start, end, block) = match (found.outside, found.inside) {
        (Some((operator, at)), _) => (operator, at, 0, text.len(), None),
        (None, Some((operator, at))) => (operator, at, 1, found.block_end, found.block),
        (None, None) => return leaf(text, &found, depth),
    };
    let left = text.get(start..at).filter(|left| !left.is_empty());
    let right = text.get(at + 1..end).filter(|right| !right.is_empty());
    let (Some(left), Some(right)) = (left, right) else {
        return Err(format!("an operator at {at} with nothing beside it"));
    };
    let side = |text| expression(text, depth + 1).map(Box::new);
    Ok(Expression::Both(operator, side(left)?, side(right)?, block))
}

fn leaf(text: &[u8], found: &Split, depth: usize) -> Result<Expression, String> {
    if text.first() == Some(&b'(') {
        // One pair is taken off, whatever stands at the other end.
        let inner = text.get(1..text.len() - 1).unwrap_or_default();
        return expression(inner, depth + 1);
    }
    let (id, _) = number(text, 0).ok_or("no number of a subsignature")?;
    let count = match found.modifier {
        None => None,
        Some(at) => {
            let compare = compare(text[at]).ok_or("`)` behind a subsignature")?;
            let (number, _) = number(text, at + 1).ok_or("no number behind a sign")?;
            Some(Count { compare, number })
        }
    };
    let id = id as usize;
    Ok(Expression::Leaf { id, count })
}

fn compare(byte: u8) -> Option<Compare> {
    match byte {
        b'=' => Some(Compare::Equal),
        b'>' => Some(Compare::More),
        b'<' => Some(Compare::Less),
        _ => None,
    }
}

/// A decimal number and where it ends. A sign or a blank in front, which libclamav would take, is not
/// understood.
fn number(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let rest = text.get(at..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some((number, at + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fully parenthesised.
    fn show(expression: &Expression) -> String {
        let sign = |count: &Count| {
            let sign = match count.compare {
                Compare::Equal => '=',
                Compare::More => '>',
                Compare::Less => '<',
            };
            format!("{sign}{}", count.number)
        };
        match expression {
            Expression::Leaf { id, count } => {
                format!("{id}{}", count.as_ref().map(sign).unwrap_or_default())
            }
            Expression::Both(operator, left, right, block) => {
                let operator = if *operator == Operator::And { '&' } else { '|' };
                let block = block.map(|b| match b.different {
                    0 => sign(&b.count),
                    n => format!("{},{n}", sign(&b.count)),
                });
                format!(
                    "({}{operator}{}){}",
                    show(left),
                    show(right),
                    block.unwrap_or_default()
                )
            }
        }
    }

    #[test]
    fn an_expression_is_split_as_libclamav_splits_it() {
        for (text, read_as) in [
            ("0", "0"),
            ("(0)", "0"),
            ("0=3", "0=3"),
            ("0|1&2", "(0|(1&2))"),
            ("0&1|2", "(0&(1|2))"),
            ("(0|1&2)", "((0|1)&2)"),
            ("(0|1)>2", "(0|1)>2"),
            ("(0|1|2)>1,2", "((0|1)|2)>1,2"),
            ("(0|1)=0|2", "((0|1)=0|2)"),
            ("(0=1|1)&2", "((0=1|1)&2)"),
            ("((0|1)&2)>3", "((0|1)&2)>3"),
            ("0&(1|2)>1", "(0&(1|2)>1)"),
        ] {
            let read = read(text.as_bytes()).map(|expression| show(&expression));
            assert_eq!(read.as_deref(), Ok(read_as), "{text}");
        }
        for text in [
            "", "a", "&", "0&", "|1", "(0", "0)", "(0|1)>", "0=", "()", "(", ")(",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read("(".repeat(1000).as_bytes()).is_err());
        assert!(read(["0&"; 5000].concat().as_bytes()).is_err());
    }
}
