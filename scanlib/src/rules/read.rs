//! Reading TOML with the place of every value, so that each error can say where it is.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::RuleError;

/// A rule file's name and text.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at a byte offset of the text.
    pub(super) fn error(&self, at: usize, problem: impl Into<String>) -> RuleError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        RuleError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// A text or list entry and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: usize,
}

/// A table of which the keys are known.
pub(super) struct Table<'a> {
    source: Source<'a>,
    table: &'a DeTable<'a>,
    /// What it is called in errors.
    what: String,
    /// Where it starts.
    pub(super) at: usize,
}

type Read<T> = Result<T, RuleError>;

impl<'a> Table<'a> {
    /// Refuses a key that is not one of `keys`.
    pub(super) fn new(
        source: Source<'a>,
        what: impl Into<String>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        keys: &[&str],
    ) -> Read<Table<'a>> {
        let what = what.into();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let hint = nearest(name, keys);
                return Err(source.error(
                    key.span().start,
                    format!("unknown key `{name}` in {what}: {hint}"),
                ));
            }
        }
        Ok(Table {
            source,
            table,
            what,
            at: span.start,
        })
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table
            .iter()
            .find(|(name, _)| *name.get_ref() == key)
            .map(|(_, value)| value)
    }

    fn missing(&self, key: &str) -> RuleError {
        self.source
            .error(self.at, format!("{} has no `{key}`", self.what))
    }

    fn expected(&self, key: &str, what: &str, found: &Spanned<DeValue<'_>>) -> RuleError {
        let found_type = found.get_ref().type_str();
        self.source.error(
            found.span().start,
            format!("`{key}` must be {what}, not {found_type}"),
        )
    }

    pub(super) fn text(&self, key: &str) -> Read<Text> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        self.as_text(key, "a string", value)
    }

    fn as_text(&self, key: &str, what: &str, value: &Spanned<DeValue<'_>>) -> Read<Text> {
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(Text {
                text: text.to_string(),
                at: value.span().start,
            }),
            DeValue::String(_) => Err(self
                .source
                .error(value.span().start, format!("`{key}` must not be empty"))),
            _ => Err(self.expected(key, what, value)),
        }
    }

    /// A list of strings; empty if the key is missing.
    pub(super) fn texts(&self, key: &str) -> Read<Vec<Text>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let list = value.get_ref().as_array();
        let list = list.ok_or_else(|| self.expected(key, "a list of strings", value))?;
        list.iter()
            .map(|entry| self.as_text(key, "a list of strings", entry))
            .collect()
    }

    /// A list of strings with at least one entry.
    pub(super) fn some_texts(&self, key: &str) -> Read<Vec<Text>> {
        let list = self.texts(key)?;
        match (list.is_empty(), self.get(key)) {
            (false, _) => Ok(list),
            (true, None) => Err(self.missing(key)),
            (true, Some(value)) => Err(self.source.error(
                value.span().start,
                format!("`{key}` of {} must not be empty", self.what),
            )),
        }
    }

    pub(super) fn number(&self, key: &str) -> Read<u32> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let number = value.get_ref().as_integer();
        number
            .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
            .ok_or_else(|| self.expected(key, "a whole number from 0", value))
    }

    /// False if the key is missing.
    pub(super) fn flag(&self, key: &str) -> Read<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(value) => value
                .get_ref()
                .as_bool()
                .ok_or_else(|| self.expected(key, "true or false", value)),
        }
    }

    /// One of a list of words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Read<T> {
        let word = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == word.text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let hint = nearest(&word.text, &names);
            self.source
                .error(word.at, format!("unknown {key} `{}`: {hint}", word.text))
        })
    }

    pub(super) fn table(&self, key: &str, keys: &[&str]) -> Read<Table<'a>> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let table = value.get_ref().as_table();
        let table = table.ok_or_else(|| self.expected(key, "a table", value))?;
        Table::new(
            self.source,
            format!("`{key}` of {}", self.what),
            table,
            value.span(),
            keys,
        )
    }

    /// A list of tables, `[[key]]`.
    pub(super) fn tables(&self, key: &str, keys: &[&str]) -> Read<Vec<Table<'a>>> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let list = value.get_ref().as_array();
        let list = list.ok_or_else(|| self.expected(key, "a list of tables", value))?;
        list.iter()
            .map(|entry| {
                let table = entry.get_ref().as_table();
                let table = table.ok_or_else(|| self.expected(key, "a list of tables", entry))?;
                Table::new(self.source, format!("a `{key}`"), table, entry.span(), keys)
            })
            .collect()
    }
}

/// "did you mean" for a near miss, else what there is to choose from.
fn nearest(word: &str, names: &[&str]) -> String {
    let closest = names.iter().map(|name| (distance(word, name), name)).min();
    match closest {
        Some((distance, name)) if distance <= 1 + word.chars().count() / 4 => {
            format!("did you mean `{name}`?")
        }
        _ => format!("expected one of {}", names.join(", ")),
    }
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
