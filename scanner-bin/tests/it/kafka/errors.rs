//! The table of errors: what each row says, and, where the embedded broker can be told to answer with an error, what the service
//! then does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::mock;

use std::collections::BTreeSet;
use std::time::Duration;

use mock::*;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};
use scan_pipeline::errors::{Call, Fault, Remedy, TABLE, remedy};
use scanner_bin::config::{Config, Delivery};
use scanner_bin::ops::metrics::{CommitLabels, OutcomeLabel, RemedyLabels};
use scanner_bin::service::{ExitReport, ServiceError};

/// Every pair that a row names, and what it has to be answered with: written down a second time.
const EXPECTED: &[(&[Call], &[Code], Remedy)] = &[
    (
        &[Call::Produce],
        &[Code::MessageSizeTooLarge],
        Remedy::Shorten,
    ),
    (
        &[Call::Produce],
        &[
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ],
        Remedy::Exit,
    ),
    (
        &[Call::Produce],
        &[
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::Fatal,
        ],
        Remedy::Recreate,
    ),
    (
        &[Call::CommitOffsets, Call::SendOffsets, Call::Resolve],
        &[Code::FencedInstanceId],
        Remedy::Exit,
    ),
    (&[Call::CommitOffsets], MOVED_ON, Remedy::Rejoin),
    (&[Call::SendOffsets], MOVED_ON, Remedy::Abort),
    (CALLS, FENCED, Remedy::Recreate),
    (CALLS, FORBIDDEN, Remedy::Exit),
    (
        &[Call::SendOffsets],
        &[
            Code::GroupAuthorizationFailed,
            Code::TopicAuthorizationFailed,
        ],
        Remedy::Exit,
    ),
    (
        &[Call::Abort, Call::Begin],
        &[Code::State],
        Remedy::Recreate,
    ),
    (CALLS, &[Code::InvalidTransactionalState], Remedy::Recreate),
    (CALLS, PASSING, Remedy::Retry),
];

const CALLS: &[Call] = &[
    Call::Init,
    Call::Begin,
    Call::Flush,
    Call::SendOffsets,
    Call::Commit,
    Call::Abort,
];
const MOVED_ON: &[Code] = &[
    Code::IllegalGeneration,
    Code::UnknownMemberId,
    Code::StaleMemberEpoch,
    Code::RebalanceInProgress,
];
const FENCED: &[Code] = &[
    Code::Fenced,
    Code::ProducerFenced,
    Code::InvalidProducerEpoch,
    Code::InvalidProducerIdMapping,
    Code::UnknownProducerId,
    Code::TransactionCoordinatorFenced,
];
const FORBIDDEN: &[Code] = &[
    Code::TransactionalIdAuthorizationFailed,
    Code::ClusterAuthorizationFailed,
    Code::InvalidTransactionTimeout,
    Code::UnsupportedVersion,
    Code::UnsupportedForMessageFormat,
    Code::UnsupportedFeature,
    Code::InvalidArgument,
    Code::NotConfigured,
];
const PASSING: &[Code] = &[
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
];

#[test]
fn every_row_answers_its_errors_as_written_down_here_and_no_row_is_out_of_reach() {
    let pairs = |calls: &[Call], codes: &[Code]| -> Vec<String> {
        let each = calls
            .iter()
            .flat_map(|call| codes.iter().map(move |code| format!("{call:?} {code:?}")));
        each.collect()
    };
    let mut expected = BTreeSet::new();
    for (calls, codes, wanted) in EXPECTED {
        for call in *calls {
            for code in *codes {
                assert_eq!(
                    remedy(*call, &Fault::of(*code)),
                    *wanted,
                    "{call:?} {code:?}"
                );
            }
        }
        expected.extend(pairs(calls, codes));
    }
    let mut reached = BTreeSet::new();
    for row in TABLE {
        let new = pairs(row.calls, row.codes);
        assert!(
            new.iter().any(|pair| !reached.contains(pair)),
            "never reached: {row:?}"
        );
        assert!(!row.why.is_empty());
        reached.extend(new);
    }
    let unknown: Vec<_> = reached.difference(&expected).collect();
    assert!(
        unknown.is_empty(),
        "in the table, and not written down here: {unknown:?}"
    );
}

#[test]
fn the_page_about_errors_is_made_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let made = scan_pipeline::errors::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        kept, made,
        "run the test once with UPDATE_DOCS=1 to write docs/errors.md anew"
    );
}

#[test]
fn an_error_that_no_row_names_is_answered_by_what_the_client_says_of_it() {
    let fault = |is_retriable, needs_abort, is_fatal| Fault {
        code: Code::Unknown,
        is_retriable,
        needs_abort,
        is_fatal,
    };
    for call in CALLS {
        assert_eq!(remedy(*call, &fault(false, false, true)), Remedy::Recreate);
        assert_eq!(remedy(*call, &fault(false, true, false)), Remedy::Abort);
        assert_eq!(remedy(*call, &fault(true, false, false)), Remedy::Retry);
        // It says nothing: what cannot lose and cannot double.
        let silent = remedy(*call, &fault(false, false, false));
        match call {
            Call::Flush | Call::SendOffsets => assert_eq!(silent, Remedy::Abort),
            _ => assert_eq!(silent, Remedy::Recreate, "{call:?}"),
        }
    }
    for call in [Call::Produce, Call::CommitOffsets, Call::Resolve] {
        assert_eq!(
            remedy(call, &fault(false, false, false)),
            Remedy::Retry,
            "{call:?}"
        );
    }
}

#[test]
fn what_passes_elsewhere_is_not_waited_for_when_the_client_is_done_for() {
    let mut fault = Fault::of(Code::OperationTimedOut);
    fault.needs_abort = true;
    assert_eq!(remedy(Call::SendOffsets, &fault), Remedy::Abort);
    fault.is_fatal = true;
    assert_eq!(remedy(Call::Commit, &fault), Remedy::Recreate);
}

const RECORDS: usize = 300;

fn exactly_once(cluster: &Cluster) -> Config {
    let mut config = config(cluster);
    config.kafka.delivery = Delivery::ExactlyOnce;
    config.kafka.transaction_interval = Duration::from_millis(50);
    config
}

fn fill(cluster: &Cluster) {
    let lines: Vec<String> = (0..RECORDS).map(|i| format!("line {i}")).collect();
    produce(cluster, lines.iter().map(|line| text(0, line)));
}

fn outcome(service: &Service, outcome: &'static str) -> u64 {
    let label = OutcomeLabel { outcome };
    service.watch.metrics.txn.get_or_create(&label).get()
}

fn met(service: &Service, code: &str, remedy: Remedy) -> u64 {
    let label = RemedyLabels {
        code: code.to_owned(),
        remedy: remedy.as_str(),
    };
    service
        .watch
        .metrics
        .transaction_errors
        .get_or_create(&label)
        .get()
}

/// Runs exactly-once delivery on a broker that answers one request with an error. The embedded broker makes no difference
/// between committed and aborted records, so what is looked at is what the service says that it committed.
fn with_error(api: Api, answers: &[Answer], check: impl FnOnce(&Service)) {
    let cluster = cluster(1);
    fill(&cluster);
    cluster.request_errors(api, answers);
    let service = Service::start(exactly_once(&cluster));
    wait_for("every record committed once", || {
        service.acknowledged() >= RECORDS as u64
    });
    check(&service);
    let once = service.acknowledged();
    assert_eq!(
        service.stop(),
        ExitReport {
            abandoned: 0,
            committed: true
        }
    );
    assert_eq!(once, RECORDS as u64);
    let offsets: BTreeSet<i64> = results(&cluster, RECORDS)
        .iter()
        .map(|r| r.source().1)
        .collect();
    assert_eq!(offsets.len(), RECORDS);
}

/// The same, for an error after which nothing can go on.
fn ends_with(api: Api, answer: Answer) -> String {
    let cluster = cluster(1);
    fill(&cluster);
    cluster.request_errors(api, &[answer; 50]);
    let mut service = Service::start(exactly_once(&cluster));
    wait_for("the end of the service", || {
        service
            .thread
            .as_ref()
            .is_some_and(|thread| thread.is_finished())
    });
    let error = service.thread.take().unwrap().join().unwrap().unwrap_err();
    assert!(matches!(error, ServiceError::Egress(_)), "{error:?}");
    error.to_string()
}

#[test]
fn without_an_error_every_transaction_is_committed() {
    with_error(Api::EndTxn, &[], |service| {
        assert!(outcome(service, "committed") > 0);
        assert_eq!(
            outcome(service, "failed") + outcome(service, "recreated"),
            0
        );
    });
}

#[test]
fn what_passes_is_tried_again() {
    for api in [
        Api::InitProducerId,
        Api::AddOffsetsToTxn,
        Api::TxnOffsetCommit,
        Api::EndTxn,
    ] {
        let answers = [
            Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Answer::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        ];
        with_error(api, &answers, |service| {
            let undone = outcome(service, "failed") + outcome(service, "recreated");
            assert_eq!(undone, 0, "{api:?}");
        });
    }
}

#[test]
fn a_group_that_has_moved_on_aborts_the_transaction_and_what_it_held_is_sent_again() {
    for (answer, code) in [
        (
            Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            "IllegalGeneration",
        ),
        (
            Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            "UnknownMemberId",
        ),
        (
            Answer::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
            "StaleMemberEpoch",
        ),
        (
            Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            "RebalanceInProgress",
        ),
    ] {
        with_error(Api::TxnOffsetCommit, &[answer], |service| {
            assert_eq!(met(service, code, Remedy::Abort), 1, "{code}");
            assert_eq!(
                (outcome(service, "failed"), outcome(service, "recreated")),
                (1, 0)
            );
        });
    }
}

#[test]
fn a_producer_that_the_broker_gave_up_on_is_replaced_in_every_call() {
    for (api, answer) in [
        (
            Api::EndTxn,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ),
        (Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID),
        (
            Api::EndTxn,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
        ),
        (Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
        (
            Api::TxnOffsetCommit,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ),
        (
            Api::TxnOffsetCommit,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
        ),
        (
            Api::AddOffsetsToTxn,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ),
        (
            Api::AddPartitionsToTxn,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ),
        (
            Api::Produce,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ),
    ] {
        with_error(api, &[answer], |service| {
            assert!(outcome(service, "recreated") > 0, "{api:?} {answer:?}");
            assert!(outcome(service, "committed") > 0);
            assert!(service.watch.metrics.producer_recreated.get() > 0);
        });
    }
}

/// librdkafka 2.12.1 waits for ever for a coordinator that left the cluster while it was asked to take offsets.
#[test]
fn a_call_that_never_comes_back_costs_the_producer_and_no_record() {
    let cluster = MockCluster::new(3).unwrap();
    for topic in [INPUT, OUTPUT, DEAD] {
        cluster.create_topic(topic, 1, 1).unwrap();
        cluster.partition_leader(topic, 0, Some(1)).unwrap();
    }
    let config = exactly_once(&cluster);
    let group = || MockCoordinator::Group(config.kafka.group.clone());
    let id = config.kafka.transactional_id(&config.ops.instance);
    cluster
        .coordinator(MockCoordinator::Transaction(id), 1)
        .unwrap();
    cluster.coordinator(group(), 2).unwrap();
    fill(&cluster);
    let service = Service::start(config.clone());
    let all_of = |rounds: usize| {
        wait_for("every record committed", || {
            service.acknowledged() >= (rounds * RECORDS) as u64
        });
    };
    all_of(1);
    cluster.coordinator(group(), 3).unwrap();
    cluster.broker_down(2).unwrap();
    fill(&cluster);
    all_of(2);
    assert_eq!(outcome(&service, "recreated"), 1, "it did not hang");
    assert_eq!(service.acknowledged(), 2 * RECORDS as u64);
    service.stop();
}

#[test]
fn a_result_that_is_not_delivered_aborts_its_transaction() {
    for (api, answer) in [
        (
            Api::Produce,
            Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        ),
        (Api::Produce, Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD),
        (
            Api::AddPartitionsToTxn,
            Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        ),
    ] {
        with_error(api, &[answer], |service| {
            assert!(outcome(service, "failed") > 0, "{api:?} {answer:?}");
        });
    }
}

#[test]
fn what_needs_a_person_ends_the_service_and_says_what_to_do() {
    for (api, answer) in [
        (
            Api::InitProducerId,
            Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        (
            Api::InitProducerId,
            Answer::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        ),
        (
            Api::TxnOffsetCommit,
            Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        ),
        (
            Api::TxnOffsetCommit,
            Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
        ),
        (
            Api::EndTxn,
            Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
    ] {
        let said = ends_with(api, answer);
        for part in [
            "exactly-once delivery as \"scanners-scanner-0\"",
            "set kafka.delivery to at-least-once",
        ] {
            assert!(said.contains(part), "{api:?} {answer:?}: {said}");
        }
    }
}

/// Commits by the consumer, which is what at-least-once delivery does.
#[test]
fn a_commit_that_is_refused_is_made_again_by_the_next_one() {
    for answer in [
        Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        Answer::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
    ] {
        let cluster = cluster(1);
        fill(&cluster);
        cluster.request_errors(Api::OffsetCommit, &[answer]);
        let service = Service::start(config(&cluster));
        wait_for("a commit of everything", || {
            committed(&cluster, 1) == [Some(RECORDS as i64)]
        });
        let refused = CommitLabels {
            result: "retry",
            mode: "async",
        };
        let refused = service.watch.metrics.commits.get_or_create(&refused).get();
        assert_eq!(refused, 1, "{answer:?}");
        // A client that has to join anew reads again what was not committed.
        assert!(service.acknowledged() >= RECORDS as u64);
        service.stop();
    }
}

/// Nothing is committed before the stop, and then the group rebalances.
#[test]
fn the_last_commit_is_made_again_when_the_group_refuses_it() {
    let cluster = cluster(1);
    fill(&cluster);
    let mut config = config(&cluster);
    config.kafka.commit_interval = Duration::from_secs(600);
    let refusals = [Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 3];
    cluster.request_errors(Api::OffsetCommit, &refusals);
    let service = Service::start(config);
    wait_for("everything to be acknowledged", || {
        service.acknowledged() >= RECORDS as u64
    });
    assert_eq!(committed(&cluster, 1), [None]);
    service.stop();
    assert_eq!(committed(&cluster, 1), [Some(RECORDS as i64)]);
}

#[test]
fn a_member_whose_static_id_went_to_another_ends() {
    let cluster = cluster(1);
    fill(&cluster);
    cluster.request_errors(
        Api::OffsetCommit,
        &[Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID],
    );
    let mut service = Service::start(config(&cluster));
    wait_for("the end of the service", || {
        service
            .thread
            .as_ref()
            .is_some_and(|thread| thread.is_finished())
    });
    let error = service.thread.take().unwrap().join().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("refused this member for good"),
        "{error}"
    );
}
