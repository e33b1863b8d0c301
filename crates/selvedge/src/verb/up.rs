//! `selvedge up`: the whole loop on this machine, in one process: a node that watches a simulated pump station or a
//! recording, and a hub with its console. They talk as they would across a network: the node comes in by a code, and has a
//! certificate from then on. People need none here: the console is open to this machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::server::Hub;
use indicatif::{ProgressBar, ProgressStyle};
use node::agent;
use node::config::Config;
use node::identity::enrol::{Comer, Way, enrol};
use node::identity::files::Files;
use node::judged::Judged;
use node::status::Status;
use wire::facts::Facts;
use wire::id::NodeId;
use wire::identity::Code;
use wire::world::System;

use super::hub::threads::runtime;
use crate::hub_client::HubArgs;
use crate::interrupt::Interrupt;
use crate::recording::{DetectorSettings, Recording, show_count, show_time};

/// Run a hub, a node and something to watch, on this machine, to see how it is.
///
/// Without --replay the node watches a simulated pump station: five sensors, and now and then a fault. It has been
/// running for twenty minutes when it is first looked at, so the model has learnt and there is something to see.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Watch this recording (CSV with a time column) instead of the simulated pump station.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// How fast the recording is played: 1 is as fast as it happened, `max` as fast as this machine can.
    #[arg(long, value_name = "TIMES", default_value = "max", requires = "replay")]
    speed: String,

    /// The recording's time column; without it the one that is named or looks like one.
    #[arg(long, value_name = "COLUMN", requires = "replay")]
    time: Option<String>,

    /// The recording's channels; without it every column of numbers.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', requires = "replay")]
    channels: Option<Vec<String>>,

    #[command(flatten)]
    settings: DetectorSettings,

    /// Where the console listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8420")]
    listen: SocketAddr,

    /// Keep journal, models and the hub's store here; without it they are gone at the end.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Which afternoon the simulated station has.
    #[arg(long, default_value_t = 1, conflicts_with = "replay")]
    seed: u64,
}

/// What the simulated station is called.
const STATION: &str = "pump-station";

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let (folder, fleeting) = match &args.data {
        Some(folder) => (folder.clone(), None),
        None => {
            let fleeting = tempfile::Builder::new().prefix("selvedge-").tempdir()?;
            (fleeting.path().to_owned(), Some(fleeting))
        }
    };
    let runtime = runtime()?;
    // One node on the same machine may come often.
    let hub_config = HubConfig {
        listen: args.listen,
        data: folder.join("hub"),
        check_in_ms: 2_000,
        open: true,
        nodes: Some(NodesConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)))),
        ..HubConfig::default()
    };
    let hub = runtime.block_on(Hub::start(hub_config, System::new()))?;
    let nodes_url =
        hub.nodes_addr.map(|at| format!("https://{at}")).context("the hub has no door for nodes")?;
    let (config, what) = node_config(&args, &folder, &nodes_url)?;
    let name = config.name.clone();
    come_in(&config, &hub.url(), &nodes_url).context("the node did not come in at the hub")?;
    let node = agent::start(config, System::new()).context("the node does not start")?;

    let mut out = std::io::stdout();
    writeln!(out, "\n  console  {}", hub.url())?;
    writeln!(out, "  node     {name}: {what}")?;
    match fleeting {
        Some(_) => writeln!(out, "  data     gone at the end; keep it with --data DIR")?,
        None => writeln!(out, "  data     {}", folder.display())?,
    }
    writeln!(out, "\n  Ctrl-C ends it.\n")?;

    let mut progress = Progress::new();
    while !interrupt.wait(Duration::from_millis(500)) && !node.failed() {
        progress.show(&node.status())?;
    }
    progress.end();
    let stopped = node.stop();
    runtime.block_on(hub.stop());
    stopped?;
    writeln!(out, "ended; journal and store are closed")?;
    Ok(())
}

/// Has the hub make a code and the node come in by it, unless it did in an earlier run.
fn come_in(config: &Config, hub_url: &str, nodes_url: &str) -> anyhow::Result<()> {
    let files = Files::of(&config.data);
    if files.open()?.is_some() {
        return Ok(());
    }
    let hub = HubArgs { hub: hub_url.parse()?, token_file: None, ca: None }.client()?;
    let ask = serde_json::json!({ "name": config.name, "replace": true });
    let made = hub.post("/api/v1/enrolments", &ask)?;
    let code = Code::parse(made["code"].as_str().unwrap_or_default())?;
    let (mut world, facts) = (System::new(), Facts::default());
    let judged = Judged::new(world, 0);
    let comer = Comer { files: &files, url: nodes_url, name: &config.name, facts: &facts, judged, via: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(enrol(&comer, &Way::Code(code), &mut world, |_| ()))?;
    Ok(())
}

/// The node's two files, written where the user can look at them, and what it watches in words.
fn node_config(args: &Args, folder: &Path, hub_url: &str) -> anyhow::Result<(Config, String)> {
    let node_folder = folder.join("node");
    std::fs::create_dir_all(&node_folder)
        .with_context(|| format!("the folder {} cannot be made", node_folder.display()))?;
    let (name, flow, what) = match &args.replay {
        Some(file) => replay_flow(args, file)?,
        None => {
            // A station that was there before goes on, with what its model has learnt; it does not tell its past twice.
            let known = node_folder.join("models").exists();
            (
                NodeId::new(STATION)?,
                station_flow(args.seed, known),
                "a simulated pump station, 5 readings a second".into(),
            )
        }
    };
    let node = format!(
        "[node]\nname = \"{name}\"\ndata = \".\"\n\n[hub]\nurl = \"{hub_url}\"\n\n[journal]\nmax_bytes = \"256MiB\"\n"
    );
    let file = node_folder.join("node.toml");
    for (file, text) in [(&file, node), (&node_folder.join("flow.toml"), flow)] {
        std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok((Config::load(&file)?, what))
}

/// Six minutes of learning at five readings a second see all that the station does when it is well.
fn station_flow(seed: u64, known: bool) -> String {
    let (history, quiet) = if known { ("0s", "30s") } else { ("20m", "7m") };
    format!(
        "[source.pump]\ntype = \"simulated\"\nseed = {seed}\nrate_hz = 5.0\nhistory = \"{history}\"\nquiet = \"{quiet}\"\nfault_every = \"2m\"\n\n\
         [model.pump_health]\ntype = \"subspace\"\ninputs = [\"source.pump\"]\nlag = 10\nlearn = 1800\n\n\
         [rule.unusual]\ninputs = [\"model.pump_health\"]\nwhen = \"pump_health.score >= 1.0\"\nfor = \"2s\"\nclear_after = \"10s\"\n\n\
         [rule.overheat]\ninputs = [\"source.pump\"]\nwhen = \"pump.temperature_c > 45.0\"\nfor = \"10s\"\nclear_after = \"30s\"\nseverity = \"critical\"\n"
    )
}

fn replay_flow(args: &Args, file: &Path) -> anyhow::Result<(NodeId, String, String)> {
    let speed = match args.speed.as_str() {
        "max" => "speed = \"max\"\n".to_owned(),
        times => match times.parse::<f64>() {
            Ok(times) if times > 0.0 && times.is_finite() => format!("speed = {times:?}\n"),
            _ => anyhow::bail!("--speed is `max` or a number above 0, not {times}"),
        },
    };
    let absolute = std::path::absolute(file)?;
    let recording =
        Recording { file: absolute, time: args.time.clone(), channels: args.channels.clone(), truth: None };
    // The file is opened once more by the node; a mistake in its name should not wait until then.
    node::source::recording::RecordingReader::open(&recording.file, &recording.options())?;
    let text = recording.flow_text(&args.settings, &speed);
    Ok((node_name(file), text, format!("the recording {}", file.display())))
}

/// A node's name from a file's: what is not allowed in one becomes `-`.
fn node_name(file: &Path) -> NodeId {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name: String = stem
        .chars()
        .take(48)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' })
        .collect();
    NodeId::new(name.trim_start_matches(['-', '_', '.']))
        .unwrap_or_else(|_| NodeId::new("recording").expect("a good name"))
}

/// Tells what happens: one line that is written over on a terminal, and a line for each thing worth one.
struct Progress {
    bar: Option<ProgressBar>,
    /// Where each rule, source and model stood when it was last told.
    told: BTreeMap<String, String>,
}

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("  {spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { bar, told: BTreeMap::new() }
    }

    fn show(&mut self, status: &Status) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for source in &status.sources {
            let reason =
                if source.reason.is_empty() { String::new() } else { format!(": {}", source.reason) };
            self.tell(
                format!("source {}", source.source),
                format!("is {}{reason}", source.state),
                &mut lines,
            );
        }
        for model in &status.models {
            self.tell(format!("model {}", model.model), format!("is {}", model.state), &mut lines);
        }
        for rule in &status.rules {
            // A rule that waits for its time is no news yet.
            if rule.state != "pending" {
                let since = rule
                    .since_ms
                    .map_or_else(String::new, |since| format!(" since {} UTC", show_time(since)));
                self.tell(format!("rule {}", rule.rule), format!("is {}{since}", rule.state), &mut lines);
            }
        }
        let Some(bar) = &self.bar else {
            let mut out = std::io::stdout().lock();
            return lines.iter().try_for_each(|line| writeln!(out, "  {line}"));
        };
        for line in lines {
            bar.println(format!("  {line}"));
        }
        bar.set_message(summary(status));
        Ok(())
    }

    fn tell(&mut self, who: String, what: String, lines: &mut Vec<String>) {
        if self.told.get(&who) != Some(&what) {
            lines.push(format!("{who} {what}"));
            self.told.insert(who, what);
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `6 012 readings · learning 400 of 1 800 · 41 records, 3 on their way to the hub`.
fn summary(status: &Status) -> String {
    let readings: u64 = status.sources.iter().map(|source| source.readings).sum();
    let mut text = format!("{} readings", show_count(readings));
    // Writing to a String cannot fail.
    for model in status.models.iter().filter(|model| model.state == "learning") {
        let _ = write!(
            text,
            " · {} has learnt {} of {}",
            model.model,
            show_count(model.readings),
            show_count(model.learn)
        );
    }
    let firing = status.rules.iter().filter(|rule| rule.state == "firing").count();
    if firing > 0 {
        let _ = write!(text, " · {firing} firing");
    }
    let waiting: u64 =
        status.journal.streams.iter().map(|stream| stream.last.saturating_sub(stream.acked)).sum();
    let _ = write!(
        text,
        " · {} records, {} on their way to the hub",
        show_count(status.journal.records),
        show_count(waiting)
    );
    if let Some(trouble) = status.uplink.as_ref().and_then(|uplink| uplink.trouble.as_ref()) {
        let _ = write!(text, " · {trouble}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_come_from_files() {
        fn check(file: &str, expected: &str) {
            assert_eq!(node_name(Path::new(file)).as_str(), expected, "{file}");
        }
        check("/data/Pump 7 (old).csv", "pump-7--old-");
        check("--.csv", "recording");
        check("été.csv", "t-");
    }

    #[test]
    fn the_station_s_flow_is_a_good_one() {
        for known in [false, true] {
            let flow =
                node::flow::Flow::parse(Path::new("flow.toml"), station_flow(1, known).into()).unwrap();
            assert_eq!((flow.sources.len(), flow.models.len(), flow.rules.len()), (1, 1, 2));
        }
    }
}
