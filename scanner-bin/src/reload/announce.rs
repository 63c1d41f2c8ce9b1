//! What is said about signatures that are in use from now on: in the log and in metrics.

use scanlib::database::ExcludedReason;
use scanlib::prefilter::{DisabledReason, Prefilter};
use scanlib::{Detector, EngineInfo, Profile};

use crate::service::Watch;

/// So many names are told of each list.
const TOLD: usize = 20;

const OFF: &str = "The prefilter is off: libclamav is asked about every message";

/// Says which signatures are in use from now on.
pub(super) fn announce(watch: &Watch, detector: &Detector, message: &str) {
    let Some(info) = detector.engine().map(scanlib::Engine::info) else {
        return;
    };
    for line in &info.load_log {
        tracing::warn!(libclamav = line, "A signature file is not perfect");
    }
    if info.builtin_only {
        tracing::warn!(
            db_mode = "builtin",
            "No signature database is configured: libclamav knows the built-in EICAR signature \
             only; set scan.database"
        );
    }
    tracing::info!(
        signatures = info.signatures,
        digest = %info.digest,
        libclamav = info.library.text,
        tmp_dir = %info.tmp_dir.display(),
        "{message}"
    );
    if let Some(status) = detector.engine().and_then(|engine| engine.isolation()) {
        let confinement = status.confinement.to_string();
        match status.confinement.is_complete() {
            true => tracing::info!(confinement, "libclamav runs in confined processes"),
            false => tracing::warn!(
                confinement,
                "libclamav runs in processes that this kernel confines only in part"
            ),
        }
        watch.metrics.set_confinement(&status.confinement);
    }
    announce_profile(info);
    announce_left_out(info);
    announce_prefilter(watch, detector.prefilter());
    let version = if info.builtin_only {
        "builtin".to_owned()
    } else {
        info.digest.to_string()
    };
    let metrics = &watch.metrics;
    metrics.set_signatures(&version, info.signatures);
    metrics.set_left_out(info);
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    metrics.set_build(&librdkafka, &info.library.text);
}

/// Says whether most messages are spared libclamav, and if not, why.
fn announce_prefilter(watch: &Watch, prefilter: &Prefilter) {
    let summary = prefilter.summary();
    match prefilter.off() {
        Some(why @ DisabledReason::NotAskedFor) => tracing::info!(%why, "{OFF}"),
        Some(why) => tracing::warn!(%why, "{OFF}"),
        None => tracing::info!(
            texts = summary.texts,
            memory_bytes = summary.memory_bytes,
            build_ms = summary.build_time.as_millis(),
            "The prefilter is on"
        ),
    }
    watch.metrics.prefilter_enabled.watch(prefilter);
}

/// Says what the profile leaves out.
fn announce_profile(info: &EngineInfo) {
    if info.profile == Profile::Full {
        return;
    }
    let because = |reason| info.excluded_by_profile.because(reason);
    tracing::info!(
        profile = info.profile.name(),
        left_out = info.excluded_by_profile.total(),
        file_type = because(ExcludedReason::FileType),
        executable = because(ExcludedReason::Executable),
        long_file = because(ExcludedReason::LongFile),
        long_text = because(ExcludedReason::LongText),
        "Only signatures that can match a log message are loaded, as scan.profile says: what only others find is not found"
    );
}

/// Says what the engine was to go without.
fn announce_left_out(info: &EngineInfo) {
    if !info.excluded.is_empty() {
        tracing::info!(
            count = info.excluded.len(),
            names = told(&info.excluded),
            "Signatures are left out, as scan.leave_out says: what only they find is not found"
        );
    }
    for name in info.unmatched_exclusions.iter().take(TOLD) {
        tracing::warn!(%name, "scan.leave_out names what is not there");
    }
}

/// The first names of a list.
fn told(names: &[String]) -> String {
    let shown = names.len().min(TOLD);
    let first = names.get(..shown).unwrap_or_default().join(", ");
    match names.len() - shown {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
