//! The condition of a rule.
//!
//! Read in one go and without a tree. What can be false only where something is missing gives a
//! need, everything else may always be true. Effort and depth are limited.

use super::cursor::{Cursor, is_keyword};
use super::lexer::{Compare, Number, Token};
use super::literal;
use crate::required::{Atom, Required};
use crate::text;

/// What a string of the rule is called and needs.
pub(super) struct StringNeed<'t> {
    pub(super) name: &'t str,
    pub(super) required: Required,
}

/// A condition, understood.
pub(super) struct Condition {
    pub(super) required: Required,
    /// Certainly, libclamav compiles it.
    pub(super) exact: bool,
    /// It has a loop.
    pub(super) loops: bool,
}

/// Parentheses in parentheses.
const DEPTH: usize = 60;
/// Words read and needs copied, for one condition.
const EFFORT: usize = 100_000;
/// libclamav has no more loops in loops.
const LOOPS: usize = 4;

/// Understands a condition, or says why not.
pub(super) fn read(tokens: &[Token<'_>], strings: &[StringNeed<'_>]) -> Result<Condition, String> {
    let mut reader = Reader {
        cursor: Cursor::new(tokens),
        strings,
        used: vec![false; strings.len()],
        here: None,
        variables: Vec::new(),
        depth: 0,
        effort: EFFORT,
        exact: true,
        loops: 0,
        had_loops: false,
    };
    let required = reader.expression()?.required();
    if reader.cursor.peek().is_some() {
        return Err(reader.cursor.unexpected());
    }
    Ok(Condition {
        required,
        exact: reader.exact && reader.used.iter().all(|used| *used),
        loops: reader.had_loops,
    })
}

/// What an expression has as its value.
enum Value {
    /// True or false: what is needed for true.
    Truth(Required),
    Integer(Integer),
}

enum Integer {
    Constant(Number),
    /// How often a string matches, which needs this to match.
    Count(Required),
    /// Undefined without this. A comparison with what is undefined is false.
    Defined(Required),
    /// So many bytes of the message, from there if it is known where.
    Bytes {
        width: usize,
        at: Option<i64>,
    },
    Unknown,
}

impl Value {
    /// As a truth value. An integer is true unless it is zero.
    fn required(self) -> Required {
        match self {
            Value::Truth(required) => required,
            Value::Integer(_) => Required::Always,
        }
    }
}

/// How many of a set.
enum Quantity {
    All,
    AtLeast(usize),
    Unknown,
}

impl Quantity {
    fn of(&self, needs: Vec<Required>) -> Required {
        match self {
            Quantity::All => Required::all(needs),
            Quantity::AtLeast(count) => Required::at_least(*count, needs),
            Quantity::Unknown => Required::Always,
        }
    }
}

struct Reader<'r, 't> {
    cursor: Cursor<'r, 't>,
    strings: &'r [StringNeed<'t>],
    /// Which of them have been named.
    used: Vec<bool>,
    /// The string that a loop is at.
    here: Option<usize>,
    /// Variables of the loops around.
    variables: Vec<&'t str>,
    depth: usize,
    effort: usize,
    exact: bool,
    loops: usize,
    had_loops: bool,
}

impl<'r, 't> Reader<'r, 't> {
    fn spend(&mut self, effort: usize) -> Result<(), String> {
        self.effort = self
            .effort
            .checked_sub(effort)
            .ok_or("a condition of great size")?;
        Ok(())
    }

    fn expression(&mut self) -> Result<Value, String> {
        if self.depth == DEPTH {
            return Err("a condition of great depth".to_owned());
        }
        self.depth += 1;
        let first = self.conjunction()?;
        let value = match self.cursor.peek() {
            Some(Token::Word("or")) => {
                let mut needs = vec![first.required()];
                while self.cursor.accept_word("or") {
                    needs.push(self.conjunction()?.required());
                }
                Value::Truth(Required::any(needs))
            }
            _ => first,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn conjunction(&mut self) -> Result<Value, String> {
        let first = self.negation()?;
        if self.cursor.peek() != Some(&Token::Word("and")) {
            return Ok(first);
        }
        let mut needs = vec![first.required()];
        while self.cursor.accept_word("and") {
            needs.push(self.negation()?.required());
        }
        Ok(Value::Truth(Required::all(needs)))
    }

    fn negation(&mut self) -> Result<Value, String> {
        let mut negated = false;
        while self.cursor.accept_word("not") {
            self.spend(1)?;
            negated = true;
        }
        let value = self.comparison()?;
        Ok(match negated {
            true => Value::Truth(Required::Always),
            false => value,
        })
    }

    fn comparison(&mut self) -> Result<Value, String> {
        let left = self.arithmetic()?;
        match self.cursor.peek() {
            Some(Token::Compare(compare)) => {
                self.cursor.at += 1;
                let right = self.integer()?;
                Ok(Value::Truth(compared(
                    self.as_integer(left)?,
                    *compare,
                    right,
                )))
            }
            Some(Token::Word("contains" | "matches")) => {
                self.cursor.at += 1;
                self.exact = false;
                self.as_integer(left)?;
                self.integer()?;
                Ok(Value::Truth(Required::Always))
            }
            Some(Token::Word("of")) => {
                let left = self.as_integer(left)?;
                self.of(&quantity(&left))
            }
            _ => Ok(left),
        }
    }

    /// An integer from here on.
    fn integer(&mut self) -> Result<Integer, String> {
        let value = self.arithmetic()?;
        self.as_integer(value)
    }

    fn as_integer(&self, value: Value) -> Result<Integer, String> {
        match value {
            Value::Integer(integer) => Ok(integer),
            Value::Truth(_) => Err("a truth value in the place of an integer".to_owned()),
        }
    }

    /// What operators make of integers is not known, so their ranks do not matter.
    fn arithmetic(&mut self) -> Result<Value, String> {
        let first = self.term()?;
        if !self.operator() {
            return Ok(first);
        }
        self.as_integer(first)?;
        loop {
            let next = self.term()?;
            self.as_integer(next)?;
            if !self.operator() {
                return Ok(Value::Integer(Integer::Unknown));
            }
        }
    }

    fn operator(&mut self) -> bool {
        match self.cursor.peek() {
            Some(Token::Sign(b'+' | b'-' | b'*' | b'\\' | b'%') | Token::Shift) => {}
            // These rank below comparisons.
            Some(Token::Sign(b'&' | b'|' | b'^')) => self.exact = false,
            _ => return false,
        }
        self.cursor.at += 1;
        true
    }

    fn term(&mut self) -> Result<Value, String> {
        self.spend(1)?;
        let mut is_integer = false;
        while self.cursor.accept_sign(b'~') {
            self.spend(1)?;
            is_integer = true;
        }
        let term = self.plain_term()?;
        if !is_integer {
            return Ok(term);
        }
        self.as_integer(term)?;
        Ok(Value::Integer(Integer::Unknown))
    }

    fn plain_term(&mut self) -> Result<Value, String> {
        let Some(token) = self.cursor.next() else {
            return Err(self.cursor.unexpected());
        };
        Ok(match token {
            Token::Sign(b'(') => {
                let value = self.expression()?;
                self.cursor.expect_sign(b')')?;
                value
            }
            Token::Number(number) => Value::Integer(Integer::Constant(*number)),
            Token::Text(_) | Token::Regex(_) => {
                self.exact = false;
                Value::Integer(Integer::Unknown)
            }
            Token::String(name) => Value::Truth(self.found(name)?),
            Token::Count(name) => Value::Integer(Integer::Count(self.string(name)?)),
            Token::Offset(name) => self.place(name)?,
            Token::Length(name) => {
                self.exact = false;
                self.place(name)?
            }
            Token::Word(word) => self.word(word)?,
            _ => return Err(self.last_unexpected()),
        })
    }

    fn last_unexpected(&mut self) -> String {
        self.cursor.at -= 1;
        self.cursor.unexpected()
    }

    fn word(&mut self, word: &'t str) -> Result<Value, String> {
        let unknown = Ok(Value::Integer(Integer::Unknown));
        match word {
            "true" => Ok(Value::Truth(Required::Always)),
            "false" => Ok(Value::Truth(Required::Never)),
            "any" => self.of(&Quantity::AtLeast(1)),
            "all" => self.of(&Quantity::All),
            "for" => self.quantified(),
            "filesize" | "entrypoint" => unknown,
            "int8" | "uint8" => self.bytes(1),
            "int16" | "uint16" => self.bytes(2),
            "int32" | "uint32" => self.bytes(4),
            word if is_keyword(word) => Err(self.last_unexpected()),
            word if self.variables.contains(&word) => unknown,
            // Another rule, or something of a module. libclamav knows a rule by a number that may
            // come to be another rule's, so nothing can be told from the rule of that name.
            _ => {
                self.exact = false;
                self.fields()?;
                unknown
            }
        }
    }

    /// `.field`, `[index]` and `(arguments)`, in any number.
    fn fields(&mut self) -> Result<(), String> {
        loop {
            if self.cursor.accept_sign(b'.') {
                self.cursor.expect_name()?;
            } else if self.cursor.accept_sign(b'[') {
                self.cursor.skip_to(b'[', b']')?;
            } else if self.cursor.accept_sign(b'(') {
                self.cursor.skip_to(b'(', b')')?;
            } else {
                return Ok(());
            }
        }
    }

    /// `$name`, `$name at place`, `$name in (from..to)`
    fn found(&mut self, name: &str) -> Result<Required, String> {
        let required = self.string(name)?;
        if self.cursor.accept_word("at") {
            self.integer()?;
        } else if self.cursor.accept_word("in") {
            self.cursor.expect_sign(b'(')?;
            self.integer()?;
            self.range()?;
        }
        Ok(required)
    }

    /// `..to)`
    fn range(&mut self) -> Result<(), String> {
        self.cursor.expect_sign(b'.')?;
        self.cursor.expect_sign(b'.')?;
        self.integer()?;
        self.cursor.expect_sign(b')')
    }

    /// Where a string matches, or how long the match is.
    fn place(&mut self, name: &str) -> Result<Value, String> {
        let required = self.string(name)?;
        if self.cursor.accept_sign(b'[') {
            self.integer()?;
            self.cursor.expect_sign(b']')?;
        }
        Ok(Value::Integer(Integer::Defined(required)))
    }

    fn bytes(&mut self, width: usize) -> Result<Value, String> {
        self.cursor.expect_sign(b'(')?;
        let at = match self.integer()? {
            Integer::Constant(number) => number.value,
            _ => None,
        };
        self.cursor.expect_sign(b')')?;
        Ok(Value::Integer(Integer::Bytes { width, at }))
    }

    /// What is needed for a string to match; the string that the loop is at has no name.
    fn string(&mut self, name: &str) -> Result<Required, String> {
        let index = match name {
            "" => self.here.ok_or("a string without a name")?,
            name => self
                .strings
                .iter()
                .position(|string| string.name == name)
                .ok_or("a string that is not there")?,
        };
        self.required(index)
    }

    fn required(&mut self, index: usize) -> Result<Required, String> {
        let strings = self.strings;
        let required = strings
            .get(index)
            .map_or(&Required::Always, |string| &string.required);
        self.spend(size(required))?;
        if let Some(used) = self.used.get_mut(index) {
            *used = true;
        }
        Ok(required.clone())
    }

    /// `… of set`, from `of` on.
    fn of(&mut self, quantity: &Quantity) -> Result<Value, String> {
        self.cursor.expect_word("of")?;
        let mut needs = Vec::new();
        for index in self.set()? {
            needs.push(self.required(index)?);
        }
        Ok(Value::Truth(quantity.of(needs)))
    }

    /// Strings, each as often as it is named.
    fn set(&mut self) -> Result<Vec<usize>, String> {
        let mut set = Vec::new();
        if self.cursor.accept_word("them") {
            self.add(&mut set, |_| true)?;
            return Ok(set);
        }
        self.cursor.expect_sign(b'(')?;
        loop {
            match self.cursor.peek() {
                Some(Token::String(name)) => self.add(&mut set, |other| other == *name)?,
                Some(Token::Strings(start)) => {
                    self.add(&mut set, |other| other.starts_with(start))?;
                }
                _ => return Err(self.cursor.unexpected()),
            }
            self.cursor.at += 1;
            if self.cursor.accept_sign(b')') {
                return Ok(set);
            }
            self.cursor.expect_sign(b',')?;
        }
    }

    fn add(&mut self, set: &mut Vec<usize>, such: impl Fn(&str) -> bool) -> Result<(), String> {
        self.spend(self.strings.len())?;
        let before = set.len();
        let strings = self.strings.iter().enumerate();
        set.extend(
            strings
                .filter(|(_, string)| such(string.name))
                .map(|(index, _)| index),
        );
        match set.len() > before {
            true => Ok(()),
            false => Err("strings that are not there".to_owned()),
        }
    }

    /// A loop, from the word after `for` on.
    fn quantified(&mut self) -> Result<Value, String> {
        self.had_loops = true;
        let quantity = match self.cursor.peek() {
            Some(Token::Word("any")) => {
                self.cursor.at += 1;
                Quantity::AtLeast(1)
            }
            Some(Token::Word("all")) => {
                self.cursor.at += 1;
                Quantity::All
            }
            _ => quantity(&self.integer()?),
        };
        self.loops += 1;
        self.exact &= self.loops <= LOOPS;
        let required = match self.cursor.accept_word("of") {
            true => self.over_strings(&quantity)?,
            false => self.over_integers(&quantity)?,
        };
        self.loops -= 1;
        Ok(Value::Truth(required))
    }

    fn over_strings(&mut self, quantity: &Quantity) -> Result<Required, String> {
        if self.here.is_some() {
            return Err("a loop over strings within another".to_owned());
        }
        let set = self.set()?;
        let start = self.cursor.at;
        let mut needs = Vec::with_capacity(set.len());
        for index in set {
            // It is in the set, whether or not the loop's condition names it.
            self.required(index)?;
            self.cursor.at = start;
            self.here = Some(index);
            needs.push(self.inner()?);
        }
        self.here = None;
        Ok(quantity.of(needs))
    }

    fn over_integers(&mut self, quantity: &Quantity) -> Result<Required, String> {
        let variable = self.cursor.expect_name()?;
        self.exact &= !self.variables.contains(&variable);
        self.cursor.expect_word("in")?;
        self.cursor.expect_sign(b'(')?;
        self.integer()?;
        if self.cursor.peek() == Some(&Token::Sign(b'.')) {
            self.range()?;
        } else {
            while self.cursor.accept_sign(b',') {
                self.integer()?;
            }
            self.cursor.expect_sign(b')')?;
        }
        self.variables.push(variable);
        let required = self.inner()?;
        self.variables.pop();
        Ok(match quantity {
            Quantity::AtLeast(1) => required,
            _ => Required::Always,
        })
    }

    /// `: (condition)`
    fn inner(&mut self) -> Result<Required, String> {
        self.cursor.expect_sign(b':')?;
        self.cursor.expect_sign(b'(')?;
        let required = self.expression()?.required();
        self.cursor.expect_sign(b')')?;
        Ok(required)
    }
}

/// A number of strings; none at all is always there.
fn quantity(integer: &Integer) -> Quantity {
    match integer {
        Integer::Constant(Number {
            value: Some(value), ..
        }) => match usize::try_from(*value) {
            Ok(count @ 1..) => Quantity::AtLeast(count),
            _ => Quantity::Unknown,
        },
        _ => Quantity::Unknown,
    }
}

/// What is needed for a comparison to be true.
fn compared(left: Integer, compare: Compare, right: Integer) -> Required {
    match (left, right) {
        (Integer::Defined(one), Integer::Defined(other)) => Required::all(vec![one, other]),
        (Integer::Defined(required), _) | (_, Integer::Defined(required)) => required,
        (Integer::Count(required), Integer::Constant(number)) => counted(required, compare, number),
        (Integer::Constant(number), Integer::Count(required)) => {
            counted(required, turned(compare), number)
        }
        (Integer::Bytes { width, at }, Integer::Constant(number))
        | (Integer::Constant(number), Integer::Bytes { width, at })
            if compare == Compare::Equal =>
        {
            stands(width, at, number)
        }
        _ => Required::Always,
    }
}

/// The same with its sides exchanged.
fn turned(compare: Compare) -> Compare {
    match compare {
        Compare::Less => Compare::Greater,
        Compare::LessOrEqual => Compare::GreaterOrEqual,
        Compare::Greater => Compare::Less,
        Compare::GreaterOrEqual => Compare::LessOrEqual,
        same => same,
    }
}

/// Whether a count of zero is out of the question.
fn counted(required: Required, compare: Compare, number: Number) -> Required {
    let positive = number.value.is_some_and(|value| match compare {
        Compare::Equal | Compare::GreaterOrEqual => value >= 1,
        Compare::Greater => value >= 0,
        Compare::NotEqual => value == 0,
        Compare::Less | Compare::LessOrEqual => false,
    });
    if positive { required } else { Required::Always }
}

/// The bytes of the number stand in the message, the lowest first.
fn stands(width: usize, at: Option<i64>, number: Number) -> Required {
    let bytes = number.word.map(u32::to_le_bytes);
    let Some((bytes, above)) = bytes
        .as_ref()
        .and_then(|bytes| bytes.split_at_checked(width))
    else {
        return Required::Always;
    };
    if above.iter().any(|byte| *byte != 0) {
        return Required::Always;
    }
    // A message that starts like a program is not plain.
    let program = at == Some(0) && bytes.starts_with(b"MZ");
    if program || bytes.iter().any(|byte| text::is_foreign(*byte)) {
        return Required::Never;
    }
    let by = at.and_then(|at| u32::try_from(at).ok());
    Required::all(vec![literal::normalised(bytes, by), literal::raw(bytes)])
}

/// The effort of a copy.
fn size(required: &Required) -> usize {
    1 + match required {
        Required::AtLeast(_, needs) => needs.iter().map(size).sum(),
        Required::Has(Atom::Text { literal, .. } | Atom::Raw(literal)) => literal.len() / 16,
        _ => 0,
    }
}
