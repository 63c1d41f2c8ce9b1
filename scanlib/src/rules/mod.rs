//! Severity rules: what to look for in a text besides signatures, and how much it matters.
//!
//! A [`RuleSet`] is read from a file ([`RuleSet::parse`]) or comes with the library
//! ([`RuleSet::builtin`]). This folder promises that a set finds exactly what its regular
//! expressions match, each on every text, and that a text without anything suspicious costs one
//! pass: expressions run only where one of their anchors occurs, and a file is refused unless it is
//! proven that none can match without (`anchor.rs`). Every rule carries samples that must match
//! and samples that must not; [`check_samples`] runs them.
//!
//! ```
//! use scanlib::View;
//! use scanlib::rules::RuleSet;
//!
//! let rules = RuleSet::builtin();
//! let text = b"GET /item?id=1' UNION SELECT password FROM users";
//! let mut found = Vec::new();
//! rules.find(text, &mut found);
//! let detection = rules.detection(&found[0], View::Raw, text);
//! assert_eq!(detection.name, "Injection attempt: sql_injection");
//! ```
//!
//! # The file
//!
//! TOML. `name` and `version` of the pack, then the rules:
//!
//! ```toml
//! name = "site"
//! version = "1"
//!
//! [[rule]]
//! id = "backup_tool"                # stable; results show it
//! version = 1
//! title = "Somebody runs the old backup tool"
//! type = "suspicious"               # see ThreatType; chooses the label
//! severity = "medium"
//! confidence = "high"
//! anchors = ["oldbackup"]           # every match must contain one; ASCII case is ignored
//! regex = ['\boldbackup\s+--all\b'] # any of them; bytes, not letters; ASCII case is ignored
//! # case_sensitive = true           # unless this says otherwise
//! # unless = ['--dry-run']          # a match that contains one of these does not count
//! # attack = ["T1005"]
//! # references = ["https://example.org/why"]
//! tests = { match = ["oldbackup --all"], no_match = ["newbackup --all"] }
//! ```

mod anchor;
mod file;
mod gate;
mod read;
mod set;

pub use set::{Confidence, MAX_COUNT, Rule, RuleMatch, RuleSet, SampleFailure, check_samples};
