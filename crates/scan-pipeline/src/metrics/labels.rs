//! The labels. A word of this program is `&'static str`, which keeps the number of series bounded.

use prometheus_client::encoding::EncodeLabelSet;

macro_rules! labels {
    ($( $(#[$doc:meta])+ $name:ident { $($field:ident: $type:ty),+ } )+) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $( #[doc = concat!("Label `", stringify!($field), "`.")] pub $field: $type ),+ }
    )+};
}

labels! {
    /// Partition of the input topic.
    PartitionLabel { partition: i32 }
    /// Why something was skipped or given up.
    ReasonLabel { reason: &'static str }
    /// What confines a process.
    MechanismLabel { mechanism: &'static str }
    /// Which kind of event.
    KindLabel { kind: &'static str }
    /// Which stage of the data flow.
    StageLabel { stage: &'static str }
    /// Outcome and way of a commit.
    CommitLabels { result: &'static str, mode: &'static str }
    /// What settled a verdict.
    EngineLabel { engine: &'static str }
    /// A verdict.
    VerdictLabel { verdict: &'static str }
    /// Who found something, and how much it matters.
    DetectionLabels { engine: &'static str, severity: &'static str }
    /// Whose fault a failed scan was, and in which family of files.
    FailureLabels { class: &'static str, file_type: &'static str }
    /// A queue of this process.
    QueueLabel { queue: &'static str }
    /// The verdict that a result carries.
    ResultLabel { result: &'static str }
    /// What the prefilter decided.
    DecisionLabel { decision: &'static str }
    /// What a reload came to.
    ReloadLabel { result: &'static str }
    /// An error of the broker or client, by its name in the client library.
    ProduceErrorLabels { code: String, retriable: bool }
    /// An error that a transaction met, by its name in the client library, and what was done.
    RemedyLabels { code: String, remedy: &'static str }
    /// What a transaction came to.
    OutcomeLabel { outcome: &'static str }
    /// An error of the client, by its name in the client library.
    CodeLabel { code: String }
    /// Version of the loaded signatures.
    VersionLabel { version: String }
    /// Which of the files' signatures are loaded.
    ProfileLabel { profile: &'static str }
    /// Versions of the program and its libraries.
    BuildLabels { version: String, librdkafka: String, libclamav: String }
}
