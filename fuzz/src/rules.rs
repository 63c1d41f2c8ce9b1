//! A rule file is taken or refused with a place, and rules find what their expressions match.
//!
//! The input is a rule file, a zero byte, and a text to look at.

use regex::bytes::{Regex, RegexBuilder};
use scanlib::rules::{MAX_COUNT, RuleMatch, RuleSet, check_samples};
use serde::Deserialize;

/// Panics unless the file is read, and the text searched, as promised.
pub fn check(input: &[u8]) {
    let end = input
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(input.len());
    let (file, text) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(file) = std::str::from_utf8(file) else {
        return;
    };
    match RuleSet::parse("fuzz.toml", file) {
        Err(error) => {
            assert!(!error.problem.is_empty());
            let lines: Vec<&str> = file.split('\n').collect();
            let line = lines.get(error.line - 1);
            assert!(
                line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column)),
                "{error} is not a place in {file:?}"
            );
        }
        Ok(rules) => {
            let naive = Naive::read(file);
            naive.describes(&rules);
            naive.finds_the_same(&rules, text);
            naive.samples_do_the_same(&rules);
        }
    }
}

/// The same file through another reader.
#[derive(Deserialize)]
struct Naive {
    name: String,
    version: String,
    #[serde(default)]
    rule: Vec<NaiveRule>,
}

#[derive(Deserialize)]
struct NaiveRule {
    id: String,
    regex: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
    #[serde(default)]
    case_sensitive: bool,
    tests: Samples,
}

#[derive(Deserialize)]
struct Samples {
    r#match: Vec<String>,
    no_match: Vec<String>,
}

impl Naive {
    fn read(file: &str) -> Naive {
        match toml::from_str(file) {
            Ok(naive) => naive,
            Err(error) => panic!("taken, and refused by another reader: {error}"),
        }
    }

    fn describes(&self, rules: &RuleSet) {
        assert_eq!(
            (rules.name(), rules.version()),
            (&*self.name, &*self.version)
        );
        let ids: Vec<_> = rules.rules().iter().map(|rule| rule.id()).collect();
        assert_eq!(
            ids,
            self.rule.iter().map(|rule| &*rule.id).collect::<Vec<_>>()
        );
    }

    fn finds_the_same(&self, rules: &RuleSet, text: &[u8]) {
        let mut found = Vec::new();
        rules.find(text, &mut found);
        let expected: Vec<_> = self.matches(text).collect();
        assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((found.rule, found.count), (expected.rule, expected.count));
            // Where counting stopped, the first match may be another one.
            assert!(found.count == MAX_COUNT || found.span == expected.span);
        }
    }

    /// Every expression on everything.
    fn matches(&self, text: &[u8]) -> impl Iterator<Item = RuleMatch> {
        let with_place = self.rule.iter().enumerate();
        with_place.filter_map(|(place, rule)| {
            let unless: Vec<_> = rule.unless.iter().map(|text| rule.compile(text)).collect();
            let spans: Vec<_> = rule
                .regex
                .iter()
                .flat_map(|regex| {
                    let all = rule.compile(regex);
                    let kept = all
                        .find_iter(text)
                        .filter(|hit| !unless.iter().any(|other| other.is_match(hit.as_bytes())));
                    kept.map(|hit| hit.range()).collect::<Vec<_>>()
                })
                .collect();
            Some(RuleMatch {
                rule: place,
                span: spans.iter().min_by_key(|span| span.start)?.clone(),
                count: u32::try_from(spans.len()).map_or(MAX_COUNT, |n| n.min(MAX_COUNT)),
            })
        })
    }

    fn samples_do_the_same(&self, rules: &RuleSet) {
        let mut expected = 0;
        for (place, rule) in self.rule.iter().enumerate() {
            let hit =
                |sample: &&String| self.matches(sample.as_bytes()).any(|hit| hit.rule == place);
            expected += rule
                .tests
                .r#match
                .iter()
                .filter(|sample| !hit(sample))
                .count();
            expected += rule.tests.no_match.iter().filter(hit).count();
        }
        assert_eq!(check_samples(rules).len(), expected);
    }
}

impl NaiveRule {
    fn compile(&self, regex: &str) -> Regex {
        let built = RegexBuilder::new(regex)
            .unicode(false)
            .case_insensitive(!self.case_sensitive)
            .build();
        match built {
            Ok(regex) => regex,
            Err(error) => panic!("taken, and refused by another compiler: {error}"),
        }
    }
}
