//! Whether signatures that loaded may take over: they find EICAR if those before do, let harmless lines pass that passed before, are not
//! many times as slow, and are not a fraction of those before.
//!
//! The comparisons are with the signatures that are in use, or were last. Without any there is nothing to compare. The built-in signature, where
//! it is in the engine, has to find EICAR in each view; it is not added to anybody's files, as it would change what they find.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use scanlib::{Detection, Detector, Incomplete, Parser, Payload, Profile, Request, View, eicar};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Fewer signatures than this share of those before are refused.
const FEWEST: f64 = 0.5;
/// Of so few signatures any number may remain.
const FEW: u64 = 20;
/// So many times as slow is refused,
const SLOWEST: f64 = 3.0;
/// unless a line still takes no longer than this: a first full set is a hundred times as slow as a few signatures.
const FAST_ENOUGH: Duration = Duration::from_millis(10);
/// All lines are scanned so often; the fastest round counts, as what else the machine does only makes it slower.
const ROUNDS: usize = 5;
/// Rounds end after so long together,
const PATIENCE: Duration = Duration::from_secs(2);
/// and what is not done in this time is slow.
const ROUND: Duration = Duration::from_secs(10);

/// Lines that no signature should find anything in: what syslog carries all day.
const HARMLESS: [&str; 16] = [
    "<30>Oct 20 02:44:02 web-1 systemd[1]: Started Session 4211 of user deploy.",
    "<38>Oct 20 02:44:03 web-1 sshd[811]: Accepted publickey for deploy from 10.0.4.17 port 50112 ssh2: ED25519",
    "<86>Oct 20 02:44:03 web-1 sudo: pam_unix(sudo:session): session opened for user root by (uid=0)",
    "<78>Oct 20 02:45:01 web-1 CRON[9120]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)",
    "<4>Oct 20 02:45:07 node-3 kernel: [12345.678901] eth0: link up, 1000 Mbps, full duplex, flow control rx/tx",
    "<134>1 2025-10-20T02:45:09.120Z lb-2 haproxy 1822 - - 10.1.2.3:51442 front~ app/app-3 0/0/1/12/13 200 1843 - - ---- 12/12/1/0/0 0/0 \
     \"GET /api/v1/orders?page=2&sort=asc HTTP/1.1\"",
    "10.1.2.3 - - [20/Oct/2025:02:45:10 +0000] \"POST /login HTTP/1.1\" 302 512 \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 \
     Firefox/128.0\"",
    "<22>Oct 20 02:45:11 mail postfix/smtpd[410]: 4F2C81A0: client=mx.example.org[192.0.2.25]",
    "<22>Oct 20 02:45:12 mail postfix/qmgr[77]: 4F2C81A0: from=<anna@example.org>, size=18422, nrcpt=1 (queue active)",
    "<29>Oct 20 02:45:20 db-1 postgres[5520]: [7-1] LOG:  checkpoint complete: wrote 812 buffers (5.0%); write=81.120 s, sync=0.004 s",
    "<46>Oct 20 02:45:31 fw-1 kernel: IN=eth1 OUT=eth0 SRC=192.0.2.44 DST=198.51.100.7 LEN=60 TTL=63 PROTO=TCP SPT=40122 DPT=443 SYN",
    "{\"timestamp\":\"2025-10-20T02:45:33Z\",\"level\":\"info\",\"message\":\"request done\",\"path\":\"/healthz\",\"status\":200,\"took_ms\":3}",
    "{\"message\":\"cache miss for key user:4711\",\"source_ip\":\"10.42.2.1\",\"facility\":\"local0\",\"priority\":\"info\",\"program\":\"app\"}",
    "<14>Oct 20 02:45:40 build dockerd[902]: time=\"2025-10-20T02:45:40.001Z\" level=info msg=\"image pulled\" digest=\"sha256:9f86d081884c7d65\"",
    "<165>Oct 20 02:45:44 router %SYS-5-CONFIG_I: Configured from console by admin on vty0 (10.0.0.5)",
    "Oct 20 02:45:50 app-1 java[3311]: INFO  [main] o.e.Service - Warteschlange geleert: 42 Eintr\u{e4}ge in 18 ms",
];

/// Microseconds for a line, where all together took so long.
fn micros(round: Duration) -> f64 {
    round.as_secs_f64() * 1e6 / HARMLESS.len() as f64
}

/// How signatures did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// How many there are, as libclamav counts them.
    pub signatures: u64,
    /// Which of the files' signatures these are: `full` or `log-only`.
    #[serde(default = "full")]
    pub profile: String,
    /// How many the profile leaves out.
    #[serde(default)]
    pub left_out: u64,
    /// Microseconds that libclamav takes for a harmless line.
    pub line_micros: f64,
    /// The numbers of harmless lines in which something is found.
    pub found: BTreeSet<usize>,
    /// What is found in the first of them.
    pub first_found: Option<String>,
    /// Whether the EICAR test string is found where it stands alone, as most signatures for it want it.
    #[serde(default)]
    pub finds_eicar: bool,
}

/// What was loaded before there were profiles.
fn full() -> String {
    Profile::Full.name().to_owned()
}

/// Why signatures may not take over.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum CanaryError {
    /// EICAR is not found.
    #[error(
        "the EICAR test string is not found {form} (view {view}): a signature or an exception in the files stands in its way"
    )]
    Eicar {
        /// How the string was hidden.
        form: &'static str,
        /// The view that shows it.
        view: View,
    },
    /// EICAR is found no more.
    #[error(
        "the EICAR test string, which the signatures before find, is not found: a signature is gone, or an exception in the files stands in its way"
    )]
    EicarLost,
    /// libclamav could not look.
    #[error("a test line could not be scanned in full: {0}")]
    NotScanned(String),
    /// A harmless line is found suspicious, which it was not before.
    #[error("{name} is found in a harmless line, in which those before find nothing: {line:?}")]
    NotClean {
        /// What is found.
        name: String,
        /// In which line.
        line: &'static str,
    },
    /// They are slow.
    #[error("a harmless line takes libclamav {now:.1} ms, and {before:.1} ms with those before")]
    Slow {
        /// Milliseconds.
        now: f64,
        /// Milliseconds.
        before: f64,
    },
    /// Most of them are gone.
    #[error("{now} signatures are left of {before}")]
    Collapsed {
        /// How many there are.
        now: u64,
        /// How many there were.
        before: u64,
    },
}

impl CanaryError {
    /// True if the surroundings may be to blame, and another time it may do.
    pub fn may_pass(&self) -> bool {
        matches!(self, CanaryError::NotScanned(_))
    }
}

/// Has libclamav look for EICAR in each view that is scanned. Where the built-in signature is loaded it has to find it.
///
/// # Errors
/// It does not find it, or it could not look.
pub fn eicar(detector: &Detector) -> Result<(), CanaryError> {
    let Some(engine) = detector.engine() else {
        return Ok(());
    };
    let info = engine.info();
    let left_out = |name: &String| name == scanlib::database::BUILTIN_SIGNATURE;
    let knows_it = info.builtin && !info.excluded.iter().any(left_out);
    let text = eicar::text();
    let json = serde_json::json!({ "message": format!("upload: {text}") }).to_string();
    let base64 = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&text)
    };
    let forms = [
        (
            View::Raw,
            "behind a syslog header",
            format!("<13>Oct 20 02:44:02 web app: {text}"),
        ),
        (View::Body, "escaped in a JSON record", json),
        (
            View::Decoded,
            "in base64",
            format!("<13>Oct 20 02:44:02 web app: payload {base64}"),
        ),
    ];
    let parser = Parser::default();
    let mut scanner = detector.scanner();
    for (view, form, line) in forms {
        if !detector.views().contains(view) {
            continue;
        }
        let report = scanner
            .scan_message(&parser.parse(line.as_bytes()), &Request::new())
            .map_err(|error| CanaryError::NotScanned(error.to_string()))?;
        if let scanlib::Verdict::Incomplete { cause, .. } = &report.verdict {
            return Err(CanaryError::NotScanned(cause.to_string()));
        }
        let found = report.verdict.detections();
        if knows_it && !found.iter().any(Detection::is_clamav) {
            return Err(CanaryError::Eicar { form, view });
        }
    }
    Ok(())
}

impl Measure {
    /// Scans the harmless lines with libclamav, without the prefilter in front.
    ///
    /// # Errors
    /// libclamav could not look.
    pub fn of(detector: &Detector) -> Result<Measure, CanaryError> {
        let Some(engine) = detector.engine() else {
            return Ok(Measure::default());
        };
        let mut measure = Measure {
            signatures: engine.info().signatures,
            profile: engine.info().profile.name().to_owned(),
            left_out: engine.info().excluded_by_profile.total(),
            ..Measure::default()
        };
        let eicar = engine
            .scan(Payload::Bytes(eicar::text().as_bytes()), &Request::new())
            .map_err(|error| CanaryError::NotScanned(error.to_string()))?;
        if let Some(cause) = eicar.incomplete {
            return Err(CanaryError::NotScanned(cause.to_string()));
        }
        measure.finds_eicar = !eicar.names.is_empty();
        let views = detector.views();
        let mut buffers = scanlib::ViewBuffers::default();
        let mut fastest = Duration::MAX;
        let started = Instant::now();
        for round in 0..ROUNDS {
            let began = Instant::now();
            for (number, line) in HARMLESS.iter().enumerate() {
                let message = Parser::default().parse(line.as_bytes());
                for view in buffers.views(&message, views) {
                    let request = Request::new().deadline(began + ROUND);
                    let scan = engine
                        .scan(Payload::Bytes(view.data), &request)
                        .map_err(|error| CanaryError::NotScanned(error.to_string()))?;
                    if let (0, Some(name)) = (round, scan.names.first()) {
                        measure.found.insert(number);
                        measure.first_found.get_or_insert_with(|| name.clone());
                    } else if matches!(
                        scan.incomplete,
                        Some(Incomplete::Deadline | Incomplete::EngineTimeLimit)
                    ) {
                        // It would take longer still.
                        measure.line_micros = micros(began.elapsed());
                        return Ok(measure);
                    } else if let Some(cause) = scan.incomplete {
                        return Err(CanaryError::NotScanned(cause.to_string()));
                    }
                }
            }
            fastest = fastest.min(began.elapsed());
            if started.elapsed() > PATIENCE {
                break;
            }
        }
        measure.line_micros = micros(fastest);
        Ok(measure)
    }

    /// Whether these may take the place of those `before`.
    ///
    /// # Errors
    /// They may not.
    pub fn beside(&self, before: &Measure) -> Result<(), CanaryError> {
        // Another profile has other signatures of the same files, and may find more: only like is compared with like.
        let is_like = self.profile == before.profile;
        if is_like
            && before.signatures >= FEW
            && (self.signatures as f64) < before.signatures as f64 * FEWEST
        {
            return Err(CanaryError::Collapsed {
                now: self.signatures,
                before: before.signatures,
            });
        }
        if before.finds_eicar && !self.finds_eicar {
            return Err(CanaryError::EicarLost);
        }
        if let Some(line) = self
            .found
            .difference(&before.found)
            .next()
            .filter(|_| is_like)
        {
            return Err(CanaryError::NotClean {
                name: self.first_found.clone().unwrap_or_default(),
                line: HARMLESS.get(*line).copied().unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// Whether these are not many times as slow as those `before`, measured on the same machine at the same time.
    ///
    /// # Errors
    /// They are.
    pub fn as_fast_as(&self, before: &Measure) -> Result<(), CanaryError> {
        let is_slow = self.line_micros > before.line_micros * SLOWEST;
        if is_slow && self.line_micros > FAST_ENOUGH.as_secs_f64() * 1e6 {
            return Err(CanaryError::Slow {
                now: self.line_micros / 1e3,
                before: before.line_micros / 1e3,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use scanlib::message::ViewSet;

    use super::*;

    fn measure(signatures: u64, line_micros: f64, found: &[usize]) -> Measure {
        Measure {
            signatures,
            profile: full(),
            left_out: 0,
            line_micros,
            found: found.iter().copied().collect(),
            first_found: (!found.is_empty()).then(|| "Some.Name".to_owned()),
            finds_eicar: false,
        }
    }

    #[test]
    fn who_found_eicar_has_to_find_it_again_and_nobody_else() {
        let (finds, does_not) = (
            Measure {
                finds_eicar: true,
                ..measure(10, 1.0, &[])
            },
            measure(10, 1.0, &[]),
        );
        assert_eq!(does_not.beside(&finds), Err(CanaryError::EicarLost));
        assert!(does_not.beside(&does_not).is_ok());
        assert!(finds.beside(&does_not).is_ok());
    }

    #[test]
    fn half_of_many_signatures_may_go_and_no_more() {
        let before = measure(1000, 1.0, &[]);
        assert!(measure(500, 1.0, &[]).beside(&before).is_ok());
        let refused = measure(499, 1.0, &[]).beside(&before).unwrap_err();
        assert_eq!(refused.to_string(), "499 signatures are left of 1000");
        assert!(
            measure(1, 1.0, &[])
                .beside(&measure(FEW - 1, 1.0, &[]))
                .is_ok()
        );
    }

    #[test]
    fn a_line_that_was_found_before_may_be_found_again() {
        let before = measure(10, 1.0, &[3, 5]);
        assert!(measure(10, 1.0, &[5]).beside(&before).is_ok());
        let refused = measure(10, 1.0, &[5, 6]).beside(&before).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("Some.Name is found in a harmless line")
        );
    }

    #[test]
    fn slow_is_three_times_as_slow_and_more_than_ten_milliseconds() {
        let slow = |now: f64, before: f64| {
            let (now, before) = (measure(1, now, &[]), measure(1, before, &[]));
            now.as_fast_as(&before).is_err()
        };
        assert!(!slow(9_999.0, 10.0), "a first full set");
        assert!(!slow(29_000.0, 10_000.0));
        assert!(slow(31_000.0, 10_000.0));
        assert!(slow(10_001.0, 10.0));
    }

    /// The lines are told one by one where they are refused, so that each must be one.
    #[test]
    fn harmless_lines_are_lines_and_differ() {
        let lines: BTreeSet<_> = HARMLESS.iter().collect();
        assert_eq!(lines.len(), HARMLESS.len());
        assert!(
            HARMLESS
                .iter()
                .all(|line| !line.contains('\n') && line.len() < 400)
        );
    }

    #[test]
    fn views_that_are_not_scanned_are_not_asked_for_eicar() {
        let build = |views: ViewSet| {
            let engine = scanlib::EngineBuilder::new(scanlib::Library::init().unwrap()).unwrap();
            let engine = engine.builtin_signatures().unwrap().compile().unwrap();
            Detector::builder()
                .engine(engine)
                .views(views)
                .build()
                .unwrap()
        };
        eicar(&build(ViewSet::RAW)).unwrap();
        eicar(&build(ViewSet::ALL)).unwrap();
    }
}
