//! `selvedge trust show`: a repository at a glance.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forge::repository::{Authored, View};
use package::trust::hex::to_hex;
use package::trust::time::format_utc;
use serde_json::{Value, json};

use super::change::{now_ms, tell_staged};
use super::life::show_left;
use crate::table::{Side, Table};

/// Show a repository: its roles, who signs, until when, and what is approved.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let authored = Authored::open(&args.repository)?;
    let (views, now_ms) = (authored.roles(), now_ms());
    let mut out = io::stdout().lock();
    if args.json {
        let roles: Vec<Value> = views.iter().map(record).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "roles": roles }))?)?;
        return Ok(());
    }
    let mut table = Table::new([
        ("role", Side::Left),
        ("version", Side::Right),
        ("expires", Side::Left),
        ("signatures", Side::Left),
        ("keys", Side::Left),
    ]);
    for view in &views {
        let keys: Vec<String> = view.keys.iter().map(|id| id.chars().take(8).collect()).collect();
        table.row([
            view.role.to_string(),
            view.version.map_or_else(|| "–".to_owned(), |version| version.to_string()),
            view.expires_ms.map_or_else(|| "–".to_owned(), |expires_ms| show_left(expires_ms - now_ms)),
            format!("{} of {}", view.threshold, view.keys.len()),
            keys.join(" "),
        ]);
    }
    write!(out, "{table}")?;
    for view in views.iter().filter(|view| !view.targets.is_empty() || !view.paths.is_empty()) {
        writeln!(out)?;
        let role = match view.paths.is_empty() {
            true => view.role.to_string(),
            false => format!("{}, trusted with {},", view.role, view.paths.join(", ")),
        };
        let soon = if view.staged.is_some() { ", once it is published," } else { "" };
        writeln!(out, "{role}{soon} approves")?;
        let mut targets = Table::plain([Side::Left, Side::Left]).indented(2);
        for (path, target) in &view.targets {
            let hash = target.hashes.sha256.map(|hash| to_hex(&hash[..6])).unwrap_or_default();
            targets.row([path.as_str(), &hash]);
        }
        match view.targets.is_empty() {
            true => writeln!(out, "  nothing yet")?,
            false => write!(out, "{targets}")?,
        }
    }
    if views.iter().any(|view| view.staged.is_some()) {
        writeln!(out)?;
        drop(out);
        tell_staged(&args.repository, &authored)?;
    }
    Ok(())
}

fn record(view: &View) -> Value {
    let targets = view.targets.iter().map(|(path, target)| {
        let sha256 = target.hashes.sha256.map(|hash| to_hex(&hash));
        json!({ "path": path, "length": target.length, "sha256": sha256 })
    });
    json!({
        "role": view.role.as_str(),
        "version": view.version,
        "expires": view.expires_ms.map(format_utc),
        "threshold": view.threshold,
        "keys": view.keys,
        "paths": view.paths,
        "targets": targets.collect::<Vec<_>>(),
        "staged": view.staged.map(|stage| json!({ "version": stage.version, "signed": stage.signed })),
    })
}
