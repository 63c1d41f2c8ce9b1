//! Signatures that the user excludes from the engine by name.
//!
//! libclamav reports the name of a signature before it loads it, and skips the signature if the callback returns non-zero. It reports
//! no names for `.sdb`, `.ftm` and `.ioc` files, so these signatures cannot be excluded. A bytecode has the name of its file.

use std::collections::HashMap;
use std::fmt;

use clamav_prefilter::names::NamedKind;

/// An exclusion that matched no signature while the engine was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnmatchedExclusion {
    /// The name as the user wrote it.
    pub name: String,
    /// The loaded signature with the most similar name, if one is similar. Hash signatures are not considered, because there may be
    /// millions.
    pub nearest: Option<String>,
}

impl fmt::Display for UnmatchedExclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cannot be excluded: no signature of this name is loaded, or libclamav reports no names for its kind",
            self.name
        )?;
        match &self.nearest {
            Some(nearest) => write!(f, "; the nearest is {nearest}"),
            None => Ok(()),
        }
    }
}

/// Suffix that libclamav appends to names of signatures outside signed containers.
const UNOFFICIAL: &str = ".UNOFFICIAL";
/// Prefix that libclamav adds to the names of YARA rules.
const YARA: &str = "YARA.";

/// Names that are excluded, and what was kept out so far.
#[derive(Debug, Default)]
pub(crate) struct Exclusions {
    /// Each exclusion as written, and whether it matched a signature.
    wanted: Vec<(String, bool)>,
    /// As libclamav names it → its place in `wanted`.
    places: HashMap<Box<[u8]>, usize>,
    /// How often each was kept out, by kind.
    excluded: HashMap<Box<[u8]>, Kinds>,
}

/// Number of excluded signatures for each kind.
type Kinds = Vec<(Option<NamedKind>, u64)>;

impl Exclusions {
    /// A name may be written as it is reported, with `.UNOFFICIAL`, or as it stands in its file.
    pub(crate) fn new(names: &[String]) -> Exclusions {
        let mut all = Exclusions::default();
        for name in names {
            let bare = name.strip_suffix(UNOFFICIAL).unwrap_or(name);
            let place = all.wanted.len();
            all.places.entry(bare.as_bytes().into()).or_insert(place);
            all.wanted.push((name.clone(), false));
        }
        all
    }

    /// Whether libclamav must skip this signature. Records the match.
    pub(super) fn excludes(&mut self, kind: Option<NamedKind>, name: &[u8], times: u64) -> bool {
        // With braces in its name it is a bytecode's, which libclamav takes for malformed without it: leave out the bytecode.
        if self.places.is_empty() || (kind == Some(NamedKind::Logical) && name.contains(&b'{')) {
            return false;
        }
        let as_written = match kind {
            Some(NamedKind::Yara) => name.strip_prefix(YARA.as_bytes()),
            _ => None,
        };
        let names = [Some(name), as_written].into_iter().flatten();
        let mut taken = false;
        for place in names.filter_map(|name| self.places.get(name)) {
            if let Some((_, met)) = self.wanted.get_mut(*place) {
                *met = true;
                taken = true;
            }
        }
        if taken {
            let kinds = self.excluded.entry(name.into()).or_default();
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count = count.saturating_add(times),
                None => kinds.push((kind, times)),
            }
        }
        taken
    }

    /// What was kept out since the last call, as [`Exclusions::excluded`].
    pub(super) fn take_excluded(&mut self) -> Vec<(Option<NamedKind>, Box<[u8]>, u64)> {
        let excluded = std::mem::take(&mut self.excluded).into_iter();
        let each = excluded.flat_map(|(name, kinds)| {
            let of = move |(kind, count)| (kind, name.clone(), count);
            kinds.into_iter().map(of)
        });
        each.collect()
    }

    /// What was kept out: kinds and names as libclamav has them, and how often.
    pub(crate) fn excluded(&self) -> impl Iterator<Item = (Option<NamedKind>, &[u8], u64)> {
        self.excluded.iter().flat_map(|(name, kinds)| {
            kinds
                .iter()
                .map(move |&(kind, count)| (kind, &**name, count))
        })
    }

    /// The names of what was kept out, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.excluded.keys();
        let mut names: Vec<_> = names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        names
    }

    /// The exclusions that matched no signature. Suggestions come from `loaded`.
    pub(super) fn unmatched<'n>(
        &self,
        loaded: impl Iterator<Item = &'n [u8]> + Clone,
    ) -> Vec<UnmatchedExclusion> {
        let is_met = |name: &str| {
            let bare = name.strip_suffix(UNOFFICIAL).unwrap_or(name);
            let place = self
                .places
                .get(bare.as_bytes())
                .and_then(|&place| self.wanted.get(place));
            place.is_some_and(|(_, met)| *met)
        };
        let missing = self.wanted.iter().filter(|(name, _)| !is_met(name));
        let missing = missing.map(|(name, _)| UnmatchedExclusion {
            nearest: nearest(name, loaded.clone()),
            name: name.clone(),
        });
        missing.collect()
    }
}

/// The name that looks most like this one, if one does.
fn nearest<'n>(name: &str, loaded: impl Iterator<Item = &'n [u8]>) -> Option<String> {
    let lower = |name: &str| {
        let name = name.strip_suffix(UNOFFICIAL).unwrap_or(name);
        name.strip_prefix(YARA).unwrap_or(name).to_lowercase()
    };
    let wanted = lower(name);
    // More than a third of it changed is another name.
    let most = wanted.chars().count() / 3;
    let likely = loaded
        .map(String::from_utf8_lossy)
        .filter(|name| name.len().abs_diff(wanted.len()) <= most + YARA.len());
    let distances = likely.map(|name| (strsim::osa_distance(&wanted, &lower(&name)), name));
    let closest = distances.min_by(|(a, _), (b, _)| a.cmp(b))?;
    (closest.0 <= most).then(|| closest.1.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusions(names: &[&str]) -> Exclusions {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        Exclusions::new(&names)
    }

    #[test]
    fn a_name_may_be_written_as_reported_or_as_in_its_file() {
        for name in [
            "Rule",
            "YARA.Rule",
            "YARA.Rule.UNOFFICIAL",
            "Rule.UNOFFICIAL",
        ] {
            let mut out = exclusions(&[name]);
            assert!(
                out.excludes(Some(NamedKind::Yara), b"YARA.Rule", 1),
                "{name}"
            );
            assert_eq!(out.names(), ["YARA.Rule"]);
            assert_eq!(out.unmatched([].into_iter()), []);
        }
        // No rule, so these are other names.
        let mut out = exclusions(&["Rule"]);
        assert!(!out.excludes(Some(NamedKind::Body), b"YARA.Rule", 1));
        assert!(!out.excludes(Some(NamedKind::Body), b"rule", 1));
        assert!(out.excludes(None, b"Rule", 1), "a hash");
    }

    #[test]
    fn a_name_twice_is_met_twice() {
        let mut out = exclusions(&["A", "A.UNOFFICIAL"]);
        assert!(out.excludes(Some(NamedKind::Body), b"A", 1));
        assert!(out.excludes(Some(NamedKind::Body), b"A", 1));
        assert_eq!(out.unmatched([].into_iter()), []);
        let kept: Vec<_> = out.excluded().collect();
        assert_eq!(kept, [(Some(NamedKind::Body), &b"A"[..], 2)]);
    }

    #[test]
    fn the_nearest_name_is_suggested_and_none_that_is_far() {
        let loaded = [
            &b"Win.Trojan.Agent-1"[..],
            b"YARA.PowerShell_Case_Anomaly",
            b"\xff",
        ];
        let nearest = |name: &str| {
            let unmatched = exclusions(&[name]).unmatched(loaded.iter().copied());
            unmatched[0].nearest.clone()
        };
        assert_eq!(
            nearest("powershell_case_anomoly").as_deref(),
            Some("YARA.PowerShell_Case_Anomaly")
        );
        assert_eq!(nearest("Win.Trojan.Agent-1.UNOFFICAL"), None);
        assert_eq!(
            nearest("win.trojan.agent-2").as_deref(),
            Some("Win.Trojan.Agent-1")
        );
        assert_eq!(nearest("Html.Phishing"), None);
        let said = exclusions(&["Agent"]).unmatched(loaded.iter().copied())[0].to_string();
        assert!(said.starts_with("Agent cannot be excluded: "), "{said}");
    }
}
