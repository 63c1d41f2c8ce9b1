//! `db activate` and `db rollback`: other signatures for a replica, at once if its service runs, else at its next start.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::place::{self, Failure, PlaceArgs};
use crate::cli::{fail, print};
use crate::escape::Escaped;
use crate::generation::Id;
use crate::generation::held::Held;
use crate::generation::history::{Event, What};
use crate::generation::manifest::Manifest;
use crate::generation::state::{State, Wanted, now};

/// Exit status if the service did not take them.
const EXIT_NOT_TAKEN: u8 = 1;
/// Fewer characters of a generation's name are not enough to name it.
const SHORTEST: usize = 4;

/// Which signatures.
#[derive(Args, Debug)]
#[command(after_help = "\
A generation is named as 'db status' shows it, or by its beginning. The others that are kept are not loaded again by themselves;
signatures that are new to the replica still take over. 'source' stands for what the files hold now: it is loaded even if it was turned
down before, and however it compares with what is in use. It has to find EICAR all the same.
Exit status: 0 if it is in use, or will be at the next start; 1 if the service did not take it or has not answered; 2 if that cannot
be asked for.

Examples:
  scanner-bin db activate 3f2a9c --config /etc/scanner.toml
  scanner-bin db activate source --config /etc/scanner.toml")]
pub struct ActivateArgs {
    /// A generation that is kept, or 'source'
    #[arg(value_name = "GENERATION|source")]
    pub generation: String,

    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// How it is asked for.
#[derive(Args, Debug)]
pub struct AskArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Seconds to wait for a running service
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait: u64,
}

/// The generation before.
#[derive(Args, Debug)]
#[command(after_help = "\
What is in use is not loaded again by itself; signatures that are new to the replica still take over. 'db activate' undoes it.
Exit status: as for 'db activate'.

Example: scanner-bin db rollback --config /etc/scanner.toml")]
pub struct RollbackArgs {
    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Runs `activate`.
pub(super) fn activate(args: &ActivateArgs) -> ExitCode {
    told(&args.ask, |state| match args.generation.as_str() {
        "source" => Ok(Wanted::Source),
        name => Ok(Wanted::Generation(named(&state.kept(), name)?)),
    })
}

/// Runs `rollback`.
pub(super) fn rollback(args: &RollbackArgs) -> ExitCode {
    told(&args.ask, |state| {
        let kept = state.kept();
        let current = state.current();
        let before = kept
            .iter()
            .find(|kept| Some(&kept.snapshot.id) != current.as_ref());
        let before = before.ok_or(
            "there is nothing to go back to: one generation is kept, see 'scanner-bin db status'",
        )?;
        Ok(Wanted::Generation(before.snapshot.id.clone()))
    })
}

fn named(kept: &[Manifest], name: &str) -> Result<Id, Failure> {
    let ids: Vec<_> = kept.iter().map(|kept| &kept.snapshot.id).collect();
    let found: Vec<_> = ids
        .iter()
        .filter(|id| id.as_str().starts_with(name))
        .collect();
    match found[..] {
        [id] if name.len() >= SHORTEST => Ok((*id).clone()),
        _ => {
            let kept = ids
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            Err(format!(
                "{name:?} names none of the generations that are kept: {kept}; or write 'source'"
            )
            .into())
        }
    }
}

fn told(args: &AskArgs, which: impl FnOnce(&State) -> Result<Wanted, Failure>) -> ExitCode {
    let asked = || -> Result<(Vec<u8>, bool), Failure> {
        let state = place::state(&args.place.settings()?)?;
        let wanted = which(&state)?;
        ask(&state, &wanted)?;
        let answer = match state.owner() {
            None => Answer::NextStart,
            Some(_) => wait(&state, &wanted, Duration::from_secs(args.wait))?,
        };
        let (text, event) = match &answer {
            Answer::NextStart => (
                "no process uses the directory: the next one starts with it".to_owned(),
                None,
            ),
            Answer::Silence => (
                format!(
                    "the service has not answered in {} s: see 'scanner-bin db history'",
                    args.wait
                ),
                None,
            ),
            Answer::Event(event) => (
                match &event.reason {
                    Some(reason) => format!("{}: {reason}", event.event.as_str()),
                    None => event.event.as_str().to_owned(),
                },
                Some(event),
            ),
        };
        let is_taken = match &answer {
            Answer::NextStart => true,
            Answer::Silence => false,
            Answer::Event(event) => matches!(event.event, What::Activated | What::Unchanged),
        };
        let name = match &wanted {
            Wanted::Source => "source",
            Wanted::Generation(id) => id.short(),
        };
        let object =
            json!({"asked_for": wanted, "taken": is_taken, "answer": text, "event": event});
        let text = || format!("{name}: {}\n", Escaped(text.as_bytes()));
        Ok((args.place.page(text, &object)?, is_taken))
    };
    match asked() {
        Err(error) => fail(&*error),
        Ok((page, is_taken)) => match print(&page) {
            ExitCode::SUCCESS => ExitCode::from(if is_taken { 0 } else { EXIT_NOT_TAKEN }),
            failed => failed,
        },
    }
}

/// What the service made of it.
enum Answer {
    NextStart,
    Silence,
    Event(Box<Event>),
}

fn ask(state: &State, wanted: &Wanted) -> Result<(), Failure> {
    let failed = |error| {
        format!(
            "{}: {error}: this takes the user of the service",
            state.dir().display()
        )
    };
    let mut generation = None;
    if let Wanted::Generation(id) = wanted {
        generation = Some(id.clone());
        let others = state.kept().into_iter().map(|kept| kept.snapshot.id);
        let others: Vec<_> = others.filter(|other| other != id).collect();
        state
            .change_held(|held| {
                held.release(id);
                for other in others {
                    held.hold(Held {
                        id: other,
                        at: now(),
                        reason: format!("an operator chose {id}"),
                        tried_with: None,
                    });
                }
            })
            .map_err(failed)?;
    }
    let event = Event {
        at: now(),
        event: What::Requested,
        generation,
        db_digest: None,
        signatures: None,
        seconds: None,
        reason: Some(match wanted {
            Wanted::Source => "an operator asks for what the files hold".to_owned(),
            Wanted::Generation(_) => "an operator asks for it".to_owned(),
        }),
    };
    state.note(&event).map_err(failed)?;
    Ok(state.want(wanted).map_err(failed)?)
}

/// Waits for what follows the request in the history.
fn wait(state: &State, wanted: &Wanted, patience: Duration) -> Result<Answer, Failure> {
    let until = Instant::now() + patience;
    loop {
        let events = state.history()?;
        let after = events
            .into_iter()
            .rev()
            .take_while(|event| event.event != What::Requested);
        let is_it = |event: &Event| match wanted {
            Wanted::Source => true,
            Wanted::Generation(id) => event.generation.as_ref() == Some(id),
        };
        if let Some(event) = after.filter(is_it).last() {
            return Ok(Answer::Event(Box::new(event)));
        }
        if Instant::now() >= until {
            return Ok(Answer::Silence);
        }
        thread::sleep(Duration::from_millis(100));
    }
}
