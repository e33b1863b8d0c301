//! `selvedge flow check`: what is wrong with a flow, and what it will take.

use std::io::Write as _;
use std::path::PathBuf;

use node::config::Config;
use node::config::problem::{ConfigError, ConfigErrors};
use node::flow::Flow;
use node::play::rehearse::rehearse;
use serde::Serialize;

use super::sizing::{Size, size};

/// Read a flow and the heads of its files, play its tests, and say what it will take.
///
/// A problem is shown at its place in the file, with what to do; the exit code is 78 then. Sizes are worked out or measured, not
/// guessed: networks are loaded once, and what depends on something that the flow does not say is unknown. A network whose file is here
/// must be able to look at what its source gives.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow.
    #[arg(default_value = "flow.toml", conflicts_with = "config")]
    flow: PathBuf,

    /// Check the flow of a node, with that node's own parameters.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print what it will take, or what is wrong, as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found {
    sources: usize,
    models: usize,
    rules: usize,
    actuators: usize,
    sinks: usize,
    reports: usize,
    tests: usize,
    size: Size,
}

/// What is wrong with it.
#[derive(Serialize)]
struct Wrong {
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    file: PathBuf,
    /// From 1; both are absent if the problem has no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl From<&ConfigError> for Problem {
    fn from(error: &ConfigError) -> Problem {
        let (line, column) = (!error.text.is_empty()).then(|| error.position()).unzip();
        let (file, message, help) = (error.file.clone(), error.message.clone(), error.help.clone());
        Problem { file, line, column, message, help }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let checked = check(args);
    if args.json
        && let Err(error) = &checked
        && let Some(ConfigErrors(problems)) = error.downcast_ref::<ConfigErrors>()
    {
        let mut out = std::io::stdout().lock();
        let wrong = Wrong { problems: problems.iter().map(Problem::from).collect() };
        serde_json::to_writer_pretty(&mut out, &wrong)?;
        writeln!(out)?;
    }
    checked
}

fn check(args: &Args) -> anyhow::Result<()> {
    let (flow, data) = match &args.config {
        Some(file) => {
            let config = Config::load(file)?;
            (config.flow, Some(config.data))
        }
        None => (Flow::load(&args.flow)?, None),
    };
    flow.check_files()?;
    // Before the tests: what they load and let go would be room that a network is then said not to take.
    let size = size(&flow, data.as_deref())?;
    let tests = rehearse(&flow)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let (sources, rules) = (flow.sources.len(), flow.rules.len());
        let models = flow.models.len() + flow.networks.len();
        let (actuators, sinks, reports) = (flow.actuators.len(), flow.sinks.len(), flow.reports.len());
        serde_json::to_writer_pretty(
            &mut out,
            &Found { sources, models, rules, actuators, sinks, reports, tests, size },
        )?;
        writeln!(out)?;
        return Ok(());
    }
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    // Told where there are any.
    let some = |number: usize, what: &str| match number {
        0 => String::new(),
        number => format!(", {}", count(number, what)),
    };
    writeln!(
        out,
        "{}: {}{}, {}, {}{}{}{}, {} passed: nothing wrong",
        flow.file.display(),
        count(flow.sources.len(), "source"),
        some(flow.features.len(), "feature"),
        count(flow.models.len() + flow.networks.len(), "model"),
        count(flow.rules.len(), "rule"),
        some(flow.actuators.len(), "actuator"),
        some(flow.reports.len(), "report"),
        some(flow.sinks.len(), "sink"),
        count(tests, "test"),
    )?;
    size.write(&mut out)?;
    Ok(())
}
