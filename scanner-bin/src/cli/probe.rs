//! `probe`: asks the service beside it, for supervisors that run a program in its container: the image holds no other that could ask.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::config::{self, RunFlags};
use crate::escape::Escaped;

/// How long the service may take for each step of an answer. A supervisor's own limit comes before, or after it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_BYTES: u64 = 64 << 10;
/// Exit status if the answer is no.
const EXIT_NO: u8 = 1;

/// What to ask, and where.
#[derive(Args, Debug)]
#[command(after_help = "\
The address is that of ops.listen: file, environment and flag count as for 'run'.
Example: scanner-bin probe ready --listen 127.0.0.1:9090
Exit status: 0 yes, 1 no (it says why), 2 if the service could not be asked.")]
pub struct ProbeArgs {
    /// Has it started, do its threads move, does it do its work?
    #[arg(value_enum)]
    pub question: Question,
    /// Configuration file (TOML) of the service [env: SCANNER_CONFIG]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Address that the service listens on [default: 0.0.0.0:9090]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
}

/// The probes of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Question {
    /// /startupz: signatures and rules are loaded
    Startup,
    /// /livez: its threads move
    Live,
    /// /readyz: it does its work, or stands by
    Ready,
}

/// The part of an answer that is for people.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    reason: String,
}

/// Runs the subcommand.
pub fn run(args: &ProbeArgs) -> ExitCode {
    let flags = RunFlags {
        config: args.config.clone(),
        listen: args.listen.clone(),
        ..RunFlags::default()
    };
    let address = match config::load(&flags, &config::process_environment()) {
        Ok(config) => reachable(config.ops.listen),
        Err(error) => return super::fail(&error),
    };
    match ask(address, args.question) {
        Ok(answer) if answer.ok => super::print(b"ok\n"),
        Ok(answer) => {
            let failed = answer.checks.iter().filter(|check| !check.ok);
            for Check { name, reason, .. } in failed {
                let line = format!("{name}: {reason}");
                super::say(format_args!("{}", Escaped(line.as_bytes())));
            }
            ExitCode::from(EXIT_NO)
        }
        Err(error) => {
            super::say(format_args!(
                "scanner-bin: cannot ask the service at {address}: {error}; does it run, and with this ops.listen?"
            ));
            ExitCode::from(super::EXIT_ERROR)
        }
    }
}

/// A service that listens everywhere can be reached here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr, question: Question) -> io::Result<Answer> {
    let path = match question {
        Question::Startup => "startupz",
        Question::Live => "livez",
        Question::Ready => "readyz",
    };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    // The service's own server gives the whole body in one piece behind the header.
    let body = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|end| &answer[end + 4..]);
    let parsed = body.map(serde_json::from_slice);
    parsed
        .and_then(Result::ok)
        .ok_or_else(|| io::Error::other("what answers there is no scanner"))
}
