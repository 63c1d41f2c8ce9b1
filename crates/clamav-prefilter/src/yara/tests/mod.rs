//! Rules as a whole, and what their tests share.

mod conditions;
mod files;
mod needs;
mod regexes;

use super::*;
use crate::required::Atom;
use crate::text;

/// Knows of body patterns only the bytes that stand in them as they are.
fn body(pattern: &str, _: BodyOptions) -> Result<Required, String> {
    let mut runs = vec![Vec::new()];
    let mut depth = 0;
    let mut digits = pattern.chars();
    while let Some(high) = digits.next() {
        match high {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ if depth > 0 => {}
            '*' => {}
            _ => {
                let pair: String = [high].into_iter().chain(digits.next()).collect();
                match u8::from_str_radix(&pair, 16) {
                    Ok(byte) if pair.len() == 2 => {
                        runs.last_mut().unwrap().push(byte);
                        continue;
                    }
                    Err(_) if pair.len() == 2 && pair.contains('?') => {}
                    _ => return Err("no body pattern".to_owned()),
                }
            }
        }
        runs.push(Vec::new());
    }
    if runs.iter().flatten().any(|byte| text::is_foreign(*byte)) {
        return Ok(Required::Never);
    }
    let needs = runs.iter().map(|run| literal::normalised(run, None));
    Ok(Required::all(needs.collect()))
}

fn parse_text(rules: &str) -> Vec<YaraRule> {
    parse(rules.as_bytes(), &body)
}

fn only(rules: &str) -> YaraRule {
    let mut rules = parse_text(rules);
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules.remove(0)
}

/// Whether a plain message fulfils a need.
fn holds(required: &Required, message: &[u8]) -> bool {
    let mut normalised = Vec::new();
    text::normalise(message, &mut normalised);
    let lower = message.to_ascii_lowercase();
    required.holds(&|atom| match atom {
        Atom::Text { literal, by } => memchr::memmem::find(&normalised, literal)
            .is_some_and(|at| by.is_none_or(|by| at <= by as usize)),
        Atom::Raw(literal) => memchr::memmem::find(&lower, literal).is_some(),
        Atom::Length(len) => message.len() >= *len as usize,
    })
}

/// The need in short: `a` is the string `$a`.
fn short(required: &Required) -> String {
    match required {
        Required::Never => "never".to_owned(),
        Required::Always => "always".to_owned(),
        Required::Has(Atom::Text { literal, by }) => {
            let text = String::from_utf8_lossy(literal).replace("alpha", "a");
            let text = text.replace("bravo", "b").replace("charlie", "c");
            format!("{text}{}", by.map_or(String::new(), |by| format!("@{by}")))
        }
        Required::Has(atom) => format!("{atom:?}"),
        Required::AtLeast(count, needs) => {
            let needs: Vec<String> = needs.iter().map(short).collect();
            format!("{count} of ({})", needs.join(", "))
        }
    }
}
