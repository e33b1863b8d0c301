//! The binary: a file per verb under `verb/`, and what the verbs share.
//!
//! - [`verb`]: the verbs;
//! - [`models`]: which model a word means; [`engine`]: a model made ready to be asked; [`speak`]: one answer of it;
//! - [`speed`]: how fast a model is here; [`limits`]: what the machine could do at most;
//! - [`amount`], [`table`], [`progress`]: how amounts, lists and long work are shown;
//! - [`complaint`]: how an error is shown, and the exit code that goes with it;
//! - [`state`]: what a running node says of itself; [`explained`]: its records in words;
//! - [`registries`]: where packages are, and what one there says of itself;
//! - [`login`]: which hub a user works with; [`hub_client`]: asks it;
//! - [`metadata`]: where the metadata of a repository of trust comes from;
//! - [`keys`]: secret keys in files, and their public halves; [`passphrase`]: what locks them;
//! - [`interrupt`]: Ctrl-C as something to wait for;
//! - [`nab`]: the Numenta benchmark, its scoring rules and its files;
//! - [`plot`]: a recording and its anomalies as a picture;
//! - [`recording`]: a recording as a user names it, and a flow around it;
//! - [`sim`]: a rollout rehearsed on a simulated fleet;
//! - [`truth`]: how well a detector did against known faults.

#![forbid(unsafe_code)]

#[cfg_attr(not(feature = "language"), allow(dead_code, reason = "most amounts are of models"))]
mod amount;
mod complaint;
#[cfg(feature = "language")]
mod engine;
mod explained;
#[cfg(any(feature = "hub", feature = "language"))]
mod hub_client;
#[cfg_attr(not(feature = "language"), allow(dead_code, reason = "models are what is half written"))]
mod interrupt;
#[cfg(any(feature = "hub", feature = "language"))]
mod keys;
#[cfg(feature = "language")]
mod latency;
#[cfg(feature = "language")]
mod limits;
#[cfg(any(feature = "hub", feature = "language"))]
mod login;
#[cfg(feature = "language")]
mod metadata;
#[cfg(feature = "language")]
mod models;
#[cfg(feature = "language")]
mod nab;
#[cfg(any(feature = "hub", feature = "language"))]
mod passphrase;
#[cfg(feature = "language")]
mod plant;
mod plot;
#[cfg(any(feature = "hub", feature = "packages"))]
#[cfg_attr(not(feature = "language"), allow(dead_code, reason = "most long work is done with models"))]
mod progress;
mod recording;
#[cfg(feature = "language")]
mod registries;
#[cfg(feature = "hub")]
mod sim;
#[cfg(feature = "language")]
mod speak;
#[cfg(feature = "language")]
mod speed;
mod state;
mod sure;
#[cfg_attr(not(feature = "language"), allow(dead_code, reason = "the widest tables are of models"))]
mod table;
#[cfg(any(feature = "hub", feature = "language"))]
mod token;
mod truth;
mod verb;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Runs AI where the data is made, and keeps it running when the link is cut.
#[derive(Parser)]
#[command(name = "selvedge", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = if cfg!(feature = "hub") {
        "Start with `selvedge up`: a hub, a node and a simulated pump station, on this machine."
    } else {
        "This is a node alone, for small devices: `selvedge node install` makes this machine one."
    }
)]
struct Cli {
    #[command(subcommand)]
    verb: verb::Verb,

    /// What to log to stderr: error, warn, info, debug, trace, or a filter such as `node=debug`.
    #[arg(long, global = true, env = "SELVEDGE_LOG", default_value = "warn", hide_env_values = true)]
    log: String,
}

/// A library that calls what is no fault an error. What matters of it is in the reasons that its source gives.
const QUIET: &str = "opcua_client=off,opcua_core=off,opcua_crypto=off,opcua_types=off";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::new(format!("{QUIET},{}", cli.log));
    // https://no-color.org: set and not empty means none.
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_target(false).with_ansi(colours).init();
    match cli.verb.run(Cli::command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complaint::show(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_hidden_verbs_and_all() {
        Cli::command().debug_assert();
    }
}
