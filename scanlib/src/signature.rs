//! What the name of a libclamav signature says about severity and kind.
//!
//! ClamAV's names follow `Platform.Category.Family-Id-Revision`; its heuristics and possibly
//! unwanted applications have prefixes of their own. (ClamAV documentation, "Signature naming".)

use crate::report::{Detection, DetectionSource, Severity, ThreatType, View};

/// Words in a name that stand for destruction, stealth or remote control under way.
const CRITICAL: [&str; 3] = ["ransom", "rootkit", "webshell"];

/// A detection by libclamav.
pub(crate) fn detection(name: String, view: View) -> Detection {
    let (severity, threat_type) = classify(&name);
    Detection {
        name,
        source: DetectionSource::Clamav,
        view,
        severity,
        threat_type,
    }
}

fn classify(name: &str) -> (Severity, ThreatType) {
    if name.starts_with("PUA.") {
        return (Severity::Low, ThreatType::Pua);
    }
    if name.starts_with("Heuristics.Phishing.") {
        return (Severity::Medium, ThreatType::Suspicious);
    }
    let lower = name.to_ascii_lowercase();
    if CRITICAL.iter().any(|word| lower.contains(word)) {
        return (Severity::Critical, ThreatType::Virus);
    }
    (Severity::High, ThreatType::Virus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_by_prefix_and_family() {
        let cases = [
            ("PUA.Win.Adware.Foo-1", Severity::Low, ThreatType::Pua),
            (
                "Heuristics.Phishing.Email.SpoofedDomain",
                Severity::Medium,
                ThreatType::Suspicious,
            ),
            (
                "Win.Ransomware.Locky-1",
                Severity::Critical,
                ThreatType::Virus,
            ),
            ("Unix.Rootkit.X-2", Severity::Critical, ThreatType::Virus),
            (
                "Eicar-Test-Signature.UNOFFICIAL",
                Severity::High,
                ThreatType::Virus,
            ),
            ("Win.Trojan.Agent-36", Severity::High, ThreatType::Virus),
        ];
        for (name, severity, threat_type) in cases {
            assert_eq!(classify(name), (severity, threat_type), "{name}");
        }
    }
}
