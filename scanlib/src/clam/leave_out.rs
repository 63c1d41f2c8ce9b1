//! Signatures that are kept out of the engine because the user can do without them.
//!
//! libclamav names a signature before it loads it, and passes over those that the callback does not want. What it never names
//! (`.sdb`, `.ftm`, `.ioc`) cannot be kept out. A bytecode goes by the name of its file.

use std::collections::HashMap;
use std::fmt;

use clamav_prefilter::names::NamedKind;

/// A name that was to be left out, and that libclamav never named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotThere {
    /// As it was asked for.
    pub name: String,
    /// The loaded signature whose name is most like it. Hashes are not looked at: there may be millions.
    pub nearest: Option<String>,
}

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cannot be left out: no signature of this name is loaded, or it is of a kind that libclamav does not name",
            self.name
        )?;
        match &self.nearest {
            Some(nearest) => write!(f, "; the nearest is {nearest}"),
            None => Ok(()),
        }
    }
}

/// What libclamav appends to the names of all that its publisher did not sign.
const UNOFFICIAL: &str = ".UNOFFICIAL";
/// What libclamav puts in front of the names of YARA rules.
const YARA: &str = "YARA.";

/// Names that are wanted out, and what was kept out so far.
#[derive(Debug, Default)]
pub(crate) struct LeaveOut {
    /// As asked for, and whether it was met.
    wanted: Vec<(String, bool)>,
    /// As libclamav names it → its place in `wanted`.
    places: HashMap<Box<[u8]>, usize>,
    /// How often each was kept out, by kind.
    kept_out: HashMap<Box<[u8]>, Kinds>,
}

/// A kind and how often; a name has few.
type Kinds = Vec<(Option<NamedKind>, u64)>;

impl LeaveOut {
    /// A name may be written as it is reported, with `.UNOFFICIAL`, or as it stands in its file.
    pub(crate) fn new(names: &[String]) -> LeaveOut {
        let mut all = LeaveOut::default();
        for name in names {
            let bare = name.strip_suffix(UNOFFICIAL).unwrap_or(name);
            let place = all.wanted.len();
            all.places.entry(bare.as_bytes().into()).or_insert(place);
            all.wanted.push((name.clone(), false));
        }
        all
    }

    /// Whether libclamav is to pass over this signature.
    pub(super) fn takes(&mut self, kind: Option<NamedKind>, name: &[u8]) -> bool {
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
            let kinds = self.kept_out.entry(name.into()).or_default();
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
        taken
    }

    /// What was kept out since the last call, as [`LeaveOut::kept_out`].
    pub(super) fn take_kept_out(&mut self) -> Vec<(Option<NamedKind>, Box<[u8]>, u64)> {
        let kept_out = std::mem::take(&mut self.kept_out).into_iter();
        let each = kept_out.flat_map(|(name, kinds)| {
            let of = move |(kind, count)| (kind, name.clone(), count);
            kinds.into_iter().map(of)
        });
        each.collect()
    }

    /// What was kept out: kinds and names as libclamav has them, and how often.
    pub(crate) fn kept_out(&self) -> impl Iterator<Item = (Option<NamedKind>, &[u8], u64)> {
        self.kept_out.iter().flat_map(|(name, kinds)| {
            kinds
                .iter()
                .map(move |&(kind, count)| (kind, &**name, count))
        })
    }

    /// The names of what was kept out, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.kept_out.keys();
        let mut names: Vec<_> = names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        names
    }

    /// What was asked for and never named. `loaded` are names to suggest.
    pub(super) fn not_there<'n>(
        &self,
        loaded: impl Iterator<Item = &'n [u8]> + Clone,
    ) -> Vec<NotThere> {
        let is_met = |name: &str| {
            let bare = name.strip_suffix(UNOFFICIAL).unwrap_or(name);
            let place = self
                .places
                .get(bare.as_bytes())
                .and_then(|&place| self.wanted.get(place));
            place.is_some_and(|(_, met)| *met)
        };
        let missing = self.wanted.iter().filter(|(name, _)| !is_met(name));
        let missing = missing.map(|(name, _)| NotThere {
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

    fn leave_out(names: &[&str]) -> LeaveOut {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        LeaveOut::new(&names)
    }

    #[test]
    fn a_name_may_be_written_as_reported_or_as_in_its_file() {
        for name in [
            "Rule",
            "YARA.Rule",
            "YARA.Rule.UNOFFICIAL",
            "Rule.UNOFFICIAL",
        ] {
            let mut out = leave_out(&[name]);
            assert!(out.takes(Some(NamedKind::Yara), b"YARA.Rule"), "{name}");
            assert_eq!(out.names(), ["YARA.Rule"]);
            assert_eq!(out.not_there([].into_iter()), []);
        }
        // No rule, so these are other names.
        let mut out = leave_out(&["Rule"]);
        assert!(!out.takes(Some(NamedKind::Body), b"YARA.Rule"));
        assert!(!out.takes(Some(NamedKind::Body), b"rule"));
        assert!(out.takes(None, b"Rule"), "a hash");
    }

    #[test]
    fn a_name_twice_is_met_twice() {
        let mut out = leave_out(&["A", "A.UNOFFICIAL"]);
        assert!(out.takes(Some(NamedKind::Body), b"A"));
        assert!(out.takes(Some(NamedKind::Body), b"A"));
        assert_eq!(out.not_there([].into_iter()), []);
        let kept: Vec<_> = out.kept_out().collect();
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
            let not_there = leave_out(&[name]).not_there(loaded.iter().copied());
            not_there[0].nearest.clone()
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
        let said = leave_out(&["Agent"]).not_there(loaded.iter().copied())[0].to_string();
        assert!(said.starts_with("Agent cannot be left out: "), "{said}");
    }
}
