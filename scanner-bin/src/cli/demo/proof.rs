//! What the demo claims, and whether the results bear it out. Pure: records and results in, proofs
//! out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::traffic::{Expected, Planted};

/// Where a record lies in its topic: partition and offset.
pub(super) type Place = (i32, i64);

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// What is claimed.
    pub claim: String,
    /// What was seen.
    pub seen: String,
    /// Whether it bears the claim out.
    pub holds: bool,
}

/// What was sent and what came back.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    sent: HashMap<Place, Expected>,
    results: HashMap<Place, Vec<Value>>,
    answers: usize,
}

impl Evidence {
    /// A record was acknowledged at `place`.
    pub(super) fn sent(&mut self, place: Place, expected: Expected) {
        self.sent.insert(place, expected);
    }

    /// A result came. False if it is not a result of this service.
    pub(super) fn result(&mut self, result: Value) -> bool {
        let Some(place) = place(&result) else {
            return false;
        };
        self.results.entry(place).or_default().push(result);
        self.answers += 1;
        true
    }

    /// Records sent.
    pub(super) fn sent_len(&self) -> usize {
        self.sent.len()
    }

    /// Records sent that have a result.
    pub(super) fn answered(&self) -> usize {
        self.sent
            .keys()
            .filter(|place| self.results.contains_key(place))
            .count()
    }

    /// Every claim of the demo, with `replicas` scanners that share the partitions.
    pub(super) fn proofs(&self, replicas: usize) -> Vec<Proof> {
        let mut proofs: Vec<Proof> = Planted::ALL
            .iter()
            .filter_map(|&planted| self.found(planted))
            .collect();
        proofs.extend([
            self.clean(),
            self.by_libclamav(),
            self.all_answered(),
            self.shared(replicas),
        ]);
        proofs
    }

    fn found(&self, planted: Planted) -> Option<Proof> {
        let (name, severity) = planted.detection()?;
        let result = self.result_of(planted);
        let seen = result.map_or_else(
            || "no result".to_owned(),
            |result| {
                format!(
                    "{} ({})",
                    word(result, "threat_name"),
                    word(result, "severity")
                )
            },
        );
        let holds = result.is_some_and(|result| {
            result["threat_name"] == name && result["severity"] == severity.as_str()
        });
        Some(Proof {
            claim: format!("found: {name} ({severity})"),
            seen,
            holds,
        })
    }

    fn clean(&self) -> Proof {
        let harmless = |expected: &Expected| match expected {
            Expected::Clean => true,
            Expected::Planted(planted) => planted.detection().is_none(),
        };
        let places: Vec<_> = self
            .sent
            .iter()
            .filter(|(_, e)| harmless(e))
            .map(|(p, _)| p)
            .collect();
        let clean = places
            .iter()
            .filter(|place| {
                self.results
                    .get(place)
                    .is_some_and(|all| all.iter().all(|r| r["status"] == "clean"))
            })
            .count();
        Proof {
            claim: "clean: every harmless record".to_owned(),
            seen: format!("{clean} of {}", places.len()),
            holds: clean == places.len() && clean > 0,
        }
    }

    fn by_libclamav(&self) -> Proof {
        let result = self.result_of(Planted::Eicar);
        let name = result.and_then(|result| result["clamav_result"].as_str());
        Proof {
            claim: "libclamav itself found EICAR behind a prefix, inside JSON".to_owned(),
            seen: name.unwrap_or("nothing").to_owned(),
            holds: name.is_some(),
        }
    }

    fn all_answered(&self) -> Proof {
        let answered = self.answered();
        let duplicates = self.answers - self.results.len();
        Proof {
            claim: "answered: every record at least once".to_owned(),
            seen: format!("{answered} of {}, {duplicates} duplicates", self.sent.len()),
            holds: answered == self.sent.len() && answered > 0,
        }
    }

    fn shared(&self, replicas: usize) -> Proof {
        let mut partitions: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for (&(partition, _), results) in &self.results {
            for result in results {
                let instance = result["scanner"]["instance"].as_str().unwrap_or("?");
                partitions.entry(instance).or_default().insert(partition);
            }
        }
        let all: BTreeSet<i32> = partitions.values().flatten().copied().collect();
        let counts: Vec<usize> = partitions.values().map(BTreeSet::len).collect();
        let each_once = counts.iter().sum::<usize>() == all.len();
        let even = counts.iter().all(|&count| count == all.len() / replicas);
        let dashes = |counts: &[usize]| {
            counts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("-")
        };
        Proof {
            claim: format!("shared: {replicas} replicas with as many partitions each"),
            seen: if counts.is_empty() {
                "no result".to_owned()
            } else {
                dashes(&counts)
            },
            holds: counts.len() == replicas && each_once && even,
        }
    }

    fn result_of(&self, planted: Planted) -> Option<&Value> {
        let (place, _) = self
            .sent
            .iter()
            .find(|(_, e)| **e == Expected::Planted(planted))?;
        self.results.get(place)?.first()
    }
}

fn place(result: &Value) -> Option<Place> {
    let kafka = &result["kafka"];
    let partition = i32::try_from(kafka["partition"].as_i64()?).ok()?;
    Some((partition, kafka["offset"].as_i64()?))
}

/// A field's text, or `nothing`.
pub(super) fn word<'a>(result: &'a Value, field: &str) -> &'a str {
    result[field].as_str().unwrap_or("nothing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(partition: i32, offset: i64, instance: &str) -> Value {
        json!({"status": "clean", "threat_name": null, "severity": "clean", "clamav_result": null,
            "kafka": {"partition": partition, "offset": offset}, "scanner": {"instance": instance}})
    }

    /// Three partitions, three replicas, everything found.
    fn good() -> (Evidence, Vec<Value>) {
        let mut evidence = Evidence::default();
        let mut results = Vec::new();
        for (n, planted) in (0..).zip(Planted::ALL) {
            let (partition, offset) = (n % 3, i64::from(n / 3));
            evidence.sent((partition, offset), Expected::Planted(planted));
            let mut result = result(partition, offset, &format!("replica-{partition}"));
            if let Some((name, severity)) = planted.detection() {
                result["status"] = json!("threat");
                result["threat_name"] = json!(name);
                result["severity"] = json!(severity.as_str());
            }
            if planted == Planted::Eicar {
                result["clamav_result"] = json!("Embedded.Test.Eicar.UNOFFICIAL");
            }
            results.push(result);
        }
        (evidence, results)
    }

    fn broken(change: impl FnOnce(&mut Vec<Value>)) -> Vec<String> {
        let (mut evidence, mut results) = good();
        change(&mut results);
        for result in results {
            assert!(evidence.result(result));
        }
        evidence
            .proofs(3)
            .into_iter()
            .filter(|p| !p.holds)
            .map(|p| p.claim)
            .collect()
    }

    #[test]
    fn the_good_run_proves_everything() {
        assert_eq!(broken(|_| {}), [""; 0]);
        assert_eq!(
            broken(|results| results.push(results[4].clone())),
            [""; 0],
            "a duplicate"
        );
    }

    #[test]
    fn each_missing_proof_is_named() {
        let missing = broken(|results| results[1]["threat_name"] = json!("something else"));
        assert_eq!(
            missing,
            ["found: Malicious pattern: powershell_encoded (high)"]
        );
        let missing = broken(|results| results[0]["clamav_result"] = Value::Null);
        assert_eq!(
            missing,
            ["libclamav itself found EICAR behind a prefix, inside JSON"]
        );
        let missing = broken(|results| results[4]["status"] = json!("threat"));
        assert_eq!(missing, ["clean: every harmless record"]);
        let missing = broken(|results| results[2]["scanner"]["instance"] = json!("replica-1"));
        assert_eq!(missing, ["shared: 3 replicas with as many partitions each"]);
        let missing = broken(|results| {
            results.pop();
        });
        assert_eq!(
            missing,
            [
                "clean: every harmless record",
                "answered: every record at least once"
            ]
        );
    }
}
