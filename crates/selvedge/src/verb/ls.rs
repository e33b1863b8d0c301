//! `selvedge ls`: the models on this machine.

use std::io::{self, Write as _};

use node::shelf::facts::{Facts, Origin, Weights};
use node::shelf::{Entry, Listing, State};
use serde_json::{Value, json};
use wire::world::{Clock as _, System, WallMs};

use crate::amount::{show_ago, show_bytes};
use crate::models::Models;
use crate::table::{Side, Table};

/// List the models on this machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    models: Models,

    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shelf = args.models.shelf()?;
    let listing = shelf.list()?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&to_json(&listing))?)?;
        return Ok(());
    }
    let Listing { models, unfinished, unreadable } = &listing;
    if models.is_empty() && unfinished.is_empty() && unreadable.is_empty() {
        writeln!(out, "no model is here yet ({})", shelf.root().display())?;
        writeln!(
            out,
            "`selvedge pull owner/name` brings one, `selvedge import FILE` takes one that you have"
        )?;
        return Ok(());
    }
    let now = System::new().wall_ms();
    let mut table = Table::new([
        ("name", Side::Left),
        ("size", Side::Right),
        ("added", Side::Left),
        ("from", Side::Left),
        ("", Side::Left),
    ]);
    for entry in models {
        let Facts { name, size_bytes, added_ms, .. } = &entry.facts;
        let added = show_ago(now - added_ms);
        table.row([
            name.to_string(),
            show_bytes(*size_bytes),
            added,
            from(&entry.facts),
            state(entry).into(),
        ]);
    }
    for part in unfinished {
        let total = part.total_bytes.map_or_else(String::new, |total| format!(" of {}", show_bytes(total)));
        let size = format!("{}{total}", show_bytes(part.done_bytes));
        let state = "not finished: pull it again to go on";
        table.row([part.name.to_string(), size, String::new(), place(&part.origin), state.into()]);
    }
    write!(out, "{table}")?;
    for (name, error) in unreadable {
        writeln!(out, "{name} cannot be read: {error}")?;
    }
    Ok(())
}

fn place(origin: &Origin) -> String {
    let Origin { url, repository, file, .. } = origin;
    repository.clone().or_else(|| url.clone()).or_else(|| file.clone()).unwrap_or_else(|| "–".to_owned())
}

fn from(facts: &Facts) -> String {
    match &facts.weights {
        Weights::Link { path, .. } => format!("→ {}", path.display()),
        Weights::Own { .. } => place(&facts.origin),
    }
}

fn state(entry: &Entry) -> &'static str {
    match entry.state {
        State::Ready => "",
        State::Missing => "its file is gone",
        State::Changed => "its file has changed",
    }
}

/// When something came, in milliseconds since 1970, as RFC 3339 has it.
fn at(ms: WallMs) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|at| at.to_string())
}

fn to_json(listing: &Listing) -> Value {
    let models: Vec<Value> = listing
        .models
        .iter()
        .map(|entry| {
            let Facts { name, weights, size_bytes, sha256, added_ms, origin } = &entry.facts;
            json!({
                "name": name.to_string(),
                "size_bytes": size_bytes,
                "added": at(*added_ms),
                "file": entry.path.display().to_string(),
                "linked": matches!(weights, Weights::Link { .. }),
                "sha256": sha256.as_ref().map(ToString::to_string),
                "origin": origin,
                "state": match entry.state {
                    State::Ready => "ready",
                    State::Missing => "missing",
                    State::Changed => "changed",
                },
            })
        })
        .collect();
    let unfinished: Vec<Value> = listing
        .unfinished
        .iter()
        .map(|part| {
            json!({
                "name": part.name.to_string(),
                "done_bytes": part.done_bytes,
                "total_bytes": part.total_bytes,
                "origin": part.origin,
            })
        })
        .collect();
    let unreadable = listing.unreadable.iter();
    let unreadable: Vec<Value> = unreadable
        .map(|(name, error)| json!({ "name": name.to_string(), "why": error.to_string() }))
        .collect();
    json!({ "models": models, "unfinished": unfinished, "unreadable": unreadable })
}
