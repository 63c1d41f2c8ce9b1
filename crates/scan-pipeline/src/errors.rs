//! What the client's errors mean for us: one table of which error, in which call, is answered how.
//!
//! The first row that fits decides. No row skips a record: whatever fails is tried again, by this
//! process or by the next one. What librdkafka itself says about an error (it may be tried again, the
//! transaction has to be aborted, the client is broken for good) decides where no row names its code.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A result or dead letter, by its delivery report or when it was handed over.
    Produce,
    /// A commit of offsets by the consumer.
    CommitOffsets,
    /// Making a transactional producer ready; ends what its predecessor left open.
    Init,
    /// Asking what is committed, after an outcome that is not known.
    Resolve,
    /// The begin of a transaction.
    Begin,
    /// Waiting until everything that was sent is acknowledged.
    Flush,
    /// Offsets into the transaction.
    SendOffsets,
    /// The end of a transaction that is to count.
    Commit,
    /// The end of one that is not.
    Abort,
}

/// What is done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call again, after a pause. For a send: the record is sent again.
    Retry,
    /// The record is sent again in a shorter form, marked as truncated.
    Shorten,
    /// The transaction is aborted. What it held is sent again in the next one.
    Abort,
    /// The outcome is unknown or the client is broken: a new producer, which settles what the old one
    /// left, and a look at what is committed.
    Recreate,
    /// Nothing: this member is being given another place in its group. What its leases still hold is the
    /// next owner's.
    Rejoin,
    /// The process ends, and says why: what is wrong needs a person.
    Exit,
}

impl Remedy {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Remedy::Retry => "retry",
            Remedy::Shorten => "shorten",
            Remedy::Abort => "abort",
            Remedy::Recreate => "recreate",
            Remedy::Rejoin => "rejoin",
            Remedy::Exit => "exit",
        }
    }
}

/// An error, reduced to what decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its code.
    pub code: Code,
    /// The client says that the same call may be made again.
    pub is_retriable: bool,
    /// The client says that the transaction has to be aborted.
    pub needs_abort: bool,
    /// The client says that it is broken for good.
    pub is_fatal: bool,
}

impl Fault {
    /// An error of which only the code is known.
    pub fn of(code: Code) -> Fault {
        Fault {
            code,
            is_retriable: false,
            needs_abort: false,
            is_fatal: false,
        }
    }
}

impl From<&KafkaError> for Fault {
    fn from(error: &KafkaError) -> Fault {
        match error {
            KafkaError::Transaction(error) => Fault {
                code: error.code(),
                is_retriable: error.is_retriable(),
                needs_abort: error.txn_requires_abort(),
                is_fatal: error.is_fatal(),
            },
            // Some calls give the code without the flags.
            other => Fault::of(other.rdkafka_error_code().unwrap_or(Code::Unknown)),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// In which calls.
    pub calls: &'static [Call],
    /// Which errors.
    pub codes: &'static [Code],
    /// What is done.
    pub remedy: Remedy,
    /// Why.
    pub why: &'static str,
}

/// The calls of a transactional producer.
const TRANSACTION: &[Call] = &[
    Call::Init,
    Call::Begin,
    Call::Flush,
    Call::SendOffsets,
    Call::Commit,
    Call::Abort,
];

/// The table. What is not in it: see [`remedy`].
pub const TABLE: &[Row] = &[
    Row {
        calls: &[Call::Produce],
        codes: &[Code::MessageSizeTooLarge],
        remedy: Remedy::Shorten,
        why: "the broker will never take this record as it is",
    },
    Row {
        calls: &[Call::Produce],
        codes: &[
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ],
        remedy: Remedy::Exit,
        why: "this user may not write with idempotence, and without it a retry could double a result",
    },
    Row {
        calls: &[Call::Produce],
        codes: &[
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::Fatal,
        ],
        remedy: Remedy::Recreate,
        why: "this producer was replaced or is broken, and never sends again",
    },
    Row {
        calls: &[Call::CommitOffsets, Call::SendOffsets, Call::Resolve],
        codes: &[Code::FencedInstanceId],
        remedy: Remedy::Exit,
        why: "another member has the same group.instance.id, and came later",
    },
    Row {
        calls: &[Call::CommitOffsets],
        codes: &[
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::StaleMemberEpoch,
            Code::RebalanceInProgress,
        ],
        remedy: Remedy::Rejoin,
        why: "the group has moved on; the next commit, ours or the next owner's, repeats it",
    },
    Row {
        calls: &[Call::SendOffsets],
        codes: &[
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::StaleMemberEpoch,
            Code::RebalanceInProgress,
        ],
        remedy: Remedy::Abort,
        why: "the group has moved on: perhaps some partitions are another member's by now",
    },
    Row {
        calls: TRANSACTION,
        codes: &[
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::InvalidProducerIdMapping,
            Code::UnknownProducerId,
            Code::TransactionCoordinatorFenced,
        ],
        remedy: Remedy::Recreate,
        why: "the broker gave up on this producer (its transaction took too long, or its id expired), or another \
              process has the same transactional id",
    },
    Row {
        calls: TRANSACTION,
        codes: &[
            Code::TransactionalIdAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::InvalidTransactionTimeout,
            Code::UnsupportedVersion,
            Code::UnsupportedForMessageFormat,
            Code::UnsupportedFeature,
            Code::InvalidArgument,
            Code::NotConfigured,
        ],
        remedy: Remedy::Exit,
        why: "the broker does not allow transactions like these, now or later",
    },
    Row {
        calls: &[Call::SendOffsets],
        codes: &[
            Code::GroupAuthorizationFailed,
            Code::TopicAuthorizationFailed,
        ],
        remedy: Remedy::Exit,
        why: "this user may not commit offsets for the group",
    },
    Row {
        calls: &[Call::Abort, Call::Begin],
        codes: &[Code::InvalidTransactionalState, Code::State],
        remedy: Remedy::Recreate,
        why: "we and the client do not agree on where the transaction stands",
    },
    Row {
        calls: TRANSACTION,
        codes: &[Code::InvalidTransactionalState],
        remedy: Remedy::Recreate,
        why: "we and the broker do not agree on where the transaction stands",
    },
    Row {
        calls: TRANSACTION,
        codes: &[
            Code::CoordinatorNotAvailable,
            Code::NotCoordinator,
            Code::CoordinatorLoadInProgress,
            Code::ConcurrentTransactions,
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::RequestTimedOut,
            Code::OperationTimedOut,
            Code::Conflict,
            Code::PreviousInProgress,
        ],
        remedy: Remedy::Retry,
        why: "it passes, or the call is still under way; whoever calls sees to it that it does not last for ever",
    },
];

/// The table as the page `docs/errors.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Errors of the Kafka client\n\nWhat each leads to, by the call that met it; the first row that fits decides. No \
         row skips a record. An error that no\nrow names is answered by what the client says of it: it may be tried again, the \
         transaction has to be aborted, or the client\nis broken and is replaced. This page is made from the table in the code, \
         and a test keeps it so.\n\n| call | errors | remedy | why |\n|---|---|---|---|\n",
    );
    let words = |words: Vec<String>| words.join(", ");
    for row in TABLE {
        let calls = words(row.calls.iter().map(|call| format!("{call:?}")).collect());
        let codes = words(row.codes.iter().map(|code| format!("`{code:?}`")).collect());
        page += &format!(
            "| {calls} | {codes} | **{}** | {} |\n",
            row.remedy.as_str(),
            row.why
        );
    }
    page += CONSUMING;
    page += "\n| remedy | what is done |\n|---|---|\n";
    for (remedy, what) in REMEDIES {
        page += &format!("| **{}** | {what} |\n", remedy.as_str());
    }
    page
}

/// Errors of a partition that is fetched. They are no answer to a call, so no row of the table can name one.
const CONSUMING: &str = "\n## While a partition is fetched\n\n| errors | what is done |\n|---|---|\n\
     | `BadCompression`, `BadMessage`, `InvalidMessage`, `InvalidMessageSize`, `MessageSizeTooLarge`, `NotImplemented` | the batch cannot be read: its partition is paused and the batch is looked at again and again; after three times readiness \
     fails, or the batch is skipped (`kafka.unreadable_batch`) |\n\
     | any other error of a partition, three times and for 10 s | readiness fails until a record or the end of the partition arrives |\n\n\
     ## Remedies\n";

const REMEDIES: &[(Remedy, &str)] = &[
    (
        Remedy::Retry,
        "the same call again after a pause; a record that was not delivered is sent again",
    ),
    (
        Remedy::Shorten,
        "the result is sent without its texts and marked `truncated`, a dead letter as headers and digest",
    ),
    (
        Remedy::Abort,
        "the transaction is aborted, and what it held is sent again from memory in the next one",
    ),
    (
        Remedy::Recreate,
        "a new producer settles what the old one left open; what is committed is looked up, and the rest sent again",
    ),
    (
        Remedy::Rejoin,
        "nothing is lost: the client joins the group anew, and the commit is repeated by whoever owns the partition",
    ),
    (
        Remedy::Exit,
        "the process ends with status 2 and says what to do",
    ),
];

/// What to do about an error: the first row that fits, else what the client says about the error, else
/// what can do no harm in that call.
pub fn remedy(call: Call, fault: &Fault) -> Remedy {
    let row = TABLE
        .iter()
        .find(|row| row.calls.contains(&call) && row.codes.contains(&fault.code));
    match (row, call) {
        // Retrying what the client calls hopeless would only lose time.
        (Some(row), _) if row.remedy == Remedy::Retry && fault.is_fatal => Remedy::Recreate,
        (Some(row), _) if row.remedy == Remedy::Retry && fault.needs_abort => Remedy::Abort,
        (Some(row), _) => row.remedy,
        // The record is still ours, and is sent again until it is taken.
        (None, Call::Produce) => Remedy::Retry,
        // Reading changes nothing, and a commit is repeated by the next one.
        (None, Call::Resolve | Call::CommitOffsets) => Remedy::Retry,
        (None, _) if fault.is_fatal => Remedy::Recreate,
        (None, _) if fault.needs_abort => Remedy::Abort,
        (None, _) if fault.is_retriable => Remedy::Retry,
        (None, Call::Flush | Call::SendOffsets) => Remedy::Abort,
        // Whether it happened is not known.
        (None, Call::Commit | Call::Abort | Call::Begin | Call::Init) => Remedy::Recreate,
    }
}
