use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use regex::bytes::Regex;

use super::file;
use super::gate::Gate;
use crate::error::RuleError;
use crate::report::{Detection, DetectionSource, MAX_SAMPLE_BYTES, Severity, ThreatType, View};

/// Matches of one rule in one text are counted up to this number.
pub const MAX_COUNT: u32 = 100;

/// How sure a rule is, whatever its severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Often harmless.
    Low,
    /// Sometimes harmless.
    Medium,
    /// Hardly ever harmless.
    High,
}

impl Confidence {
    /// The lower-case word used in results and rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule of a set.
#[derive(Debug)]
pub struct Rule {
    pub(super) id: String,
    pub(super) version: u32,
    pub(super) title: String,
    pub(super) threat_type: ThreatType,
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    pub(super) attack: Vec<String>,
    pub(super) references: Vec<String>,
    /// Its place in the set's list of expressions.
    pub(super) patterns: Range<usize>,
    pub(super) unless: Vec<Regex>,
    pub(super) samples: Vec<String>,
    pub(super) counter_samples: Vec<String>,
}

impl Rule {
    /// Stable identifier, for example `sql_injection`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Grows when the rule changes what it matches.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What it is about, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Class of the threat.
    pub fn threat_type(&self) -> ThreatType {
        self.threat_type
    }

    /// How much a match matters.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// How sure a match is.
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// ATT&CK identifiers, for example `T1190`.
    pub fn attack(&self) -> &[String] {
        &self.attack
    }

    /// Where to read more.
    pub fn references(&self) -> &[String] {
        &self.references
    }

    /// What results call a match: the label of the threat type and the identifier, for example
    /// `Injection attempt: sql_injection`.
    pub fn name(&self) -> String {
        let label = match self.threat_type {
            ThreatType::Malware | ThreatType::Virus => "Malicious pattern",
            ThreatType::Injection => "Injection attempt",
            ThreatType::Suspicious => "Suspicious content",
            ThreatType::Exploit => "Exploit attempt",
            ThreatType::Recon => "Reconnaissance",
            ThreatType::Auth => "Authentication event",
            ThreatType::Exposure => "Exposed secret",
            ThreatType::Test => "Test pattern",
            ThreatType::Pua => "Unwanted application",
        };
        format!("{label}: {}", self.id)
    }

    /// False if an exception of the rule stands inside the matched text.
    fn counts(&self, matched: &[u8]) -> bool {
        !self
            .unless
            .iter()
            .any(|exception| exception.is_match(matched))
    }
}

/// A rule that matched a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// Place of the rule in its set, see [`RuleSet::rule`].
    pub rule: usize,
    /// Byte range of the first match, end excluded.
    pub span: Range<usize>,
    /// How many matches there are, all expressions of the rule together; at most [`MAX_COUNT`].
    pub count: u32,
}

/// What a rule file becomes.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) rules: Vec<Rule>,
    pub(super) patterns: Vec<Regex>,
    pub(super) gate: Gate,
}

/// Compiled rules; cheap to clone and shared between threads.
#[derive(Clone, Debug)]
pub struct RuleSet(Arc<Compiled>);

static BUILTIN: LazyLock<RuleSet> =
    LazyLock::new(
        || match RuleSet::parse("builtin.toml", include_str!("builtin.toml")) {
            Ok(rules) => rules,
            Err(error) => unreachable!("the built-in rules were tested: {error}"),
        },
    );

impl RuleSet {
    /// The pack `syslog-core` that comes with the library.
    pub fn builtin() -> RuleSet {
        BUILTIN.clone()
    }

    /// Compiles a rule file; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and column: broken TOML, an unknown key or
    /// word, something missing, an expression that is refused or too large, or one that could
    /// match without an anchor.
    pub fn parse(name: &str, text: &str) -> Result<RuleSet, RuleError> {
        Ok(RuleSet(Arc::new(file::parse(name, text)?)))
    }

    /// Name of the pack.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Version of the pack.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// All rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// A rule by its place.
    pub fn rule(&self, place: usize) -> Option<&Rule> {
        self.0.rules.get(place)
    }

    /// Adds to `found` each rule that matches `data`, in the order of the file. Nothing is
    /// allocated where nothing matches.
    pub fn find(&self, data: &[u8], found: &mut Vec<RuleMatch>) {
        let candidates = self.0.gate.candidates(data);
        if candidates.is_empty() {
            return;
        }
        for (place, rule) in self.0.rules.iter().enumerate() {
            let patterns = rule
                .patterns
                .clone()
                .filter(|pattern| candidates.contains(*pattern));
            let mut whole: Option<RuleMatch> = None;
            for pattern in patterns {
                for hit in self.0.patterns[pattern].find_iter(data) {
                    if !rule.counts(hit.as_bytes()) {
                        continue;
                    }
                    let sum = whole.get_or_insert(RuleMatch {
                        rule: place,
                        span: hit.range(),
                        count: 0,
                    });
                    sum.count += 1;
                    if hit.start() < sum.span.start {
                        sum.span = hit.range();
                    }
                    if sum.count == MAX_COUNT {
                        break;
                    }
                }
                if whole.as_ref().is_some_and(|sum| sum.count == MAX_COUNT) {
                    break;
                }
            }
            found.extend(whole);
        }
    }

    /// A match in `data` as results show it.
    ///
    /// # Panics
    ///
    /// If the match is of another set that has more rules.
    pub fn detection(&self, found: &RuleMatch, view: View, data: &[u8]) -> Detection {
        let rule = &self.0.rules[found.rule];
        let matched = data.get(found.span.clone()).unwrap_or_default();
        Detection {
            name: rule.name(),
            source: DetectionSource::Rule {
                id: rule.id.clone(),
                version: rule.version,
                span: found.span.clone(),
                count: found.count,
                sample: matched[..matched.len().min(MAX_SAMPLE_BYTES)].to_vec(),
            },
            view,
            severity: rule.severity,
            threat_type: rule.threat_type,
        }
    }
}

/// A sample of a rule file that does not do what the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleFailure {
    /// Identifier of the rule.
    pub rule: String,
    /// The sample.
    pub sample: String,
    /// True if the rule should have matched and did not; false if it matched and should not.
    pub should_match: bool,
}

impl fmt::Display for SampleFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = if self.should_match {
            "does not match"
        } else {
            "must not match"
        };
        // Escaped: a sample may hold anything.
        write!(f, "{} {problem} its sample {:?}", self.rule, self.sample)
    }
}

/// Runs the samples of every rule; empty if all do what the file says.
pub fn check_samples(rules: &RuleSet) -> Vec<SampleFailure> {
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for (place, rule) in rules.rules().iter().enumerate() {
        let samples = rule.samples.iter().map(|sample| (sample, true));
        let counter_samples = rule.counter_samples.iter().map(|sample| (sample, false));
        for (sample, should_match) in samples.chain(counter_samples) {
            found.clear();
            rules.find(sample.as_bytes(), &mut found);
            if found.iter().any(|hit| hit.rule == place) != should_match {
                failures.push(SampleFailure {
                    rule: rule.id.clone(),
                    sample: sample.clone(),
                    should_match,
                });
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every expression on everything, in the most obvious way.
    fn naive(rules: &RuleSet, data: &[u8]) -> Vec<RuleMatch> {
        let of_rule = |(place, rule): (usize, &Rule)| {
            let hits: Vec<_> = rules.0.patterns[rule.patterns.clone()]
                .iter()
                .flat_map(|pattern| pattern.find_iter(data))
                .filter(|hit| {
                    !rule
                        .unless
                        .iter()
                        .any(|other| other.is_match(hit.as_bytes()))
                })
                .collect();
            let first = hits.iter().min_by_key(|hit| hit.start())?;
            let count = u32::try_from(hits.len()).map_or(MAX_COUNT, |count| count.min(MAX_COUNT));
            Some((
                RuleMatch {
                    rule: place,
                    span: first.range(),
                    count,
                },
                hits.len(),
            ))
        };
        let hits = rules.rules().iter().enumerate().filter_map(of_rule);
        // Where counting stopped early the first match may be another one.
        hits.filter(|(_, all)| *all < MAX_COUNT as usize)
            .map(|(hit, _)| hit)
            .collect()
    }

    const EXAMPLE: &str = r#"
        name = "example"
        version = "1"
        [[rule]]
        id = "words"
        version = 1
        title = "Words with an exception"
        type = "suspicious"
        severity = "low"
        confidence = "low"
        anchors = ["alpha", "beta", "k", ";"]
        regex = ['(?:alpha|beta)+\d', 'k{2}', ';[;x]', 'al(?:pha|fa k)x?']
        unless = ['1']
        tests = { match = ["alpha2"], no_match = ["alpha 1"] }
        [[rule]]
        id = "exact"
        version = 1
        title = "Case counts"
        type = "test"
        severity = "info"
        confidence = "low"
        anchors = ["Beta"]
        regex = ['\bBeta']
        case_sensitive = true
        tests = { match = ["Beta"], no_match = ["beta"] }
    "#;

    fn text_near(rules: &RuleSet) -> impl Strategy<Value = Vec<u8>> + use<> {
        let samples: Vec<String> = rules
            .rules()
            .iter()
            .flat_map(|rule| rule.samples.iter().chain(&rule.counter_samples).cloned())
            .collect();
        let part = (
            prop::sample::select(samples),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(sample, a, b)| {
                let (a, b) = (a.index(sample.len() + 1), b.index(sample.len() + 1));
                sample.as_bytes()[a.min(b)..a.max(b)].to_vec()
            });
        let piece = prop_oneof![
            4 => part,
            2 => prop::sample::select(vec![
                "alpha", "BETA", "Beta", "kK", "KK", ";;", "alfa k", "1", "2", "union", "select", "'", "or ", "=",
                "sh ", "-c", "; ", "http://", "evil", "base64", " -d", "|", "%20", "\n", "\u{212a}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn example() -> RuleSet {
        RuleSet::parse("example", EXAMPLE).unwrap_or_else(|error| panic!("{error}"))
    }

    fn assert_as_naive(rules: &RuleSet, data: &[u8]) -> Result<(), TestCaseError> {
        let mut found = Vec::new();
        rules.find(data, &mut found);
        found.retain(|hit| hit.count < MAX_COUNT);
        prop_assert_eq!(found, naive(rules, data));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1024)))]

        #[test]
        fn the_gate_loses_no_match_of_the_builtin_rules(data in text_near(&RuleSet::builtin())) {
            assert_as_naive(&RuleSet::builtin(), &data)?;
        }

        #[test]
        fn the_gate_loses_no_match_of_other_rules(data in text_near(&example())) {
            assert_as_naive(&example(), &data)?;
        }
    }
}
