//! `db history`: which signatures a replica had, which it refused, and why.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::place::{self, Failure, PlaceArgs};
use crate::cli::table::Table;
use crate::cli::{fail, print};
use crate::generation::Id;

/// What is told.
#[derive(Args, Debug)]
#[command(after_help = "\
The newest is the last.
Events: activated (in use from then on), refused (not tried again until it changes), failed (tried again), requested (by an operator),
unchanged (asked for, and in use already), ended (the process ended while it was loaded).

Examples:
  scanner-bin db history --config /etc/scanner.toml
  scanner-bin db history --state-dir /var/lib/scanner/state --last 5 --format json | jq '.history[].reason'")]
pub struct HistoryArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,

    /// How many events to tell
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

/// Runs the subcommand.
pub(super) fn run(args: &HistoryArgs) -> ExitCode {
    let told = || -> Result<Vec<u8>, Failure> {
        let state = place::state(&args.place.settings()?)?;
        let events = state.history()?;
        let last = events
            .get(events.len().saturating_sub(args.last)..)
            .unwrap_or_default();
        let text = || {
            let mut table =
                Table::new(["AT", "EVENT", "GENERATION", "SIGNATURES", "SECONDS", "WHY"]);
            for event in last {
                table.row([
                    &event.at,
                    &event.event.as_str(),
                    &event.generation.as_ref().map_or("-", Id::short),
                    &event
                        .signatures
                        .map_or("-".to_owned(), |count| count.to_string()),
                    &event
                        .seconds
                        .map_or("-".to_owned(), |seconds| format!("{seconds:.1}")),
                    &event.reason.as_deref().unwrap_or_default(),
                ]);
            }
            table.to_string()
        };
        args.place.page(text, &json!({ "history": last }))
    };
    match told() {
        Ok(page) => print(&page),
        Err(error) => fail(&*error),
    }
}
