//! From a rule file's text to compiled rules, or to the first thing that is wrong with it.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use toml::de::DeTable;

use super::anchor;
use super::gate::{Gate, MAX_PATTERNS};
use super::read::{Source, Table, Text};
use super::set::{Compiled, Confidence, Rule};
use crate::error::RuleError;
use crate::report::{Severity, ThreatType};

const PACK_KEYS: [&str; 3] = ["name", "version", "rule"];
const RULE_KEYS: [&str; 13] = [
    "id",
    "version",
    "title",
    "type",
    "severity",
    "confidence",
    "anchors",
    "regex",
    "case_sensitive",
    "unless",
    "attack",
    "references",
    "tests",
];
const TEST_KEYS: [&str; 2] = ["match", "no_match"];

/// Bytes that one compiled expression may take, and its cache in each thread that runs it.
const MAX_REGEX_BYTES: usize = 1 << 20;
const MAX_REGEX_NESTING: u32 = 50;
/// Bytes of an expression's text.
const MAX_REGEX_TEXT: usize = 8 << 10;
/// Bytes of a whole file.
const MAX_FILE: usize = 4 << 20;

/// A signature's word, `virus`, is not among them.
const TYPES: [ThreatType; 9] = [
    ThreatType::Malware,
    ThreatType::Injection,
    ThreatType::Suspicious,
    ThreatType::Exploit,
    ThreatType::Recon,
    ThreatType::Auth,
    ThreatType::Exposure,
    ThreatType::Test,
    ThreatType::Pua,
];
const SEVERITIES: [Severity; 5] = [
    Severity::Info,
    Severity::Low,
    Severity::Medium,
    Severity::High,
    Severity::Critical,
];
const CONFIDENCES: [Confidence; 3] = [Confidence::Low, Confidence::Medium, Confidence::High];

pub(super) fn parse(file: &str, text: &str) -> Result<Compiled, RuleError> {
    let source = Source { file, text };
    if text.len() > MAX_FILE {
        return Err(source.error(0, format!("{} bytes, more than {MAX_FILE}", text.len())));
    }
    let document = DeTable::parse(text).map_err(|error| {
        source.error(error.span().map_or(0, |span| span.start), error.message())
    })?;
    let pack = Table::new(
        source,
        "the rule file",
        document.get_ref(),
        0..0,
        &PACK_KEYS,
    )?;

    let (name, version) = (pack.text("name")?.text, pack.text("version")?.text);
    let (mut rules, mut patterns, mut pairs) = (Vec::<Rule>::new(), Vec::new(), Vec::new());
    for table in pack.tables("rule", &RULE_KEYS)? {
        let rule = rule(source, &table, &mut pairs, &mut patterns)?;
        if rules.iter().any(|other| other.id == rule.id) {
            let problem = format!("there is another rule `{}`", rule.id);
            return Err(source.error(table.text("id")?.at, problem));
        }
        rules.push(rule);
    }
    let gate = Gate::new(pairs)
        .map_err(|error| source.error(0, format!("the anchors do not compile: {error}")))?;
    Ok(Compiled {
        name,
        version,
        rules,
        patterns,
        gate,
    })
}

fn rule(
    source: Source<'_>,
    table: &Table<'_>,
    pairs: &mut Vec<(String, u16)>,
    patterns: &mut Vec<Regex>,
) -> Result<Rule, RuleError> {
    let id = table.text("id")?;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !id.text.starts_with(|c: char| c.is_ascii_lowercase()) || !id.text.bytes().all(letter) {
        let problem = "`id` must be lower-case letters, digits and `_`, and start with a letter";
        return Err(source.error(id.at, problem));
    }
    let case_sensitive = table.flag("case_sensitive")?;
    let anchors: Vec<String> = table
        .some_texts("anchors")?
        .iter()
        .map(|a| a.text.to_ascii_lowercase())
        .collect();

    let first = patterns.len();
    for pattern in table.some_texts("regex")? {
        let place = u16::try_from(patterns.len())
            .ok()
            .filter(|n| usize::from(*n) < MAX_PATTERNS);
        let Some(place) = place else {
            let problem = format!("more than {MAX_PATTERNS} expressions in one file");
            return Err(source.error(pattern.at, problem));
        };
        for anchor in needed_anchors(source, &pattern, case_sensitive, &anchors)? {
            pairs.push((anchor, place));
        }
        patterns.push(regex(source, &pattern, case_sensitive)?);
    }
    let unless = table.texts("unless")?;
    let tests = table.table("tests", &TEST_KEYS)?;
    Ok(Rule {
        id: id.text,
        version: table.number("version")?,
        title: table.text("title")?.text,
        threat_type: table.choice("type", &TYPES.map(|t| (t.as_str(), t)))?,
        severity: table.choice("severity", &SEVERITIES.map(|s| (s.as_str(), s)))?,
        confidence: table.choice("confidence", &CONFIDENCES.map(|c| (c.as_str(), c)))?,
        attack: plain(table.texts("attack")?),
        references: plain(table.texts("references")?),
        patterns: first..patterns.len(),
        unless: unless
            .iter()
            .map(|pattern| regex(source, pattern, case_sensitive))
            .collect::<Result<_, _>>()?,
        samples: plain(tests.some_texts("match")?),
        counter_samples: plain(tests.some_texts("no_match")?),
    })
}

fn plain(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.text).collect()
}

fn regex(source: Source<'_>, pattern: &Text, case_sensitive: bool) -> Result<Regex, RuleError> {
    RegexBuilder::new(&pattern.text)
        .unicode(false)
        .case_insensitive(!case_sensitive)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
        .map_err(|error| source.error(pattern.at, format!("the expression is refused: {error}")))
}

/// The anchors without which the expression cannot match; an error if that cannot be proven.
fn needed_anchors(
    source: Source<'_>,
    pattern: &Text,
    case_sensitive: bool,
    anchors: &[String],
) -> Result<Vec<String>, RuleError> {
    if pattern.text.len() > MAX_REGEX_TEXT {
        let problem = format!("the expression is longer than {MAX_REGEX_TEXT} bytes");
        return Err(source.error(pattern.at, problem));
    }
    // Read exactly as `regex` above reads it.
    let hir = ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .case_insensitive(!case_sensitive)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
        .parse(&pattern.text)
        .map_err(|error| source.error(pattern.at, format!("the expression is refused: {error}")))?;
    let needed = anchor::needed(&hir, anchors).ok_or_else(|| {
        let problem = format!(
            "the expression could match without any of the anchors ({}), and would then never run: \
             name in `anchors` words that every match contains",
            anchors.join(", ")
        );
        source.error(pattern.at, problem)
    })?;
    Ok(needed
        .into_iter()
        .map(|place| anchors[place].clone())
        .collect())
}
