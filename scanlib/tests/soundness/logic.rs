//! Logical expressions as libclamav reads them, and how often each part has to occur for one to be true.

use super::random::Random;

#[derive(Clone, Debug)]
pub enum Expression {
    Leaf(usize, Option<Count>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// A parenthesis with a count behind it.
    Block(Box<Expression>, Count),
}

#[derive(Clone, Copy, Debug)]
pub struct Count {
    relation: u8,
    number: usize,
    distinct: usize,
}

impl Count {
    fn holds(self, total: usize) -> bool {
        match self.relation {
            b'=' => total == self.number,
            b'>' => total > self.number,
            _ => total < self.number,
        }
    }
}

/// More than a message has room for.
const MOST: usize = 400;

impl Expression {
    /// libclamav's reading: no precedence, the first operator outside of parentheses splits; without one, the last operator
    /// of the outer parenthesis.
    pub fn read(text: &[u8]) -> Option<Expression> {
        Expression::read_within(text, 0)
    }

    fn read_within(text: &[u8], depth: usize) -> Option<Expression> {
        if depth > 200 {
            return None;
        }
        let read = |text| Expression::read_within(text, depth + 1).map(Box::new);
        let mut level = 0usize;
        let mut inner = false;
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'(' => level += 1,
                b')' => level = level.checked_sub(1)?,
                b'&' | b'|' if level == 0 => {
                    let (left, right) = (read(&text[..at])?, read(&text[at + 1..])?);
                    return Some(if byte == b'&' {
                        Expression::And(left, right)
                    } else {
                        Expression::Or(left, right)
                    });
                }
                b'&' | b'|' => inner = true,
                _ => {}
            }
        }
        if level != 0 {
            return None;
        }
        if text.first() == Some(&b'(') {
            let end = text.iter().rposition(|&byte| byte == b')')?;
            let inside = &text[1..end];
            let content = if inner {
                Expression::read_block(inside, depth)?
            } else {
                *read(inside)?
            };
            return Some(match &text[end + 1..] {
                [] => content,
                rest => Expression::Block(Box::new(content), read_count(rest)?),
            });
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
        Some(Expression::Leaf(
            id,
            match &text[digits..] {
                [] => None,
                rest => Some(read_count(rest)?),
            },
        ))
    }

    /// Split at the last operator that stands in no parenthesis of its own.
    fn read_block(text: &[u8], depth: usize) -> Option<Expression> {
        let mut level = 0usize;
        let mut last = None;
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'(' => level += 1,
                b')' => level = level.checked_sub(1)?,
                b'&' | b'|' if level == 0 => last = Some(at),
                _ => {}
            }
        }
        let Some(at) = last else {
            return Expression::read_within(text, depth + 1);
        };
        let left = Box::new(Expression::read_within(&text[..at], depth + 1)?);
        let right = Box::new(Expression::read_within(&text[at + 1..], depth + 1)?);
        Some(if text[at] == b'&' {
            Expression::And(left, right)
        } else {
            Expression::Or(left, right)
        })
    }

    /// Truth, total and the parts counted, as libclamav adds them up.
    pub fn value(&self, counts: &[usize]) -> (bool, usize, Vec<usize>) {
        match self {
            Expression::Leaf(id, count) => {
                let total = counts.get(*id).copied().unwrap_or(0);
                let truth = count.map_or(total > 0, |count| count.holds(total));
                (truth, total, vec![*id])
            }
            Expression::And(left, right) | Expression::Or(left, right) => {
                let (left, right) = (left.value(counts), right.value(counts));
                let truth = match self {
                    Expression::And(..) => left.0 && right.0,
                    _ => left.0 || right.0,
                };
                let mut total = 0;
                let mut ids = Vec::new();
                for (true_, count, of) in [left, right] {
                    if truth && true_ {
                        total += count;
                        ids.extend(of);
                    }
                }
                ids.sort_unstable();
                ids.dedup();
                (truth, total, ids)
            }
            Expression::Block(inside, count) => {
                let (truth, total, ids) = inside.value(counts);
                let (total, distinct) = if truth { (total, ids.len()) } else { (0, 0) };
                let truth = count.holds(total) && distinct >= count.distinct;
                (truth, if truth { total } else { 0 }, Vec::new())
            }
        }
    }

    /// Whether it can be true when only these parts can occur.
    pub fn can_hold(&self, possible: &dyn Fn(usize) -> bool) -> bool {
        let may_be_none = |count: &Count| match count.relation {
            b'=' => count.number == 0,
            b'<' => count.number > 0,
            _ => false,
        };
        match self {
            Expression::Leaf(_, Some(count)) if count.relation == b'<' && count.number == 0 => {
                false
            }
            Expression::Leaf(id, count) => possible(*id) || count.as_ref().is_some_and(may_be_none),
            Expression::And(left, right) => left.can_hold(possible) && right.can_hold(possible),
            Expression::Or(left, right) => left.can_hold(possible) || right.can_hold(possible),
            Expression::Block(_, count) if count.relation == b'<' => count.number > 0,
            Expression::Block(inside, count) => may_be_none(count) || inside.can_hold(possible),
        }
    }

    /// Counts that make it true: found by trying, checked by [`Expression::value`].
    pub fn choose(
        &self,
        parts: usize,
        possible: &dyn Fn(usize) -> bool,
        random: &mut Random,
    ) -> Option<Vec<usize>> {
        for _ in 0..25 {
            let mut counts = vec![0; parts];
            self.want(possible, random, &mut counts);
            if self.value(&counts).0 {
                return Some(counts);
            }
        }
        None
    }

    fn want(&self, possible: &dyn Fn(usize) -> bool, random: &mut Random, counts: &mut [usize]) {
        match self {
            Expression::Leaf(id, count) => {
                let Some(have) = counts.get_mut(*id) else {
                    return;
                };
                let need = match count {
                    None => 1,
                    Some(count) => match count.relation {
                        b'=' => count.number,
                        b'>' => count.number + 1,
                        _ if random.percent(60) => 0,
                        _ => random.below(count.number),
                    },
                };
                *have = (*have).max(need.min(MOST));
            }
            Expression::And(left, right) => {
                left.want(possible, random, counts);
                right.want(possible, random, counts);
            }
            Expression::Or(left, right) => {
                let able = (left.can_hold(possible), right.can_hold(possible));
                let both = random.percent(10);
                let first = match able {
                    (true, false) => true,
                    (false, true) => false,
                    // A long chain leans to the right: so its every member is taken now and then.
                    _ => random.below(left.size() + right.size()) < left.size(),
                };
                if first || both {
                    left.want(possible, random, counts);
                }
                if !first || both {
                    right.want(possible, random, counts);
                }
            }
            Expression::Block(inside, count) => {
                let nothing = match count.relation {
                    b'=' => count.number == 0,
                    b'<' => random.percent(60),
                    _ => false,
                };
                if nothing {
                    return;
                }
                inside.want(possible, random, counts);
                let mut ids = Vec::new();
                inside.leaves(&mut ids);
                ids.retain(|&id| possible(id) && id < counts.len());
                if ids.is_empty() {
                    return;
                }
                for _ in 0..count.number.min(MOST) + count.distinct.min(64) + 2 {
                    let (truth, total, distinct) = inside.value(counts);
                    let enough = match count.relation {
                        b'=' => total >= count.number,
                        b'>' => total > count.number,
                        _ => true,
                    };
                    if truth && enough && distinct.len() >= count.distinct {
                        return;
                    }
                    let id = *random.pick(&ids);
                    counts[id] += 1;
                }
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Expression::Leaf(..) => 1,
            Expression::And(left, right) | Expression::Or(left, right) => {
                left.size() + right.size()
            }
            Expression::Block(inside, _) => inside.size(),
        }
    }

    pub fn leaves(&self, out: &mut Vec<usize>) {
        match self {
            Expression::Leaf(id, _) => out.push(*id),
            Expression::And(left, right) | Expression::Or(left, right) => {
                left.leaves(out);
                right.leaves(out);
            }
            Expression::Block(inside, _) => inside.leaves(out),
        }
    }
}

fn read_count(text: &[u8]) -> Option<Count> {
    let (&relation, number) = text.split_first()?;
    if !matches!(relation, b'=' | b'>' | b'<') {
        return None;
    }
    let number = std::str::from_utf8(number).ok()?;
    let (number, distinct) = number.split_once(',').unwrap_or((number, "0"));
    Some(Count {
        relation,
        number: number.parse().ok()?,
        distinct: distinct.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(text: &str, counts: &[usize]) -> bool {
        Expression::read(text.as_bytes()).unwrap().value(counts).0
    }

    #[test]
    fn expressions_are_read_without_precedence() {
        assert!(truth("0|1&2", &[1, 0, 0]));
        assert!(!truth("0&1|2", &[0, 0, 1]));
        assert!(!truth("(0|1&2)", &[1, 0, 0]));
        assert!(truth("(0&1|2)", &[0, 0, 1]));
        assert!(
            truth("(0&1|2|3)", &[0, 0, 0, 1]),
            "0&(1|2), and 3 beside it"
        );
        assert!(truth("(0|1)=0", &[0, 0]));
        assert!(!truth("(0|1|2)>1,2", &[3, 0, 0]));
        assert!(truth("(0|1|2)>1,2", &[1, 0, 1]));
        assert!(
            truth("(0|1=0)>1,2", &[2, 0]),
            "a part that is not there counts as one of two"
        );
    }

    #[test]
    fn what_is_chosen_is_true() {
        for text in [
            "(0&1)>4,2",
            "((0|1|2)=2)&(3|4)>3",
            "0=3&(1|2)<2",
            "(0|1|2|3|4)>2,3",
        ] {
            let expression = Expression::read(text.as_bytes()).unwrap();
            for seed in 0..50 {
                let counts = expression.choose(5, &|_| true, &mut Random::new(seed));
                assert!(expression.value(&counts.unwrap()).0, "{text}");
            }
        }
    }
}
