//! Gates that ask libclamav itself, and are right but for one fault: each has to be caught by the general generators, or
//! these are worth nothing.

use std::rc::Rc;

use super::bytes::{is_foreign, normalised};
use super::database::{Answer, Loaded};
use super::judge::Cleared;
use super::{SEED, quarry, variable};

fn never() -> Box<Cleared<'static>> {
    Box::new(|_| false)
}

/// What the altered database does not report is cleared.
fn by(altered: Option<Loaded>) -> Box<Cleared<'static>> {
    match altered {
        Some(altered) => Box::new(move |message| altered.scan(message) == Answer::Nothing),
        None => never(),
    }
}

/// The same engine again, if its database is about text, has no hashes or rules, and none of these.
fn without(loaded: &Loaded, marks: &[&str]) -> Option<Loaded> {
    let simple = loaded.files().iter().all(|(ending, text)| {
        matches!(ending.as_str(), "ndb" | "ldb")
            && !text.contains("S.Type")
            && !marks.iter().any(|mark| text.contains(mark))
    });
    simple
        .then(|| loaded.altered(|_, text| text.to_owned()))
        .flatten()
}

#[track_caller]
fn is_caught(fault: &str, make: impl Fn(&Rc<Loaded>) -> Box<Cleared<'static>>) {
    let caught = quarry().hunt(&make, 100_000, variable("SCANNER_TEST_SEED", SEED));
    let caught = caught.unwrap_or_else(|| panic!("not caught: {fault}"));
    println!(
        "{fault}: caught after {} messages, seed {}\n{}",
        caught.messages, caught.seed, caught.report
    );
}

#[test]
fn a_gate_that_clears_everything_is_caught() {
    is_caught("clears everything", |_| Box::new(|_| true));
}

#[test]
fn a_gate_that_asks_libclamav_is_not() {
    let make = |loaded: &Rc<Loaded>| -> Box<Cleared<'static>> {
        by(loaded.altered(|_, text| text.to_owned()))
    };
    if let Some(caught) = quarry().hunt(&make, 1_500, SEED) {
        panic!("{}", caught.report);
    }
}

#[test]
fn forgetting_hashes_of_normalised_text_is_caught() {
    is_caught("forgets hashes of normalised text", |loaded| {
        by(loaded.altered(|_, text| text.replace("S.End:7:EOF-400:", "S.End:7:*:")))
    });
}

#[test]
fn a_wrong_end_of_a_range_of_sizes_is_caught() {
    is_caught("takes the greatest size for one too great", |loaded| {
        by(loaded.altered(|ending, text| {
            if ending != "ldb" {
                return text.to_owned();
            }
            let less = |line: &str| {
                let (before, after) = line.split_once("FileSize:")?;
                let (range, rest) = after.split_once(';')?;
                let (low, high) = range.split_once('-')?;
                let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
                (low < high).then(|| format!("{before}FileSize:{low}-{};{rest}", high - 1))
            };
            let lines = text
                .lines()
                .map(|line| less(line).unwrap_or_else(|| line.to_owned()));
            lines.collect::<Vec<_>>().join("\n")
        }))
    });
}

/// `a|b&c` as `(a)|((b)&(c))`, whatever stands in parentheses the same way.
fn as_in_c(text: &str) -> String {
    let split = |operator: char| -> Option<Vec<&str>> {
        let (mut level, mut start, mut parts) = (0, 0, Vec::new());
        for (at, c) in text.char_indices() {
            match c {
                '(' => level += 1,
                ')' => level -= 1,
                c if c == operator && level == 0 => {
                    parts.push(&text[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(&text[start..]);
        (parts.len() > 1).then_some(parts)
    };
    for operator in ['|', '&'] {
        if let Some(parts) = split(operator) {
            let parts: Vec<_> = parts.into_iter().map(as_in_c).collect();
            // Right-associative, as all operators of one kind are the same.
            return format!("({})", parts.join(&operator.to_string()));
        }
    }
    match (text.starts_with('('), text.rfind(')')) {
        (true, Some(end)) => {
            let inside = as_in_c(&text[1..end]);
            // The count belongs to the parenthesis; one that came from within must not be lost.
            let inside = inside
                .strip_prefix('(')
                .and_then(|i| i.strip_suffix(')'))
                .unwrap_or(&inside);
            format!("({inside}){}", &text[end + 1..])
        }
        _ => text.to_owned(),
    }
}

#[test]
fn precedence_as_in_c_is_caught() {
    assert_eq!(as_in_c("0|1&2"), "(0|(1&2))");
    assert_eq!(as_in_c("0&1|(2|3)>1"), "((0&1)|(2|3)>1)");
    is_caught("takes precedence as in C", |loaded| {
        by(loaded.altered(|ending, text| {
            if ending != "ldb" {
                return text.to_owned();
            }
            let line = |line: &str| {
                let mut fields: Vec<String> = line.split(';').map(str::to_owned).collect();
                fields[2] = as_in_c(&fields[2]);
                fields.join(";")
            };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        }))
    });
}

#[test]
fn forgetting_that_ends_are_not_verified_is_caught() {
    is_caught("verifies the ends of patterns", |loaded| {
        let engine = Rc::clone(loaded);
        Box::new(move |message| {
            let Answer::Found(names) = engine.scan(message) else {
                return false;
            };
            // With more behind it, nothing touches the end. Some signatures want to touch it.
            let marks = [
                "EOF-", "FileSize", "(B)", "(W)", "(L)", "::f", "::if", "S.Type", "S.Hash", "/",
            ];
            let excused = |name: &String| {
                let files = engine.files();
                let mut lines = files.iter().flat_map(|(_, text)| text.lines());
                let start = [format!("{name};"), format!("{name}:")];
                let line = lines.find(|line| start.iter().any(|start| line.starts_with(start)));
                line.is_none_or(|line| marks.iter().any(|mark| line.contains(mark)))
            };
            let padded = match engine.scan(&[message, b"qqqqqqqqqqqqqqqq"].concat()) {
                Answer::Found(names) => names,
                _ => Vec::new(),
            };
            !names
                .iter()
                .any(|name| padded.contains(name) || excused(name))
        })
    });
}

#[test]
fn looking_at_normalised_text_alone_is_caught() {
    is_caught(
        "forgets what normalised text has lost",
        |loaded| match without(loaded, &["EOF-", "FileSize"]) {
            Some(engine) => Box::new(move |message| {
                !message.iter().any(|&byte| is_foreign(byte))
                    && engine.scan(&normalised(message)) == Answer::Nothing
            }),
            None => never(),
        },
    );
}

#[test]
fn forgetting_one_magic_is_caught() {
    is_caught("does not know mail by its subject", |loaded| {
        let engine = Rc::clone(loaded);
        Box::new(move |message| {
            message.starts_with(b"Subject: ") || engine.scan(message) == Answer::Nothing
        })
    });
}

#[test]
fn forgetting_the_decoding_of_utf_16_is_caught() {
    is_caught("does not decode", |loaded| {
        let engine = Rc::clone(loaded);
        Box::new(move |message| {
            let lower = message.to_ascii_lowercase();
            let tag = |text: &[u8]| {
                [
                    b"<script".as_slice(),
                    b"<html",
                    b"<img",
                    b"<table",
                    b"<iframe",
                    b"<object",
                    b"<head",
                ]
                .iter()
                .any(|tag| text.windows(tag.len()).any(|part| part == *tag))
            };
            let decoded: Vec<u8> = lower
                .chunks_exact(2)
                .map(|pair| pair[0].wrapping_add(pair[1] << 4))
                .collect();
            (tag(&decoded) && !tag(&lower)) || engine.scan(message) == Answer::Nothing
        })
    });
}
