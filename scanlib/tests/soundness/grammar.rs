//! Small databases out of nothing: over few letters, so that what nearly matches is met as often as what does.
//!
//! Two forms of pattern that make libclamav 1.4 read out of bounds are never written: two markers before the first fixed
//! byte, and alternatives of which one starts another before the bytes that a search starts with.

use super::bytes::{hex, normalised};
use super::database::Database;
use super::digest::{md5, sha256};
use super::logic::Expression;
use super::random::Random;
use super::signature::{Signature, read_file};
use super::words::Words;

struct Grammar<'r> {
    random: &'r mut Random,
    letters: &'static [u8],
    /// Signatures that match without anything there are allowed.
    wild: bool,
}

const LETTERS: &[&[u8]] = &[
    b"abc",
    b"abcxyz",
    b"abcxyz",
    b"abcAB",
    b"ab c",
    b"abc \t\n",
    b"abc\xe9\x80",
    b"ab<>/=",
    b"0189az",
];

/// A database of at most fifty signatures.
pub fn database(level: u32, random: &mut Random) -> Database {
    let letters = *random.pick(LETTERS);
    let wild = random.percent(8);
    let mut grammar = Grammar {
        random,
        letters,
        wild,
    };
    let scale = *grammar.random.pick(&[1, 2, 2, 4, 16]);
    let mut signatures: Vec<Signature> = Vec::new();
    let mut add = |ending: &str, text: &str| signatures.extend(read_file(ending, text, level));
    for n in 0..grammar.random.below(scale + 1) {
        add("ndb", &grammar.body(n));
    }
    for n in 0..grammar.random.between(1, scale) {
        if let Some(line) = grammar.logical(n) {
            add("ldb", &line);
        }
    }
    if grammar.random.percent(25) {
        for n in 0..grammar.random.between(1, 3) {
            add("yar", &grammar.rule(n));
        }
    }
    let mut planted = Vec::new();
    if grammar.random.percent(40) {
        // Without this, libclamav does not hash normalised text.
        if grammar.random.percent(70) {
            add("ndb", "S.End:7:EOF-400:7175697a6c6c6f7775");
        }
        for n in 0..grammar.random.between(1, 3) {
            let message = grammar.text(40);
            let hashed = if grammar.random.percent(60) {
                normalised(&message)
            } else {
                message.clone()
            };
            if hashed.is_empty() {
                continue;
            }
            let (len, any) = (hashed.len(), grammar.random.percent(25));
            match (grammar.random.percent(50), any) {
                (true, true) => add("hsb", &format!("{}:*:S.Hash{n}:73", sha256(&hashed))),
                (true, false) => add("hsb", &format!("{}:{len}:S.Hash{n}", sha256(&hashed))),
                (false, true) => add("hdb", &format!("{}:*:S.Hash{n}:73", md5(&hashed))),
                (false, false) => add("hdb", &format!("{}:{len}:S.Hash{n}", md5(&hashed))),
            }
            planted.push(message);
        }
    }
    signatures.truncate(50);
    if signatures.is_empty() {
        signatures.extend(read_file("ndb", "S.Alone:0:*:717569", level));
    }
    Database {
        label: "made up".to_owned(),
        signatures,
        planted,
        letters: Some(letters),
    }
}

/// A short text of these letters, at times with others between.
pub fn text(letters: &[u8], longest: usize, words: &Words, random: &mut Random) -> Vec<u8> {
    let mut out: Vec<u8> = (0..random.between(6, longest))
        .map(|_| *random.pick(letters))
        .collect();
    if random.percent(20) {
        out.push(b' ');
        out.extend(words.phrase(random));
    }
    out
}

impl Grammar<'_> {
    fn text(&mut self, longest: usize) -> Vec<u8> {
        let len = self.random.between(6, longest);
        if self.random.percent(5) {
            return vec![b' '; len];
        }
        (0..len)
            .map(|_| {
                if self.random.percent(20) {
                    *self.random.pick(b" \tAZ\xc3")
                } else {
                    *self.random.pick(self.letters)
                }
            })
            .collect()
    }

    fn letter(&mut self) -> u8 {
        *self.random.pick(self.letters)
    }

    fn run(&mut self, low: usize, high: usize) -> String {
        let bytes: Vec<u8> = (0..self.random.between(low, high))
            .map(|_| self.letter())
            .collect();
        hex(&bytes)
    }

    /// One element; before the fixed bytes only what libclamav survives there.
    fn element(&mut self, before: bool) -> String {
        let byte = |this: &mut Self| hex(&[this.letter()]);
        match self.random.below(if before { 5 } else { 9 }) {
            0 => "??".to_owned(),
            1 => {
                let byte = byte(self);
                if self.random.percent(50) {
                    format!("{}?", &byte[..1])
                } else {
                    format!("?{}", &byte[1..])
                }
            }
            2 => format!("({}|{})", byte(self), byte(self)),
            3..=5 => {
                let mut list: Vec<Vec<u8>> = Vec::new();
                for _ in 0..self.random.between(2, 3) {
                    let one: Vec<u8> = (0..self.random.between(1, 4))
                        .map(|_| self.letter())
                        .collect();
                    // In either case, for the whole may be without one.
                    let folded = one.to_ascii_lowercase();
                    let tangled = |other: &Vec<u8>| {
                        let other = other.to_ascii_lowercase();
                        other.starts_with(&folded) || folded.starts_with(&other)
                    };
                    if !before || !list.iter().any(tangled) {
                        list.push(one);
                    }
                }
                let list: Vec<String> = list.iter().map(|one| hex(one)).collect();
                format!("({})", list.join("|"))
            }
            6 => format!("!({}|{})", byte(self), byte(self)),
            7 => format!("!({}|{})", self.run(2, 2), self.run(2, 2)),
            _ => (*self.random.pick(&["(B)", "(W)", "(L)", "!(B)"])).to_owned(),
        }
    }

    /// What stands between two gaps; it holds three fixed bytes in a row.
    fn part(&mut self) -> String {
        let mut out = String::new();
        let ragged = self.random.percent(25);
        if ragged {
            if self.random.percent(40) {
                // Too few for the search to start with them, and so not looked at before the start of a message.
                out += &self.run(2, 2);
            }
            let mut head = [self.element(true), self.element(true)];
            // A list is refused right behind a wildcard or another list at the start.
            let is_list = |element: &String| element.contains('(');
            head.sort_by_key(|element| !is_list(element));
            let most = if head.iter().all(is_list) { 1 } else { 2 };
            out += &head[..self.random.between(1, most)].concat();
        }
        out += &self.run(3, 5);
        for _ in 0..*self.random.pick(&[0, 0, 1, 2, 3]) {
            // A marker behind a ragged start could come before the bytes that the search starts with.
            let element = loop {
                let element = self.element(false);
                if !(ragged && ["(B)", "(W)", "(L)", "!(B)"].contains(&element.as_str())) {
                    break element;
                }
            };
            out += &element;
            out += &self.run(0, 3);
        }
        out
    }

    fn pattern(&mut self) -> String {
        let mut out = String::new();
        if self.random.percent(30) {
            // Short, so that what libclamav leaves unverified at an end is a good share of it.
            let (head, short, long) = (self.run(3, 4), self.run(1, 1), self.run(2, 4));
            return format!("{head}({short}|{long}){}", self.run(1, 3));
        }
        if self.random.percent(8) {
            out += *self.random.pick(&["(B)", "(W)", "(L)"]);
            out += &self.run(3, 5);
        } else {
            out += &self.part();
        }
        for _ in 0..*self.random.pick(&[0, 0, 0, 1, 1, 2]) {
            let (n, m) = (self.random.below(5), self.random.below(6));
            out += &match self.random.below(7) {
                0 => "*".to_owned(),
                1 | 2 => format!("{{{}}}", n + 1),
                3 | 4 => format!("{{{n}-{}}}", n + m),
                5 => format!("{{-{}}}", m + 1),
                _ => format!("{{{n}-}}"),
            };
            out += &self.part();
        }
        if self.random.percent(8) {
            out += *self.random.pick(&["(B)", "(W)", "(L)", "!(W)"]);
        }
        out
    }

    fn offset(&mut self) -> String {
        let (n, m) = (self.random.below(8), self.random.below(20));
        match self.random.below(12) {
            0 | 1 => format!("{n}"),
            2 => format!("{n},{m}"),
            3 => format!("EOF-{}", n + m),
            4 => format!("EOF-{},{n}", n + m),
            _ => "*".to_owned(),
        }
    }

    fn target(&mut self) -> usize {
        *self.random.pick(&[0, 0, 0, 0, 0, 7, 7, 7, 7, 3])
    }

    fn body(&mut self, n: usize) -> String {
        format!(
            "S.Body{n}:{}:{}:{}",
            self.target(),
            self.offset(),
            self.pattern()
        )
    }

    fn logical(&mut self, n: usize) -> Option<String> {
        let parts = self.random.between(1, 5);
        let mut expression = String::new();
        for _ in 0..40 {
            expression = self.expression(parts, 2);
            if names_all(&expression, parts) {
                break;
            }
            expression.clear();
        }
        if expression.is_empty() {
            expression = (0..parts)
                .map(|id| id.to_string())
                .collect::<Vec<_>>()
                .join("&");
        }
        let read = Expression::read(expression.as_bytes())?;
        let mut description = format!("Engine:51-255,Target:{}", self.target());
        let matches_nothing = read.can_hold(&|_| false);
        let sized = self.random.percent(20);
        if sized || (matches_nothing && !self.wild) {
            let low = self.random.below(200);
            let high = low + *self.random.pick(&[0, 1, 3, 10, 30]);
            description += &format!(",FileSize:{low}-{high}");
        }
        let mut texts: Vec<String> = Vec::new();
        for id in 0..parts {
            let text = match texts.last() {
                Some(last) if self.random.percent(10) => self.elsewhere(last),
                _ => self.sub(id),
            };
            texts.push(text);
        }
        Some(format!(
            "S.Logic{n};{description};{expression};{}",
            texts.join(";")
        ))
    }

    /// The same pattern at another place.
    fn elsewhere(&mut self, sub: &str) -> String {
        let pattern = match sub.split_once(':') {
            // What refers to others, or to none, has no place.
            _ if sub.contains(['/', '#']) || sub.contains("::") => return self.run(3, 5),
            Some((_, pattern)) => pattern,
            None => sub,
        };
        format!("{}:{pattern}", self.offset())
    }

    fn sub(&mut self, id: usize) -> String {
        if id > 0 && self.random.percent(18) {
            let before = self.random.below(id);
            return match self.random.below(3) {
                0 => {
                    let distance = self.random.below(9);
                    let digits = self.random.between(1, 3);
                    let value = self.random.below(12);
                    let relation = char::from(*self.random.pick(b"<>="));
                    let base = char::from(*self.random.pick(b"dh"));
                    format!("{before}(>>{distance}#{base}{digits}#{relation}{value})")
                }
                1 => format!("{before}=0/{}/", self.regex()),
                _ => {
                    let flags = *self.random.pick(&["", "i", "s", "is", "g"]);
                    format!("{before}/{}/{flags}", self.regex())
                }
            };
        }
        match self.random.below(8) {
            0 => {
                // A negated list has no other case, says the engine.
                let pattern = loop {
                    let pattern = self.pattern();
                    if !pattern.contains("!(") {
                        break pattern;
                    }
                };
                format!("{pattern}::i")
            }
            1 => format!(
                "{}::{}",
                self.run(3, 6),
                self.random.pick(&["w", "wa", "ia", "iwa", "f", "if"])
            ),
            2 | 3 => format!("{}:{}", self.offset(), self.pattern()),
            4 if self.random.percent(20) => {
                format!("{}::i*{}::i:i", self.run(3, 5), self.run(3, 5))
            }
            4 => self.run(3, 5),
            _ => self.pattern(),
        }
    }

    /// It never matches an empty text: with the flag `g` libclamav would look for ever.
    fn regex(&mut self) -> String {
        let mut out = String::new();
        for n in 0..self.random.between(1, 4) {
            let byte = match self.letter() {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            };
            out += &byte;
            let optional = if n == 0 {
                "+"
            } else {
                *self.random.pick(&["*", "?"])
            };
            out += *self
                .random
                .pick(&["", "", "+", "{2}", "[a-c]", ".", "\\d", "(x|yz)", optional]);
        }
        out
    }

    fn count(&mut self) -> String {
        let relation = char::from(*self.random.pick(if self.wild { b">=<" } else { b">>=" }));
        let low = usize::from(!self.wild && relation == '=');
        format!("{relation}{}", self.random.between(low, 3))
    }

    fn expression(&mut self, parts: usize, depth: usize) -> String {
        if depth == 0 || self.random.percent(35) {
            let id = self.random.below(parts);
            return match self.random.below(10) {
                0..7 => id.to_string(),
                7 => format!("{id}=0"),
                8 => format!("{id}<{}", self.random.between(1, 2)),
                _ => format!("{id}{}", self.count()),
            };
        }
        let mut out = self.expression(parts, depth - 1);
        for _ in 0..*self.random.pick(&[1, 1, 2]) {
            out.push(char::from(*self.random.pick(b"&|&")));
            out += &self.expression(parts, depth - 1);
        }
        if self.random.percent(50) {
            out = format!("({out})");
            if self.random.percent(50) {
                out += &self.count();
                if self.random.percent(40) {
                    out += &format!(",{}", self.random.between(1, 3));
                }
            }
        }
        out
    }

    fn rule(&mut self, n: usize) -> String {
        let count = self.random.between(1, 4);
        let mut strings = String::new();
        for id in 0..count {
            let text = match self.random.below(4) {
                0 => {
                    let body = self.run(3, 5);
                    format!("{{ {body} ?? [1-3] {} }}", self.run(3, 4))
                }
                1 => format!("/{}{}/", self.plain(3), self.regex()),
                _ => {
                    let modifiers = [
                        "",
                        " nocase",
                        " fullword",
                        " ascii wide",
                        " wide",
                        " nocase fullword",
                    ];
                    format!("\"{}\"{}", self.plain(4), self.random.pick(&modifiers))
                }
            };
            strings += &format!("    $s{id} = {text}\n");
        }
        let last = count - 1;
        let mut condition = match self.random.below(7) {
            0 => "any of them".to_owned(),
            1 => "all of them".to_owned(),
            2 => format!("{} of them", self.random.between(1, count)),
            3 => format!("#s0 > {} and all of them", self.random.below(3)),
            4 => format!("$s{last} and not $s0 and any of ($s*)"),
            5 => format!("$s0 in (0..{}) and 1 of them", self.random.below(60)),
            _ => format!("for any of them : ($ at {})", self.random.below(4)),
        };
        if self.random.percent(20) {
            condition = format!(
                "filesize < {} and {condition}",
                self.random.between(10, 150)
            );
        }
        // Rules that the engine leaves out, with what that does to the others.
        match self.random.below(20) {
            0 => strings += "    $unused = \"unused\"\n",
            1 => condition += " and not_a_rule",
            2 => condition += " and pe.number_of_sections == 1",
            _ => {}
        }
        format!("rule SRule{n} {{\n  strings:\n{strings}  condition:\n    {condition}\n}}\n")
    }

    fn plain(&mut self, len: usize) -> String {
        (0..len)
            .map(|_| match self.letter() {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            })
            .collect()
    }
}

/// libclamav wants as many parts as the expression names.
fn names_all(expression: &str, parts: usize) -> bool {
    let read = Expression::read(expression.as_bytes());
    read.is_some_and(|read| {
        let mut ids = Vec::new();
        read.leaves(&mut ids);
        ids.sort_unstable();
        ids.dedup();
        ids.len() == parts && ids.last() == Some(&(parts - 1))
    })
}
