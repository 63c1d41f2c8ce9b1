//! Gets fetching going again after a rebalance.
//!
//! librdkafka stops fetching for every partition while a rebalance waits for its answer, also for
//! those that stay. The answer lets them go on, but the thread that talks to their broker sleeps for
//! up to a second before it notices (seen with 2.12.1). Any request to that broker wakes it: asking
//! for the ends of a partition goes to the partition's leader and changes nothing.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::rebalance::GroupContext;

/// How long one question may take; its answer does not matter.
const ASK: Duration = Duration::from_millis(500);

pub(super) struct Nudger {
    partitions: Sender<Vec<i32>>,
    thread: JoinHandle<()>,
}

impl Nudger {
    pub(super) fn start(
        consumer: Arc<BaseConsumer<GroupContext>>,
        topic: String,
    ) -> std::io::Result<Nudger> {
        let (partitions, wanted) = bounded::<Vec<i32>>(1);
        let thread = thread::Builder::new()
            .name("nudge".to_owned())
            .spawn(move || {
                for partitions in wanted {
                    for partition in partitions {
                        if consumer.fetch_watermarks(&topic, partition, ASK).is_err() {
                            break;
                        }
                    }
                }
            })?;
        Ok(Nudger { partitions, thread })
    }

    /// These go on being fetched.
    pub(super) fn nudge(&self, partitions: Vec<i32>) {
        if !partitions.is_empty() {
            // If one nudge is under way and one waits, the brokers are awake.
            let _busy = self.partitions.try_send(partitions);
        }
    }

    /// Ends the thread, and waits for it.
    pub(super) fn stop(self) {
        drop(self.partitions);
        // It does not panic; if it did, the hook has said so.
        let _panic = self.thread.join();
    }
}
