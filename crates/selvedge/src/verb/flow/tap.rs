//! `selvedge flow tap`: what the parts of a running node say, live.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use node::config::Config;
use node::config::problem::did_you_mean;
use serde_json::Value;

use crate::interrupt::Interrupt;
use crate::recording::show_time;
use crate::state::LocalApi;
use crate::table::{Side, Table};

/// Show what the parts of a running node say, as they say it.
///
/// Asks the node's local API, so node.toml needs an `[api]`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Parts to show, such as `source.pump` or `rule.overheat`; all without it.
    parts: Vec<String>,

    /// The node's settings, which say where it listens.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    every: f64,

    /// Look once.
    #[arg(long)]
    once: bool,

    /// Print each look as a line of JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("from 0.1 to 3600 seconds".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load_without_flow(&args.config)?;
    let api = LocalApi::of(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interrupt = Interrupt::listen()?;
    let mut out = std::io::stdout();
    let (mut told, screen) = (String::new(), out.is_terminal() && !args.json && !args.once);
    loop {
        let state = runtime.block_on(api.state())?;
        let mut lines = rows(&state);
        // What the node runs, which need not be what its flow's file says by now.
        if let Some(unknown) = args.parts.iter().find(|part| lines.iter().all(|(path, ..)| path != *part)) {
            let help = did_you_mean(unknown, lines.iter().map(|(path, ..)| path.as_str()));
            anyhow::bail!("the running node says nothing of a part `{unknown}`: {help}");
        }
        lines.retain(|(path, ..)| args.parts.is_empty() || args.parts.contains(path));
        if args.json {
            let fields = lines
                .into_iter()
                .map(|(part, _, state, value)| (part, serde_json::json!({ "state": state, "value": value })));
            writeln!(out, "{}", Value::Object(fields.collect()))?;
        } else {
            let text = shown(&lines);
            // On a screen the newest stands alone; in a file only what changed is written.
            if screen {
                write!(out, "\x1b[H\x1b[2J{text}")?;
            } else if text != told {
                write!(out, "{text}")?;
            }
            told = text;
        }
        out.flush()?;
        if args.once || interrupt.wait(Duration::from_secs_f64(args.every)) {
            return Ok(());
        }
    }
}

/// A part, when it last changed, how it is, and what it says.
type Line = (String, String, String, Value);

fn rows(state: &Value) -> Vec<Line> {
    let list = |key: &str| state[key].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let when = |value: &Value| value.as_i64().map_or_else(String::new, show_time);
    let mut lines = Vec::new();
    for source in list("sources") {
        let path = format!("source.{}", word(&source["source"]));
        lines.push((path, when(&source["last_ms"]), word(&source["state"]), source["values"].clone()));
    }
    for model in list("models") {
        let path = format!("model.{}", word(&model["model"]));
        let says = serde_json::json!({ "p": model["probability"], "score": model["score"] });
        lines.push((path, when(&model["anomaly_since_ms"]), word(&model["state"]), says));
    }
    for rule in list("rules") {
        let path = format!("rule.{}", word(&rule["rule"]));
        let says = serde_json::json!({ "value": rule["value"] });
        lines.push((path, when(&rule["since_ms"]), word(&rule["state"]), says));
    }
    lines
}

fn shown(lines: &[Line]) -> String {
    let mut table = Table::new([
        ("part", Side::Left),
        ("since", Side::Left),
        ("state", Side::Left),
        ("says", Side::Left),
    ]);
    for (path, when, state, says) in lines {
        let fields = says.as_object().cloned().unwrap_or_default();
        let fields = fields.iter().map(|(name, value)| {
            let value = value.as_f64().map_or("–".to_owned(), crate::amount::show_number);
            format!("{name} {value}")
        });
        // A name of a channel is a stranger's.
        let says: String =
            fields.collect::<Vec<_>>().join("  ").chars().filter(|c| !c.is_control()).collect();
        table.row([path.clone(), when.clone(), state.clone(), crate::table::clipped(&says, 120)]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_part_says() {
        let state = serde_json::json!({
            "sources": [{ "source": "pump", "state": "running", "last_ms": 0, "values": { "t": 81.234, "p": null } }],
            "models": [{ "model": "health", "state": "learning", "score": null, "probability": null }],
            "rules": [{ "rule": "hot", "state": "firing", "since_ms": 0, "value": 81.234 }],
        });
        let text = shown(&rows(&state));
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("t 81.2") && text.contains("p –") && text.contains("firing"), "{text}");
    }
}
