//! Regular expressions, read well enough to write texts that match most of them. Back references are followed; what stands
//! in a look-around is written or left out by chance, for either may be what the rest wants.

use super::pattern::{Alphabet, both_cases, one_of};
use super::random::Random;

#[derive(Clone, Debug)]
enum Node {
    One(Vec<u8>),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
    Group(usize, Box<Node>),
    Back(usize),
    Look(Box<Node>),
}

#[derive(Clone, Debug)]
pub struct Regex {
    node: Node,
    groups: usize,
    /// Starts with `^`, ends with `$`.
    pub at_start: bool,
    pub at_end: bool,
}

impl Regex {
    /// The expression between the slashes and the flags behind them; `None` if it is not understood.
    pub fn read(text: &[u8], flags: &str) -> Option<Regex> {
        let mut reader = Reader {
            rest: text,
            nocase: flags.contains('i'),
            extended: flags.contains('x'),
            names: vec![None],
        };
        let node = reader.alternatives(0)?;
        let multiline = flags.contains('m');
        reader.rest.is_empty().then(|| Regex {
            node,
            groups: reader.names.len(),
            at_start: !multiline && text.starts_with(b"^"),
            at_end: !multiline && text.ends_with(b"$"),
        })
    }

    /// Whether a text of this alphabet can match.
    pub fn fits(&self, alphabet: Alphabet) -> bool {
        fits(&self.node, alphabet)
    }

    /// A text that very likely matches.
    pub fn instance(&self, alphabet: Alphabet, random: &mut Random) -> Vec<u8> {
        let mut writer = Writer {
            alphabet,
            random,
            out: Vec::new(),
            captured: vec![Vec::new(); self.groups],
        };
        writer.write(&self.node);
        writer.out
    }
}

fn fits(node: &Node, alphabet: Alphabet) -> bool {
    match node {
        Node::One(set) => set.iter().any(|&byte| alphabet.has(byte)),
        Node::Sequence(list) => list.iter().all(|node| fits(node, alphabet)),
        Node::Either(list) => list.iter().any(|node| fits(node, alphabet)),
        Node::Repeat(node, min, _) => *min == 0 || fits(node, alphabet),
        Node::Group(_, node) => fits(node, alphabet),
        Node::Back(_) | Node::Look(_) => true,
    }
}

struct Writer<'r> {
    alphabet: Alphabet,
    random: &'r mut Random,
    out: Vec<u8>,
    captured: Vec<Vec<u8>>,
}

/// A text need not be longer than that.
const LONGEST: usize = 8_000;

impl Writer<'_> {
    fn write(&mut self, node: &Node) {
        if self.out.len() > LONGEST {
            return;
        }
        match node {
            Node::One(set) => self.out.push(one_of(set, self.alphabet, self.random)),
            Node::Sequence(list) => list.iter().for_each(|node| self.write(node)),
            Node::Either(list) => {
                let fitting: Vec<_> = list
                    .iter()
                    .filter(|node| fits(node, self.alphabet))
                    .collect();
                if let Some(&node) = fitting.get(self.random.below(fitting.len())) {
                    self.write(node);
                } else {
                    self.write(&list[0]);
                }
            }
            Node::Repeat(node, min, max) => {
                let more = *self.random.pick(&[0, 0, 1, 1, 2, 5]);
                let mut times = (min + more).min(max.unwrap_or(usize::MAX));
                if *min == 0 && !fits(node, self.alphabet) {
                    times = 0;
                }
                for _ in 0..times {
                    self.write(node);
                }
            }
            Node::Group(number, node) => {
                let start = self.out.len();
                self.write(node);
                self.captured[*number] = self.out[start..].to_vec();
            }
            Node::Back(number) => {
                let text = self.captured.get(*number).cloned().unwrap_or_default();
                self.out.extend(text);
            }
            Node::Look(node) => {
                if self.random.percent(60) {
                    self.write(node);
                }
            }
        }
    }
}

struct Reader<'t> {
    rest: &'t [u8],
    nocase: bool,
    extended: bool,
    /// Of the groups, from 1 on.
    names: Vec<Option<Vec<u8>>>,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn eat(&mut self, text: &[u8]) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Up to this byte, which is left out.
    fn until(&mut self, end: u8) -> Option<Vec<u8>> {
        let at = self.rest.iter().position(|&byte| byte == end)?;
        let text = self.rest[..at].to_vec();
        self.rest = &self.rest[at + 1..];
        Some(text)
    }

    fn alternatives(&mut self, depth: usize) -> Option<Node> {
        if depth > 40 {
            return None;
        }
        let mut list = vec![self.sequence(depth)?];
        while self.eat(b"|") {
            list.push(self.sequence(depth)?);
        }
        Some(if list.len() == 1 {
            list.remove(0)
        } else {
            Node::Either(list)
        })
    }

    fn sequence(&mut self, depth: usize) -> Option<Node> {
        let mut list = Vec::new();
        while let Some(&next) = self.rest.first() {
            if matches!(next, b'|' | b')') {
                break;
            }
            let Some(node) = self.atom(depth)? else {
                continue;
            };
            list.push(self.repeated(node)?);
        }
        Some(Node::Sequence(list))
    }

    /// `None` inside for what takes no text.
    fn atom(&mut self, depth: usize) -> Option<Option<Node>> {
        let first = self.take()?;
        Some(match first {
            b'^' | b'$' => None,
            b' ' | b'\t' | b'\n' | b'\r' if self.extended => None,
            b'#' if self.extended => {
                self.until(b'\n');
                None
            }
            b'.' => Some(Node::One((0x20..0x7f).collect())),
            b'(' => self.group(depth)?,
            b'[' => Some(Node::One(self.class()?)),
            b'\\' => self.escape()?,
            byte => Some(self.byte(byte)),
        })
    }

    fn byte(&self, byte: u8) -> Node {
        Node::One(if self.nocase {
            both_cases(byte)
        } else {
            vec![byte]
        })
    }

    fn repeated(&mut self, mut node: Node) -> Option<Node> {
        loop {
            let (min, max) = match self.rest.first() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => match self.counts() {
                    Some((min, max, len)) => {
                        self.rest = &self.rest[len - 1..];
                        (min, max)
                    }
                    None => return Some(node),
                },
                _ => return Some(node),
            };
            self.rest = &self.rest[1..];
            let _lazy_or_possessive = self.eat(b"?") || self.eat(b"+");
            node = Node::Repeat(Box::new(node), min, max);
        }
    }

    /// `{n}`, `{n,}`, `{n,m}` and how long it is; another brace stands for itself.
    fn counts(&self) -> Option<(usize, Option<usize>, usize)> {
        let end = self.rest.iter().position(|&byte| byte == b'}')?;
        let text = std::str::from_utf8(&self.rest[1..end]).ok()?;
        let (min, max) = match text.split_once(',') {
            None => {
                let times = text.parse().ok()?;
                (times, Some(times))
            }
            Some((min, "")) => (min.parse().ok()?, None),
            Some(("", max)) => (0, Some(max.parse().ok()?)),
            Some((min, max)) => (min.parse().ok()?, Some(max.parse().ok()?)),
        };
        Some((min, max, end + 1))
    }

    fn group(&mut self, depth: usize) -> Option<Option<Node>> {
        let outer = (self.nocase, self.extended);
        let mut number = None;
        let mut look = None;
        if self.eat(b"?") {
            if self.eat(b"#") {
                self.until(b')')?;
                return Some(None);
            } else if self.eat(b"P=") {
                let name = self.until(b')')?;
                return Some(Some(Node::Back(self.named(&name)?)));
            } else if self.eat(b"=") || self.eat(b"<=") {
                look = Some(true);
            } else if self.eat(b"!") || self.eat(b"<!") {
                look = Some(false);
            } else if self.eat(b"P<") || self.eat(b"<") {
                let name = self.until(b'>')?;
                number = Some(self.new_group(Some(name)));
            } else if self.eat(b"'") {
                let name = self.until(b'\'')?;
                number = Some(self.new_group(Some(name)));
            } else if !self.eat(b">") && !self.eat(b"|") {
                let mut on = true;
                loop {
                    match self.take()? {
                        b'-' => on = false,
                        b'i' => self.nocase = on,
                        b'x' => self.extended = on,
                        b's' | b'm' | b'U' | b'J' => {}
                        b':' => break,
                        // To the end of the group around, which puts the flags back.
                        b')' => return Some(None),
                        _ => return None,
                    }
                }
            }
        } else if !self.rest.starts_with(b"*") {
            number = Some(self.new_group(None));
        } else {
            return None;
        }
        let inside = self.alternatives(depth + 1)?;
        (self.nocase, self.extended) = outer;
        if !self.eat(b")") {
            return None;
        }
        Some(match (look, number) {
            (Some(true), _) => Some(Node::Look(Box::new(inside))),
            (Some(false), _) => None,
            (None, Some(number)) => Some(Node::Group(number, Box::new(inside))),
            (None, None) => Some(inside),
        })
    }

    fn new_group(&mut self, name: Option<Vec<u8>>) -> usize {
        self.names.push(name);
        self.names.len() - 1
    }

    fn named(&self, name: &[u8]) -> Option<usize> {
        self.names
            .iter()
            .position(|one| one.as_deref() == Some(name))
    }

    fn escape(&mut self) -> Option<Option<Node>> {
        let byte = self.take()?;
        Some(match byte {
            b'b' | b'B' | b'A' | b'Z' | b'z' | b'G' | b'K' | b'E' => None,
            b'Q' => {
                let mut list = Vec::new();
                while !self.rest.is_empty() && !self.eat(b"\\E") {
                    let byte = self.take()?;
                    list.push(self.byte(byte));
                }
                Some(Node::Sequence(list))
            }
            b'R' => Some(Node::One(vec![b'\n', b'\r'])),
            b'1'..=b'9' => {
                let mut number = usize::from(byte - b'0');
                if let Some(digit @ b'0'..=b'9') = self.rest.first()
                    && number * 10 + usize::from(digit - b'0') < self.names.len()
                {
                    number = number * 10 + usize::from(digit - b'0');
                    self.take();
                }
                Some(Node::Back(number))
            }
            b'k' | b'g' => {
                let close = match self.take()? {
                    b'<' => b'>',
                    b'{' => b'}',
                    b'\'' => b'\'',
                    digit @ b'1'..=b'9' => {
                        return Some(Some(Node::Back(usize::from(digit - b'0'))));
                    }
                    _ => return None,
                };
                let name = self.until(close)?;
                let number = std::str::from_utf8(&name).ok().and_then(|n| n.parse().ok());
                Some(Node::Back(match number {
                    Some(number) => number,
                    None => self.named(&name)?,
                }))
            }
            _ => Some(match self.escaped(byte)? {
                set if set.len() == 1 => self.byte(set[0]),
                set => Node::One(set),
            }),
        })
    }

    /// What the escape of this byte stands for, in a class and outside of one.
    fn escaped(&mut self, byte: u8) -> Option<Vec<u8>> {
        let all = 0..=255u8;
        Some(match byte {
            b'd' => (b'0'..=b'9').collect(),
            b'D' => all.filter(|byte| !byte.is_ascii_digit()).collect(),
            b'w' => all.filter(|&byte| is_word(byte)).collect(),
            b'W' => all.filter(|&byte| !is_word(byte)).collect(),
            b's' => vec![b' ', b'\t', b'\n', b'\r', 0x0c],
            b'S' => (0x21..0x7f).collect(),
            b'h' => vec![b' ', b'\t'],
            b'H' | b'N' => (0x21..0x7f).collect(),
            b'v' => vec![b'\n', b'\r'],
            b'n' => vec![b'\n'],
            b'r' => vec![b'\r'],
            b't' => vec![b'\t'],
            b'f' => vec![0x0c],
            b'a' => vec![7],
            b'e' => vec![0x1b],
            b'0' => {
                let mut value = 0u8;
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = self.rest.first() {
                        value = value * 8 + (digit - b'0');
                        self.take();
                    }
                }
                vec![value]
            }
            b'x' => {
                let digits = if self.eat(b"{") {
                    self.until(b'}')?
                } else {
                    let len = self
                        .rest
                        .iter()
                        .take(2)
                        .take_while(|byte| byte.is_ascii_hexdigit())
                        .count();
                    let (digits, rest) = self.rest.split_at(len);
                    self.rest = rest;
                    digits.to_vec()
                };
                let text = format!("0{}", String::from_utf8(digits).ok()?);
                vec![u8::from_str_radix(&text, 16).ok()?]
            }
            b'p' | b'P' | b'u' | b'c' | b'X' => return None,
            byte => vec![byte],
        })
    }

    /// Past the opening bracket.
    fn class(&mut self) -> Option<Vec<u8>> {
        let negated = self.eat(b"^");
        let mut has = [false; 256];
        let mut first = true;
        loop {
            let byte = self.take()?;
            let set = match byte {
                b']' if !first => break,
                b'[' if self.eat(b":") => {
                    let name = self.until(b':')?;
                    self.eat(b"]");
                    posix(&name)?
                }
                b'\\' => match self.take()? {
                    b'b' => vec![8],
                    byte => self.escaped(byte)?,
                },
                byte => vec![byte],
            };
            first = false;
            let low = set.first().copied()?;
            if set.len() == 1 && self.rest.first() == Some(&b'-') && self.rest.get(1) != Some(&b']')
            {
                self.take();
                let high = match self.take()? {
                    b'\\' => {
                        let byte = self.take()?;
                        let set = self.escaped(byte)?;
                        if set.len() != 1 {
                            return None;
                        }
                        set[0]
                    }
                    byte => byte,
                };
                (low..=high).for_each(|byte| has[usize::from(byte)] = true);
            } else {
                set.iter().for_each(|&byte| has[usize::from(byte)] = true);
            }
        }
        if self.nocase {
            for byte in b'a'..=b'z' {
                let upper = usize::from(byte.to_ascii_uppercase());
                let either = has[usize::from(byte)] || has[upper];
                has[usize::from(byte)] = either;
                has[upper] = either;
            }
        }
        let set: Vec<u8> = (0..=255)
            .filter(|&byte| has[usize::from(byte)] != negated)
            .collect();
        (!set.is_empty()).then_some(set)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn posix(name: &[u8]) -> Option<Vec<u8>> {
    let test: fn(&u8) -> bool = match name {
        b"alpha" => u8::is_ascii_alphabetic,
        b"alnum" => u8::is_ascii_alphanumeric,
        b"digit" => u8::is_ascii_digit,
        b"xdigit" => u8::is_ascii_hexdigit,
        b"lower" => u8::is_ascii_lowercase,
        b"upper" => u8::is_ascii_uppercase,
        b"space" => u8::is_ascii_whitespace,
        b"punct" => u8::is_ascii_punctuation,
        b"word" => |&byte| is_word(byte),
        b"print" | b"graph" => u8::is_ascii_graphic,
        _ => return None,
    };
    Some((0..=255).filter(test).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written matches, says another reader of regular expressions.
    #[test]
    fn what_is_written_matches() {
        for (text, flags) in [
            (r"a(b|c+)d{2,3}[^x-z]\d\x41\.", ""),
            (r"^GET /[a-z0-9_-]{3,}\?id=\d+(?:&x)?$", "i"),
            (r"[[:alpha:]]+[\]\-a]{2}\s*\w", ""),
            (r"a b # comment", "x"),
            (r"(?i:ab)c{x}{1,2}", ""),
        ] {
            let ours = Regex::read(text.as_bytes(), flags).unwrap();
            let pattern = if flags.is_empty() {
                format!("(?s-u){text}")
            } else {
                format!("(?{flags}-u){text}")
            };
            let judge = regex::bytes::Regex::new(&pattern.replace("c{x}", "c\\{x\\}")).unwrap();
            for seed in 0..50 {
                let line = ours.instance(Alphabet::Text, &mut Random::new(seed));
                assert!(judge.is_match(&line), "{text}: {}", line.escape_ascii());
            }
        }
    }

    #[test]
    fn a_back_reference_is_what_the_group_was() {
        let regex = Regex::read(br"(?P<v>[a-z]{4})=(?P=v)\1", "").unwrap();
        let line = regex.instance(Alphabet::Text, &mut Random::new(1));
        assert_eq!(line[..4], line[5..9]);
        assert_eq!(line[..4], line[9..]);
        assert!(Regex::read(b"(a", "").is_none());
        assert!(Regex::read(b"[a", "").is_none());
    }
}
