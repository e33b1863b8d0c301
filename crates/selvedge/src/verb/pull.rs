//! `selvedge pull`: brings a model from the network to this machine.

use std::io::{self, Write as _};

use indicatif::ProgressBar;
use node::pull::event::Event;
use node::pull::{ENDPOINT, Order, Puller, Settings};
use node::shelf::name::ModelName;
use wire::world::System;

use crate::amount::{show_bytes, show_number};
use crate::complaint::Usage;
use crate::models::Models;
use crate::progress;

/// Bring a model from a repository or an address.
///
/// A download that was cut off goes on where it stopped. What comes is checked against the repository's SHA-256.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge pull owner/name                    the usual quantisation of the repository
  selvedge pull owner/name:q4_k_m             this one
  selvedge pull owner/name/file.gguf          this file
  selvedge pull https://example.org/m.gguf    an address

HF_ENDPOINT names another repository server, HF_TOKEN is the token for it.")]
pub(crate) struct Args {
    /// What to bring.
    model: String,

    /// What the model is called here; without it after the repository and the file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Take the place of another model of the same name.
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    models: Models,

    /// Where repositories are.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = ENDPOINT, hide_env_values = true)]
    endpoint: String,

    /// A file with the token for the endpoint; without it HF_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,

    /// Print what came as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let name = args.name.as_deref().map(ModelName::new).transpose();
    let name = name.map_err(|error| Usage(format!("--name: {error}")))?;
    let token = match &args.token_file {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
            anyhow::Error::from(error).context(format!("{} cannot be read", file.display()))
        })?),
        None => std::env::var("HF_TOKEN").ok(),
    };
    let shelf = args.models.shelf()?;
    let puller = Puller::new(Settings { endpoint: args.endpoint.clone(), token, ..Settings::default() })?;
    let order = Order { name, replace: args.replace };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut world = System::new();
    let mut teller = Teller::new();
    let pulled = runtime.block_on(async {
        tokio::select! {
            pulled = puller.pull(&shelf, &args.model, &order, &mut world, |event| teller.hear(event)) => Some(pulled),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    teller.end();
    let Some(pulled) = pulled else {
        anyhow::bail!("interrupted; the same command goes on where it stopped");
    };
    let pulled = pulled?;
    let facts = &pulled.entry.facts;
    let mut out = io::stdout().lock();
    if args.json {
        let record = serde_json::json!({
            "name": facts.name.to_string(), "file": pulled.entry.path, "size_bytes": facts.size_bytes,
            "sha256": facts.sha256.as_ref().map(ToString::to_string), "origin": facts.origin,
            "was_here": pulled.was_here,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    match pulled.was_here {
        true => writeln!(out, "{} is here already, as the server has it", facts.name)?,
        false => writeln!(out, "pulled {} ({})", facts.name, show_bytes(facts.size_bytes))?,
    }
    writeln!(out, "ask it with `selvedge run {}`", facts.name)?;
    Ok(())
}

/// Shows how a download goes: a bar on a terminal, a line for each turn of events elsewhere.
struct Teller {
    bar: ProgressBar,
}

impl Teller {
    fn new() -> Teller {
        Teller { bar: ProgressBar::hidden() }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Listing { repository } => self.bar = progress::waiting(format!("looking at {repository}")),
            Event::Chosen { name, file, total_bytes } => {
                let size = total_bytes.map_or_else(String::new, |total| format!(", {}", show_bytes(total)));
                self.say(&format!("{name}: {file}{size}"));
                self.bar = progress::waiting("connecting");
            }
            Event::Checking { done_bytes, total_bytes } => {
                self.bar_of("checking what is here", Some(total_bytes));
                self.bar.set_position(done_bytes);
            }
            Event::Loading { done_bytes, total_bytes, bytes_per_s } => {
                self.bar_of("loading", total_bytes);
                // What an earlier download left was not loaded now: the rate is the puller's, not the bar's.
                let left = total_bytes.map(|total| total.saturating_sub(done_bytes) as f64 / bytes_per_s);
                let left = left.filter(|left| left.is_finite() && *left < 1e6);
                let left = left.map_or_else(String::new, |left| format!(", {} left", show_seconds(left)));
                self.bar.set_message(format!("{} MB/s{left}", show_number(bytes_per_s / 1e6)));
                self.bar.set_position(done_bytes);
            }
            Event::Waiting { wait_ms, why } => {
                self.say(&format!("{why}; again in {}", show_seconds(wait_ms as f64 / 1e3)));
            }
            Event::Restarting => self.say("the server has another file now: all of it comes again"),
        }
    }

    /// A bar for what is under way, unless it is there.
    fn bar_of(&mut self, what: &'static str, total: Option<u64>) {
        if self.bar.prefix() != what {
            self.bar.finish_and_clear();
            self.bar = progress::download(total).with_prefix(what);
        }
    }

    fn say(&mut self, line: &str) {
        self.bar.suspend(|| {
            // If stderr is gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn show_seconds(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_its_own_unit() {
        assert_eq!(show_seconds(0.2), "1 s");
        assert_eq!(show_seconds(75.0), "1 min 15 s");
        assert_eq!(show_seconds(7_500.0), "2 h 05 min");
    }
}
