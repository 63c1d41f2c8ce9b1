//! Scans from an async program. libclamav blocks, so scans run on a pool's threads, and tasks wait for the answers.

use std::error::Error;

use scanlib::{
    Detector, DetectorSlot, EngineBuilder, Library, Payload, Pool, Report, Request, ScanError,
    Work, Worker, eicar,
};
use tokio::runtime;
use tokio::sync::{Semaphore, oneshot};

struct Job {
    object: Vec<u8>,
    reply: oneshot::Sender<Result<Report, ScanError>>,
}

impl Work for Job {
    type Output = (); // each job answers the task that asked
    type Receipt = ();

    fn cost_bytes(&self) -> u64 {
        self.object.len() as u64
    }

    fn receipt(&self) {}

    fn run(self, worker: &mut Worker) {
        let payload = Payload::Bytes(&self.object);
        let answer = worker.scan(|scanner| scanner.scan(payload, &Request::new()));
        let _nobody_waits = self.reply.send(answer);
    }

    fn panicked((): (), _message: String) {} // the task sees that its reply is gone
}

/// `room` has a permit for each place in the queue, so that `submit` never blocks a task.
async fn scan(
    pool: &Pool<Job>,
    room: &Semaphore,
    object: String,
) -> Result<Report, Box<dyn Error>> {
    let _permit = room.acquire().await?;
    let (reply, answer) = oneshot::channel();
    let object = object.into_bytes();
    pool.submit(Job { object, reply })?;
    Ok(answer.await??)
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = EngineBuilder::new(Library::init()?)?
        .builtin_signatures()?
        .compile()?;
    let slot = DetectorSlot::new(Detector::builder().engine(engine).build()?);
    let pool = Pool::builder(slot)
        .queue_jobs(16)
        .queue_bytes(u64::MAX)
        .start_detached()?;
    let room = Semaphore::new(16);
    runtime::Builder::new_current_thread()
        .build()?
        .block_on(async {
            for object in ["a harmless text".to_owned(), eicar::text()] {
                println!("{:?}", scan(&pool, &room, object).await?.verdict);
            }
            Ok(())
        })
}
