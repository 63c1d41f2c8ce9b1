//! When to use colours, and which.

use std::ffi::OsStr;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

use crate::status::Status;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless the environment says otherwise
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Whether what is written to `out` is coloured.
    pub(super) fn for_stream(self, out: &impl IsTerminal) -> bool {
        self.decide(
            |name| std::env::var_os(name).unwrap_or_default(),
            out.is_terminal(),
        )
    }

    /// The flag, else `NO_COLOR`, else `CLICOLOR_FORCE`, else the terminal; an empty variable counts as unset.
    fn decide<V: AsRef<OsStr>>(self, variable: impl Fn(&str) -> V, terminal: bool) -> bool {
        let set = |name| !variable(name).as_ref().is_empty();
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE") => {
                variable("CLICOLOR_FORCE").as_ref() != "0" || terminal
            }
            ColorChoice::Auto => terminal && variable("TERM").as_ref() != "dumb",
        }
    }
}

/// How a status looks.
pub(super) fn style(status: Status) -> Style {
    match status {
        Status::Threat => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
        Status::Partial | Status::Error => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
        Status::Clean => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Status::Skipped => Style::new().dimmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_then_no_color_then_force_then_the_terminal() {
        let decide = |choice: ColorChoice, set: &[(&str, &'static str)], terminal| {
            let variable =
                |name: &str| set.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| *v);
            choice.decide(variable, terminal)
        };
        use ColorChoice::{Always, Auto, Never};
        assert!(decide(Auto, &[], true));
        assert!(!decide(Auto, &[], false));
        assert!(!decide(Auto, &[("TERM", "dumb")], true));
        assert!(!decide(Auto, &[("NO_COLOR", "1")], true));
        assert!(decide(Auto, &[("NO_COLOR", "")], true));
        assert!(decide(Auto, &[("CLICOLOR_FORCE", "1")], false));
        assert!(!decide(Auto, &[("CLICOLOR_FORCE", "0")], false));
        assert!(!decide(
            Auto,
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
            false
        ));
        assert!(decide(Always, &[("NO_COLOR", "1")], false));
        assert!(!decide(Never, &[("CLICOLOR_FORCE", "1")], true));
    }
}
