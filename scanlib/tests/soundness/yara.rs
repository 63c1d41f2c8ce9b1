//! YARA rules, read well enough to write messages that most of them match.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::hex;
use super::draft::{Draft, LONGEST_MESSAGE, Place};
use super::pattern::{Alphabet, Pattern};
use super::random::Random;
use super::regex::Regex;

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    private: bool,
    strings: Vec<Text>,
    condition: Option<Condition>,
    /// The rules before it in the file that it names.
    others: Vec<Arc<Rule>>,
}

#[derive(Clone, Debug)]
struct Text {
    name: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Pattern(Pattern),
    Regex(Regex),
    Unknown,
}

/// A string of the rule, or the one that a loop is at.
type Subject = Option<usize>;

#[derive(Clone, Debug)]
enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    /// Nothing is done for it: what a message does not need is mostly not there.
    Not,
    Found(Subject),
    At(Subject, Box<Condition>),
    In(Subject, Box<Condition>),
    Of(Quantity, Vec<usize>, Option<Box<Condition>>),
    Times(Subject),
    Position(Subject),
    Compare(u8, Box<Condition>, Box<Condition>),
    Minus(Box<Condition>, Box<Condition>),
    Number(i64),
    Size,
    Integer {
        bytes: usize,
        big: bool,
        at: Box<Condition>,
    },
    Rule(usize),
    /// Not followed further; true for all this test knows.
    Unknown,
    False,
}

#[derive(Clone, Copy, Debug)]
enum Quantity {
    All,
    AtLeast(usize),
}

/// The rules of a file, each with its text.
pub fn read(content: &str) -> Vec<(String, Rule)> {
    let mut reader = Reader {
        text: content.as_bytes(),
        at: 0,
    };
    let mut rules = Vec::new();
    let mut known: HashMap<String, Arc<Rule>> = HashMap::new();
    loop {
        reader.space();
        let start = reader.at;
        if start >= reader.text.len() {
            return rules;
        }
        match reader.rule(&known) {
            Some(rule) => {
                known.insert(rule.name.clone(), Arc::new(rule.clone()));
                let text = String::from_utf8_lossy(&reader.text[start..reader.at]).into_owned();
                rules.push((text, rule));
            }
            None => reader.at = start + 1,
        }
    }
}

impl Rule {
    pub fn impossible(&self) -> Option<&'static str> {
        if self.private {
            return Some("private, and so never reported");
        }
        if self.strings.is_empty() {
            return Some("left out by the engine: no strings");
        }
        let Some(condition) = &self.condition else {
            return None;
        };
        if self.possible(condition, None, Alphabet::Text) {
            None
        } else if self.possible(condition, None, Alphabet::Any) {
            Some("needs what no plain message holds")
        } else {
            Some("needs a part that this test does not understand, or that nothing matches")
        }
    }

    fn fits(&self, subject: Subject, within: Subject, alphabet: Alphabet) -> bool {
        match subject.or(within).and_then(|id| self.strings.get(id)) {
            Some(text) => match &text.what {
                What::Pattern(pattern) => pattern.fits(alphabet),
                What::Regex(regex) => regex.fits(alphabet),
                What::Unknown => false,
            },
            None => false,
        }
    }

    fn possible(&self, condition: &Condition, within: Subject, alphabet: Alphabet) -> bool {
        let possible = |condition: &Condition| self.possible(condition, within, alphabet);
        match condition {
            Condition::And(left, right) => possible(left) && possible(right),
            Condition::Or(left, right) => possible(left) || possible(right),
            Condition::Found(subject) | Condition::At(subject, _) | Condition::In(subject, _) => {
                self.fits(*subject, within, alphabet)
            }
            Condition::Of(quantity, set, body) => {
                let able = set
                    .iter()
                    .filter(|&&id| match body {
                        Some(body) => self.possible(body, Some(id), alphabet),
                        None => self.fits(Some(id), None, alphabet),
                    })
                    .count();
                match quantity {
                    Quantity::All => able == set.len(),
                    Quantity::AtLeast(least) => able >= *least,
                }
            }
            Condition::Compare(relation, left, right) => match (&**left, &**right) {
                (Condition::Times(subject), Condition::Number(number)) => {
                    let none = match relation {
                        b'=' => *number == 0,
                        b'<' | b'l' => true,
                        _ => false,
                    };
                    none || self.fits(*subject, within, alphabet)
                }
                (Condition::Size, Condition::Number(number)) => match relation {
                    b'>' | b'g' | b'=' => *number <= LONGEST_MESSAGE as i64,
                    _ => *number > 6,
                },
                (Condition::Integer { bytes, big, at }, Condition::Number(number))
                    if *relation == b'=' =>
                {
                    let text = integer(*bytes, *big, *number);
                    let executable = alphabet != Alphabet::Any
                        && text.starts_with(b"MZ")
                        && matches!(**at, Condition::Number(0));
                    text.iter().all(|&byte| alphabet.has(byte)) && !executable
                }
                _ => true,
            },
            Condition::Rule(other) => match self.others.get(*other) {
                Some(rule) => rule
                    .condition
                    .as_ref()
                    .is_none_or(|condition| rule.possible(condition, None, alphabet)),
                None => false,
            },
            Condition::False => false,
            _ => true,
        }
    }

    pub fn draft(&self, random: &mut Random) -> Draft {
        let mut plan = Plan {
            draft: Draft::default(),
            times: vec![0; self.strings.len()],
            places: vec![Place::Anywhere; self.strings.len()],
        };
        match &self.condition {
            Some(condition) => self.want(condition, None, &mut plan, random),
            None => plan.times.fill(1),
        }
        let mut draft = plan.draft;
        for (id, text) in self.strings.iter().enumerate() {
            for time in 0..plan.times[id].min(200) {
                let place = if time == 0 {
                    plan.places[id]
                } else {
                    Place::Anywhere
                };
                let (bytes, own) = match &text.what {
                    What::Pattern(pattern) => {
                        (pattern.instance(Alphabet::Text, random), Place::Anywhere)
                    }
                    What::Regex(regex) => {
                        let bytes = regex.instance(Alphabet::Text, random);
                        let place = if regex.at_start {
                            Place::Start(0, 0)
                        } else if regex.at_end {
                            Place::End(bytes.len())
                        } else {
                            Place::Anywhere
                        };
                        (bytes, place)
                    }
                    What::Unknown => continue,
                };
                draft.add(bytes, if place == Place::Anywhere { own } else { place });
            }
        }
        draft
    }

    fn want(&self, condition: &Condition, within: Subject, plan: &mut Plan, random: &mut Random) {
        match condition {
            Condition::And(left, right) => {
                self.want(left, within, plan, random);
                self.want(right, within, plan, random);
            }
            Condition::Or(left, right) => {
                let (can_left, can_right) = (
                    self.possible(left, within, Alphabet::Text),
                    self.possible(right, within, Alphabet::Text),
                );
                let take_left = if can_left == can_right {
                    random.percent(50)
                } else {
                    can_left
                };
                self.want(if take_left { left } else { right }, within, plan, random);
            }
            Condition::Found(subject) | Condition::Position(subject) => {
                plan.times(subject.or(within), 1);
            }
            Condition::At(subject, at) | Condition::In(subject, at) => {
                let Some(id) = subject.or(within).filter(|&id| id < self.strings.len()) else {
                    return;
                };
                plan.times(Some(id), 1);
                match &**at {
                    Condition::Number(at) => {
                        let at = usize::try_from(*at).unwrap_or(0);
                        plan.places[id] = Place::Start(at, at);
                    }
                    Condition::Minus(left, right) => {
                        if let (Condition::Size, Condition::Number(before)) = (&**left, &**right) {
                            plan.places[id] = Place::End(usize::try_from(*before).unwrap_or(0));
                        }
                    }
                    _ => {}
                }
            }
            Condition::Of(quantity, set, body) => {
                let mut able: Vec<usize> = set
                    .iter()
                    .copied()
                    .filter(|&id| self.fits(Some(id), None, Alphabet::Text))
                    .collect();
                if able.is_empty() {
                    able.clone_from(set);
                }
                random.shuffle(&mut able);
                let least = match quantity {
                    Quantity::All => set.len(),
                    Quantity::AtLeast(least) => *least,
                };
                for &id in able.iter().take(least) {
                    match body {
                        Some(body) => self.want(body, Some(id), plan, random),
                        None => plan.times(Some(id), 1),
                    }
                }
            }
            Condition::Compare(relation, left, right) => match (&**left, &**right) {
                (Condition::Times(subject), Condition::Number(number)) => {
                    let number = usize::try_from(*number).unwrap_or(0);
                    let times = match relation {
                        b'>' | b'!' => number + 1,
                        b'g' | b'=' => number,
                        _ => 0,
                    };
                    plan.times(subject.or(within), times);
                }
                (Condition::Size, Condition::Number(number)) => {
                    let number = usize::try_from(*number).unwrap_or(0);
                    let size = match relation {
                        b'>' | b'g' => (number + 1, usize::MAX),
                        b'<' | b'l' => (0, number.saturating_sub(1)),
                        b'=' => (number, number),
                        _ => return,
                    };
                    plan.draft.merge(Draft {
                        pieces: Vec::new(),
                        size: Some(size),
                    });
                }
                (Condition::Integer { bytes, big, at }, Condition::Number(number))
                    if *relation == b'=' =>
                {
                    if let Condition::Number(at) = **at {
                        let at = usize::try_from(at).unwrap_or(0);
                        plan.draft
                            .add(integer(*bytes, *big, *number), Place::Start(at, at));
                    }
                }
                (left, right) => {
                    self.want(left, within, plan, random);
                    self.want(right, within, plan, random);
                }
            },
            Condition::Times(subject) => plan.times(subject.or(within), 2),
            Condition::Rule(other) => {
                if let Some(rule) = self.others.get(*other) {
                    plan.draft.merge(rule.draft(random));
                }
            }
            Condition::Unknown => {
                // Perhaps it is about these.
                plan.times
                    .iter_mut()
                    .for_each(|times| *times = (*times).max(1));
            }
            _ => {}
        }
    }
}

fn integer(bytes: usize, big: bool, number: i64) -> Vec<u8> {
    let mut text = number.to_le_bytes()[..bytes].to_vec();
    if big {
        text.reverse();
    }
    text
}

struct Plan {
    draft: Draft,
    times: Vec<usize>,
    places: Vec<Place>,
}

impl Plan {
    fn times(&mut self, subject: Subject, least: usize) {
        if let Some(times) = subject.and_then(|id| self.times.get_mut(id)) {
            *times = (*times).max(least);
        }
    }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

/// Names and strings that the condition can refer to.
struct Scope<'s> {
    strings: &'s [Text],
    others: &'s mut Vec<Arc<Rule>>,
    known: &'s HashMap<String, Arc<Rule>>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t [u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    /// White space and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with(b"//") {
                self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                let end = rest.windows(2).position(|pair| pair == b"*/");
                self.at += end.map_or(rest.len(), |end| end + 2);
            } else if rest.first().is_some_and(u8::is_ascii_whitespace) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(text.as_bytes());
        if found {
            self.at += text.len();
        }
        found
    }

    fn word(&mut self) -> Option<&'t str> {
        self.space();
        let rest = self.rest();
        let len = rest
            .iter()
            .take_while(|&&byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .count();
        self.at += len;
        (len > 0)
            .then(|| std::str::from_utf8(&rest[..len]).ok())
            .flatten()
    }

    fn peek_word(&mut self) -> Option<&'t str> {
        let at = self.at;
        let word = self.word();
        self.at = at;
        word
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        if found {
            self.space();
            self.at += word.len();
        }
        found
    }

    fn rule(&mut self, known: &HashMap<String, Arc<Rule>>) -> Option<Rule> {
        let mut private = false;
        loop {
            match self.word()? {
                "private" => private = true,
                "global" => {}
                "rule" => break,
                _ => return None,
            }
        }
        let name = self.word()?.to_owned();
        if self.eat(":") {
            while !self.eat("{") {
                self.word()?;
            }
        } else if !self.eat("{") {
            return None;
        }
        if self.eat_word("meta") {
            self.eat(":");
            while !matches!(self.peek_word(), Some("strings" | "condition")) {
                self.word()?;
                self.eat("=");
                self.eat("-");
                if self.eat("\"") {
                    self.quoted()?;
                } else {
                    self.word()?;
                }
            }
        }
        let mut strings = Vec::new();
        if self.eat_word("strings") {
            self.eat(":");
            while self.eat("$") {
                strings.push(self.string()?);
            }
        }
        if !self.eat_word("condition") {
            return None;
        }
        self.eat(":");
        let start = self.at;
        let mut others = Vec::new();
        let mut scope = Scope {
            strings: &strings,
            others: &mut others,
            known,
        };
        let mut condition = self.either(&mut scope, 0);
        if !self.eat("}") {
            condition = None;
            self.at = start;
            while !self.eat("}") {
                if self.eat("\"") {
                    self.quoted()?;
                } else if self.at < self.text.len() {
                    self.at += 1;
                } else {
                    return None;
                }
            }
        }
        Some(Rule {
            name,
            private,
            strings,
            condition,
            others,
        })
    }

    /// Past the opening quote.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let byte = *self.rest().first()?;
            self.at += 1;
            match byte {
                b'"' => return Some(out),
                b'\n' => return None,
                b'\\' => {
                    let byte = *self.rest().first()?;
                    self.at += 1;
                    out.push(match byte {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'x' => {
                            let digits = std::str::from_utf8(self.rest().get(..2)?).ok()?;
                            self.at += 2;
                            u8::from_str_radix(digits, 16).ok()?
                        }
                        byte => byte,
                    });
                }
                byte => out.push(byte),
            }
        }
    }

    /// Past the dollar.
    fn string(&mut self) -> Option<Text> {
        let name = if self.rest().first().is_some_and(|byte| *byte == b'=') {
            ""
        } else {
            self.word().unwrap_or("")
        };
        self.eat("=");
        let mut pattern = None;
        let mut text = None;
        let mut regex = None;
        if self.eat("\"") {
            text = Some(self.quoted()?);
        } else if self.eat("{") {
            let mut body = String::new();
            while !self.eat("}") {
                body.push(char::from(*self.rest().first()?));
                self.at += 1;
            }
            let mut converted = String::new();
            for (index, piece) in body.split(['[', ']']).enumerate() {
                match (index % 2, piece) {
                    (0, piece) => converted.push_str(piece),
                    (_, "-") => converted.push('*'),
                    (_, piece) => converted.push_str(&format!("{{{piece}}}")),
                }
            }
            pattern = Pattern::read(&converted.replace(char::is_whitespace, ""), "");
        } else if self.eat("/") {
            let start = self.at;
            loop {
                match self.rest().first()? {
                    b'\\' => self.at += 2,
                    b'/' => break,
                    b'\n' => return None,
                    _ => self.at += 1,
                }
            }
            regex = Some(&self.text[start..self.at]);
            self.at += 1;
        } else {
            return None;
        }
        let glued = !self.rest().first().is_some_and(u8::is_ascii_whitespace);
        let flags = if regex.is_some() && glued {
            self.word().unwrap_or("")
        } else {
            ""
        };
        let (mut nocase, mut wide, mut ascii, mut fullword) = (false, false, false, false);
        let mut unknown = false;
        while let Some(word) = self.peek_word() {
            match word {
                "nocase" => nocase = true,
                "wide" => wide = true,
                "ascii" => ascii = true,
                "fullword" => fullword = true,
                "private" => {}
                "xor" | "base64" | "base64wide" => {
                    unknown = true;
                    self.word();
                    if self.eat("(") {
                        while !self.eat(")") {
                            self.rest().first()?;
                            self.at += 1;
                        }
                    }
                    continue;
                }
                _ => break,
            }
            self.word();
        }
        let what = if let Some(text) = text {
            let mut modifiers = String::new();
            for (on, modifier) in [(nocase, 'i'), (fullword, 'f'), (wide, 'w'), (ascii, 'a')] {
                if on {
                    modifiers.push(modifier);
                }
            }
            Pattern::read(&hex(&text), &modifiers).map(What::Pattern)
        } else if let Some(regex) = regex {
            // In a rule the engine heeds neither the flag `i` nor the word `nocase` behind a regular expression.
            Regex::read(regex, &flags.replace('i', "")).map(What::Regex)
        } else {
            pattern.map(What::Pattern)
        };
        Some(Text {
            name: name.to_owned(),
            what: what.filter(|_| !unknown).unwrap_or(What::Unknown),
        })
    }

    fn either(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        if depth > 60 {
            return None;
        }
        let mut left = self.both(scope, depth)?;
        while self.eat_word("or") {
            left = Condition::Or(Box::new(left), Box::new(self.both(scope, depth)?));
        }
        Some(left)
    }

    fn both(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        let mut left = self.not(scope, depth)?;
        while self.eat_word("and") {
            left = Condition::And(Box::new(left), Box::new(self.not(scope, depth)?));
        }
        Some(left)
    }

    fn not(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        if self.eat_word("not") {
            if depth > 60 {
                return None;
            }
            self.not(scope, depth + 1)?;
            return Some(Condition::Not);
        }
        let left = self.sum(scope, depth)?;
        let relation = if self.eat("==") {
            b'='
        } else if self.eat("!=") {
            b'!'
        } else if self.eat("<=") {
            b'l'
        } else if self.eat(">=") {
            b'g'
        } else if self.rest_is_shift() {
            return None;
        } else if self.eat("<") {
            b'<'
        } else if self.eat(">") {
            b'>'
        } else if self.eat_word("contains") || self.eat_word("matches") {
            return None;
        } else {
            return Some(left);
        };
        let right = self.sum(scope, depth)?;
        let flipped = match relation {
            b'<' => b'>',
            b'>' => b'<',
            b'l' => b'g',
            b'g' => b'l',
            relation => relation,
        };
        Some(if matches!(left, Condition::Number(_)) {
            Condition::Compare(flipped, Box::new(right), Box::new(left))
        } else {
            Condition::Compare(relation, Box::new(left), Box::new(right))
        })
    }

    fn rest_is_shift(&mut self) -> bool {
        self.space();
        self.rest().starts_with(b"<<") || self.rest().starts_with(b">>")
    }

    fn sum(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        let mut left = self.primary(scope, depth)?;
        loop {
            if self.eat("-") {
                let right = self.primary(scope, depth)?;
                left = Condition::Minus(Box::new(left), Box::new(right));
            } else if self.eat("+")
                || self.eat("*")
                || self.eat("\\")
                || self.eat("&")
                || self.eat("%")
            {
                self.primary(scope, depth)?;
                left = Condition::Unknown;
            } else {
                return Some(left);
            }
        }
    }

    fn primary(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        if self.eat("(") {
            let inside = self.either(scope, depth + 1)?;
            return self.eat(")").then_some(inside);
        }
        if self.eat("$") {
            let subject = self.subject(scope)?;
            if self.eat_word("at") {
                let at = self.sum(scope, depth)?;
                return Some(Condition::At(subject, Box::new(at)));
            }
            if self.eat_word("in") {
                return self
                    .range(scope, depth)
                    .map(|low| Condition::In(subject, low));
            }
            return Some(Condition::Found(subject));
        }
        if self.eat("#") {
            return Some(Condition::Times(self.subject(scope)?));
        }
        if self.eat("@") || (self.rest().first() == Some(&b'!') && self.eat("!")) {
            let subject = self.subject(scope)?;
            if self.eat("[") {
                self.sum(scope, depth)?;
                self.eat("]");
            }
            return Some(Condition::Position(subject));
        }
        let word = self.word()?;
        if word.as_bytes()[0].is_ascii_digit() {
            return self.number(word, scope);
        }
        Some(match word {
            "any" | "all" => {
                let quantity = if word == "all" {
                    Quantity::All
                } else {
                    Quantity::AtLeast(1)
                };
                self.of(quantity, scope)?
            }
            "for" => self.each(scope, depth)?,
            "filesize" => Condition::Size,
            "true" | "entrypoint" => Condition::Unknown,
            "false" => Condition::False,
            "defined" => return None,
            _ if word.starts_with("uint") || word.starts_with("int") => {
                let big = word.ends_with("be");
                let digits = word.trim_matches(|c: char| !c.is_ascii_digit());
                let bytes = digits.parse::<usize>().ok()? / 8;
                let at = Box::new(self.parenthesis(scope, depth)?);
                Condition::Integer { bytes, big, at }
            }
            name => {
                let rule = scope.known.get(name)?;
                scope.others.push(Arc::clone(rule));
                Condition::Rule(scope.others.len() - 1)
            }
        })
    }

    fn parenthesis(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        if !self.eat("(") || depth > 60 {
            return None;
        }
        let inside = self.sum(scope, depth + 1)?;
        self.eat(")").then_some(inside)
    }

    /// Low end of `(low..high)`.
    fn range(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Box<Condition>> {
        if !self.eat("(") {
            return None;
        }
        let low = self.sum(scope, depth)?;
        if !self.eat("..") {
            return None;
        }
        self.sum(scope, depth)?;
        self.eat(")").then(|| Box::new(low))
    }

    fn number(&mut self, word: &str, scope: &mut Scope<'_>) -> Option<Condition> {
        let (digits, unit) = match word {
            _ if word.starts_with("0x") => (word, 1),
            _ if word.ends_with("KB") => (&word[..word.len() - 2], 1 << 10),
            _ if word.ends_with("MB") => (&word[..word.len() - 2], 1 << 20),
            _ => (word, 1),
        };
        let number = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok()?,
            None => digits.parse::<i64>().ok()? * unit,
        };
        if self.peek_word() == Some("of") {
            return self.of(Quantity::AtLeast(usize::try_from(number).ok()?), scope);
        }
        Some(Condition::Number(number))
    }

    /// The name after `$`, `#`, `@` or `!`; none is the string of the loop.
    fn subject(&mut self, scope: &Scope<'_>) -> Option<Subject> {
        let named = self
            .rest()
            .first()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !named {
            return Some(None);
        }
        let name = self.word()?;
        let id = scope.strings.iter().position(|text| text.name == name)?;
        Some(Some(id))
    }

    fn of(&mut self, quantity: Quantity, scope: &mut Scope<'_>) -> Option<Condition> {
        if !self.eat_word("of") {
            return None;
        }
        Some(Condition::Of(quantity, self.set(scope)?, None))
    }

    fn set(&mut self, scope: &Scope<'_>) -> Option<Vec<usize>> {
        if self.eat_word("them") {
            return Some((0..scope.strings.len()).collect());
        }
        if !self.eat("(") {
            return None;
        }
        let mut set = Vec::new();
        loop {
            if !self.eat("$") {
                return None;
            }
            let name = if self.rest().first() == Some(&b'*') {
                ""
            } else {
                self.word()?
            };
            let star = self.rest().first() == Some(&b'*');
            self.at += usize::from(star);
            set.extend(scope.strings.iter().enumerate().filter_map(|(id, text)| {
                let same = text.name == name || star && text.name.starts_with(name);
                same.then_some(id)
            }));
            if self.eat(")") {
                return Some(set);
            }
            if !self.eat(",") {
                return None;
            }
        }
    }

    fn each(&mut self, scope: &mut Scope<'_>, depth: usize) -> Option<Condition> {
        let quantity = match self.word()? {
            "any" => Quantity::AtLeast(1),
            "all" => Quantity::All,
            word => Quantity::AtLeast(word.parse().ok()?),
        };
        if self.eat_word("of") {
            let set = self.set(scope)?;
            self.eat(":");
            if !self.eat("(") {
                return None;
            }
            let body = self.either(scope, depth + 1)?;
            return self
                .eat(")")
                .then(|| Condition::Of(quantity, set, Some(Box::new(body))));
        }
        // `for any i in (1..#a) : ( … )`: passed over.
        self.word()?;
        if !self.eat_word("in") {
            return None;
        }
        self.balanced()?;
        self.eat(":");
        self.balanced()?;
        Some(Condition::Unknown)
    }

    fn balanced(&mut self) -> Option<()> {
        if !self.eat("(") {
            return None;
        }
        let mut open = 1;
        while open > 0 {
            match self.rest().first()? {
                b'(' => open += 1,
                b')' => open -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Words;

    #[test]
    fn rules_are_read_as_documented() {
        let content = r#"
            // A comment
            rule first : tag { meta: a = "}" strings: $a = "al\"pha" nocase $b = { 62 72 [2] 76 } /* not $c */
              condition: #a > 1 and $b at 3 }
            private rule second { strings: $a = /x[0-9]{3}y/ condition: $a }
            rule third { strings: $x1 = "one" $x2 = "two" condition: 2 of ($x*) and second and filesize < 200KB }
            rule fourth { strings: $a = "no" wide condition: $a }
            rule fifth { strings: $a = "some" condition: uint16(0) == 0x5a4d and $a }"#;
        let rules = read(content);
        let names: Vec<_> = rules.iter().map(|(_, rule)| rule.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "third", "fourth", "fifth"]);
        assert!(rules.iter().all(|(_, rule)| rule.condition.is_some()));
        assert!(rules[1].0.starts_with("private rule") && rules[1].0.ends_with('}'));
        let possible: Vec<_> = rules
            .iter()
            .map(|(_, rule)| rule.impossible().is_none())
            .collect();
        assert_eq!(possible, [true, false, true, false, false]);

        let mut random = Random::new(1);
        let words = Words::new(Vec::new());
        let message = rules[0].1.draft(&mut random).message(&words, &mut random);
        let message = message.to_ascii_lowercase();
        assert_eq!(message[3..5], *b"br");
        assert!(
            message
                .windows(7)
                .filter(|text| text == b"al\"pha ")
                .count()
                > 0
        );
        let message = rules[2].1.draft(&mut random).message(&words, &mut random);
        let message = String::from_utf8_lossy(&message).into_owned();
        assert!(message.contains("one") && message.contains("two") && message.contains('y'));
    }
}
