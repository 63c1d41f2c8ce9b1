//! What the library says of a record in this process, to be compared with what the service answered.

use std::collections::BTreeSet;

use scanlib::{Detector, EngineBuilder, Library, Parser, Request, RuleSet, Verdict};

use super::scene::Answer;

/// Status and detections, as results list them.
pub type Judgement = (String, BTreeSet<(String, String, String)>);

/// What the service says in a result.
pub fn judged_by_service(answer: &Answer) -> Judgement {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let matches = answer.json["matches"].as_array().unwrap().iter();
    let matches = matches.map(|m| (text(&m["engine"]), text(&m["name"]), text(&m["view"])));
    (answer.status().to_owned(), matches.collect())
}

/// The same payload, scanned by the library in this process.
pub fn judged_offline(detector: &Detector, payload: &[u8]) -> Judgement {
    if payload.is_empty() {
        return ("skipped".to_owned(), BTreeSet::new());
    }
    let message = Parser::default().parse(payload);
    let report = detector
        .scanner()
        .scan_message(&message, &Request::new())
        .unwrap();
    let found = report.verdict.detections();
    let status = match &report.verdict {
        _ if !found.is_empty() => "threat",
        Verdict::Clean if !report.type_ignored => "clean",
        _ => "partial",
    };
    let engine = |is_clamav| if is_clamav { "clamav" } else { "rules" };
    let found = found.iter().map(|d| {
        (
            engine(d.is_clamav()).to_owned(),
            d.name.clone(),
            d.view.as_str().to_owned(),
        )
    });
    (status.to_owned(), found.collect())
}

/// The built-in signature and the built-in rules.
pub fn detector() -> Detector {
    let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = engine.builtin_signatures().unwrap().compile().unwrap();
    Detector::builder()
        .engine(engine)
        .rules(RuleSet::builtin())
        .build()
        .unwrap()
}
