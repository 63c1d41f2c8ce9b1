//! What a profile leaves out, as `db status` and `db info` tell it.

use scanlib::database::Excluded;
use serde_json::{Value, json};

/// For people: a word and what is to be said.
pub(super) fn outside_lines(
    profile: &'static str,
    outside: &Excluded,
) -> Vec<(&'static str, String)> {
    let total = match outside.total() {
        0 => profile.to_owned(),
        total => format!("{profile}, which leaves out {total} signatures:"),
    };
    let count = outside.counts().map(|count| {
        let said = format!(
            "{:>9}  {:<8} {}",
            count.signatures,
            count.kind.as_str(),
            count.reason
        );
        ("", said)
    });
    [("profile", total)].into_iter().chain(count).collect()
}

/// For programs.
pub(super) fn outside_object(outside: &Excluded) -> Value {
    let counts: Vec<Value> = outside
        .counts()
        .map(|count| {
            json!({
                "kind": count.kind.as_str(),
                "reason": count.reason.as_str(),
                "signatures": count.signatures,
            })
        })
        .collect();
    json!({ "total": outside.total(), "counts": counts })
}
