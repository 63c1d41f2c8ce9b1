//! YARA rules: what a message needs for one of them to match.
//!
//! libclamav has a YARA of its own, descended from version 3.1, without modules. It compiles rule by
//! rule, leaves out what it cannot compile, and gives strings to the matcher for body patterns, on
//! the message as it is and normalised. So every word `rule` may begin a rule, whatever has
//! been before; what is read here and refused there does no harm.
//!
//! A rule that libclamav refuses bequeaths its strings to the next one that compiles. They mean
//! nothing there, but a rule without strings, which libclamav leaves out, is not without strings then.

mod class;
mod condition;
mod cursor;
mod lexer;
mod literal;
mod regex;
mod rule;
mod strings;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use self::condition::StringNeed;
use self::cursor::{Cursor, is_keyword};
use self::lexer::{Lexer, Token};
use super::required::Required;

/// A rule as libclamav may load it.
#[derive(Clone, Debug)]
pub(crate) struct YaraRule {
    /// As it is written, so without `YARA.`; empty for what is no rule and not understood.
    pub(crate) name: Box<str>,
    /// libclamav does not report it.
    pub(crate) private: bool,
    /// What a message needs for it to match.
    pub(crate) required: Required,
    /// Why nothing is known, if nothing is.
    pub(crate) why: Option<String>,
    /// It has no strings and inherits none, so libclamav leaves it out; unless a rule before it has
    /// a name that a rule of another file has taken.
    pub(crate) no_strings: bool,
}

/// How a body pattern is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyOptions {
    /// Letters match in either case.
    pub(crate) nocase: bool,
    /// It matches only as a word of its own.
    pub(crate) fullword: bool,
}

/// Tells the need of a hexadecimal body pattern, or why there is none.
type Body<'b> = &'b dyn Fn(&str, BodyOptions) -> Result<Required, String>;

/// libclamav leaves out rules with more strings.
const STRINGS: usize = 64;
/// Longer rules are not understood.
const TOKENS: usize = 1 << 16;

/// The rules of a file, each that libclamav may load and perhaps more. Total: what cannot be
/// understood is a rule that may match anything, and says why.
pub(crate) fn parse(text: &[u8], body: Body<'_>) -> Vec<YaraRule> {
    let mut file = File {
        body,
        rules: Vec::new(),
        names: HashSet::new(),
        heirloom: false,
        refused: false,
        stray: None,
    };
    let mut section = Section::default();
    for token in Lexer::new(text) {
        if token == Token::Word("rule") {
            let next = section.split_off_modifiers();
            file.section(&section);
            section = next;
        }
        section.push(token);
    }
    file.section(&section);
    let stray = file.stray.take();
    file.rules.extend(stray.map(|why| YaraRule {
        name: Box::default(),
        private: false,
        required: Required::Always,
        why: Some(why),
        no_strings: false,
    }));
    file.rules
}

/// Words from the start of a rule, or of the file, to the next.
#[derive(Default)]
struct Section<'t> {
    tokens: Vec<Token<'t>>,
    /// There were more.
    cut: bool,
    /// Another file is included somewhere in it.
    includes: bool,
}

impl<'t> Section<'t> {
    fn push(&mut self, token: Token<'t>) {
        self.includes |= token == Token::Include;
        match self.tokens.len() < TOKENS {
            true => self.tokens.push(token),
            false => self.cut = true,
        }
    }

    /// The start of the next section, in which these are the last words before `rule`.
    fn split_off_modifiers(&mut self) -> Section<'t> {
        let modifiers = self
            .tokens
            .iter()
            .rev()
            .take_while(|token| is_modifier(token));
        let at = self.tokens.len() - modifiers.count();
        Section {
            tokens: match self.cut {
                true => Vec::new(),
                false => self.tokens.split_off(at),
            },
            ..Section::default()
        }
    }

    /// Strings may be declared in it.
    fn may_declare(&self) -> bool {
        let is_string = |token: &Token<'_>| matches!(token, Token::String(_));
        self.cut || self.includes || self.tokens.iter().any(is_string)
    }
}

fn is_modifier(token: &Token<'_>) -> bool {
    matches!(token, Token::Word("private" | "global"))
}

/// What has been seen of a file.
struct File<'b> {
    body: Body<'b>,
    rules: Vec<YaraRule>,
    names: HashSet<Box<str>>,
    /// The next rule may inherit strings.
    heirloom: bool,
    /// libclamav may have refused a rule, and may refuse loops from then on.
    refused: bool,
    /// The first thing outside of rules that is not understood.
    stray: Option<String>,
}

/// What is known of a rule.
struct Known {
    required: Required,
    why: Option<String>,
    /// It has strings, or may have.
    strings: bool,
    /// Certainly, libclamav compiles it.
    compiles: bool,
}

impl File<'_> {
    fn section(&mut self, section: &Section<'_>) {
        let mut cursor = Cursor::new(&section.tokens);
        let mut private = false;
        while cursor.peek().is_some_and(is_modifier) {
            private |= cursor.accept_word("private");
            cursor.accept_word("global");
        }
        if cursor.accept_word("rule") {
            self.named(section, cursor, private);
        } else {
            self.outside(&section.tokens);
            if section.cut {
                self.astray("text of great length outside of rules");
            }
        }
        if section.includes {
            self.astray("another file is included");
            self.heirloom = true;
            self.refused = true;
        }
    }

    fn named(&mut self, section: &Section<'_>, mut cursor: Cursor<'_, '_>, private: bool) {
        let (name, known) = match cursor.peek() {
            Some(Token::Word(name)) if !is_keyword(name) => {
                cursor.at += 1;
                let known = match section.cut {
                    true => Err("a rule of great length".to_owned()),
                    false => self.rule(cursor.rest()),
                };
                (*name, known)
            }
            _ => ("", Err("a rule without a name".to_owned())),
        };
        let known = known.unwrap_or_else(|why| Known {
            required: Required::Always,
            why: Some(why),
            strings: section.may_declare(),
            compiles: false,
        });
        let compiles = self.names.insert(name.into()) && known.compiles;
        self.rules.push(YaraRule {
            name: name.into(),
            private,
            required: known.required,
            why: known.why,
            no_strings: !known.strings && !self.heirloom,
        });
        self.heirloom = !compiles && (self.heirloom || known.strings);
        self.refused |= !compiles;
    }

    fn rule(&mut self, tokens: &[Token<'_>]) -> Result<Known, String> {
        let rule = rule::read(tokens)?;
        self.outside(rule.after);
        let left_out =
            rule.strings.len() > STRINGS || rule.strings.iter().any(|string| string.is_refused());
        let mut doubt = String::new();
        let mut strings = Vec::with_capacity(rule.strings.len());
        for string in &rule.strings {
            let required = match left_out {
                true => Ok(Required::Never),
                false => string.required(self.body),
            };
            let required = required.unwrap_or_else(|why| {
                if doubt.is_empty() {
                    doubt = format!(" (${}: {why})", string.name);
                }
                Required::Always
            });
            strings.push(StringNeed {
                name: string.name,
                required,
            });
        }
        let condition = condition::read(rule.condition, &strings);
        let compiles = condition.as_ref().is_ok_and(|condition| {
            rule.exact && condition.exact && !(condition.loops && self.refused)
        });
        let required = match left_out {
            true => Required::Never,
            false => condition?.required,
        };
        let why = (required == Required::Always)
            .then(|| format!("the condition may hold for any message{doubt}"));
        Ok(Known {
            required,
            why,
            strings: !strings.is_empty(),
            compiles,
        })
    }

    /// What stands between rules.
    fn outside(&mut self, mut tokens: &[Token<'_>]) {
        loop {
            tokens = match tokens {
                [] => return,
                [Token::Word("import"), Token::Text(_), rest @ ..]
                | [Token::Include, rest @ ..] => rest,
                [Token::Broken(why), ..] => return self.astray(why),
                _ => return self.astray("text outside of rules"),
            }
        }
    }

    fn astray(&mut self, why: &str) {
        self.stray.get_or_insert_with(|| why.to_owned());
    }
}
