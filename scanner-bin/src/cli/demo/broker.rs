//! The broker of the demo: librdkafka's own mock cluster in this process, which speaks Kafka's
//! protocol over TCP, or a real one that already runs.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// How long a broker may take to create topics.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the demo's topics are.
pub(super) struct Broker {
    /// Lives as long as its broker is needed.
    embedded: Option<MockCluster<'static, DefaultProducerContext>>,
    /// Where clients connect to.
    pub bootstrap: String,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("embedded", &self.embedded.is_some())
            .field("bootstrap", &self.bootstrap)
            .finish()
    }
}

impl Broker {
    /// The brokers that are named, or an embedded one.
    ///
    /// # Errors
    /// The embedded one does not start.
    pub(super) fn start(brokers: Option<&str>) -> Result<Broker, KafkaError> {
        if let Some(brokers) = brokers {
            return Ok(Broker {
                embedded: None,
                bootstrap: brokers.to_owned(),
            });
        }
        let cluster = MockCluster::new(1)?;
        let bootstrap = cluster.bootstrap_servers();
        Ok(Broker {
            embedded: Some(cluster),
            bootstrap,
        })
    }

    /// It is of this process, and nobody else uses it.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Creates topics, each with as many partitions as it says.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub(super) fn create_topics(
        &self,
        topics: &[(&str, i32)],
    ) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(cluster) = &self.embedded {
            for (name, partitions) in topics {
                cluster.create_topic(name, *partitions, 1)?;
            }
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()?;
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        // librdkafka answers on a thread of its own; somebody has to wait for it here.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for created in runtime
            .block_on(admin.create_topics(&new, &options))
            .map_err(|error| format!("no topic can be created at {}: {error}", self.bootstrap))?
        {
            created.map_err(|(topic, code)| format!("topic {topic} cannot be created: {code}"))?;
        }
        Ok(())
    }
}
