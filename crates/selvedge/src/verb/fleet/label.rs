//! `selvedge fleet label` and `groups`: what is said of nodes at the hub.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::hub_client::{HubArgs, HubClient, list, number, path, word};
use crate::table::{Side, Table, clipped};

/// Show the labels of a node that are set at the hub, or set some. Those of the node's own settings win.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge fleet label pump-1                      shows them
  selvedge fleet label pump-1 line=2 hall=north    sets two, and leaves the others
  selvedge fleet label pump-1 line=                takes one away")]
pub(crate) struct Args {
    /// The node's name.
    node: String,

    /// A label and its value; without a value it is taken away.
    #[arg(value_name = "LABEL=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,

    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// `line=2`.
pub(super) fn pair(word: &str) -> Result<(String, String), String> {
    let pair = word.split_once('=').filter(|(label, _)| !label.is_empty());
    pair.map(|(label, value)| (label.to_owned(), value.to_owned()))
        .ok_or_else(|| "it reads like line=2".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let facts = hub.get(&path(&["nodes", &args.node, "facts"]))?;
    let set = facts.get("set_here").and_then(|here| here.get("set")).and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let mut labels: BTreeMap<String, String> = set.into_iter().flatten().filter_map(text).collect();
    let before = labels.clone();
    for (label, value) in &args.labels {
        match value.as_str() {
            "" => labels.remove(label),
            value => labels.insert(label.clone(), value.to_owned()),
        };
    }
    if labels != before {
        hub.put(&path(&["nodes", &args.node, "labels"]), serde_json::to_vec(&json!({ "set": labels }))?)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "node": args.node, "set": labels }))?)?;
        return Ok(());
    }
    if labels.is_empty() {
        writeln!(out, "no labels of {} are set at the hub", args.node)?;
    }
    for (label, value) in &labels {
        writeln!(out, "{label}={value}")?;
    }
    if labels != before {
        writeln!(out, "{} hears of it with its next check-in", args.node)?;
    }
    Ok(())
}

/// List the saved groups; or save or remove one.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  selvedge fleet groups
  selvedge fleet groups set pumps 'site == \"oslo\" && name ~ \"pump-*\"'
  selvedge fleet groups rm pumps")]
pub(crate) struct Groups {
    #[command(subcommand)]
    change: Option<Change>,

    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// What shall become of a group.
#[derive(clap::Subcommand)]
enum Change {
    /// Save a group: an expression under a name. In other expressions it is group.NAME.
    Set {
        /// Its name: a-z, 0-9, '-', '_' and '.'.
        name: String,

        /// Which nodes are meant.
        #[arg(value_name = "WHERE")]
        expression: String,

        #[command(flatten)]
        hub: HubArgs,
    },
    /// Remove a group. Plans that named it have its expression written out.
    Rm {
        /// Its name.
        name: String,

        #[command(flatten)]
        hub: HubArgs,
    },
}

pub(super) fn groups(args: &Groups) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match &args.change {
        None => listed(&args.hub.client()?, args.json, &mut out),
        Some(Change::Set { name, expression, hub }) => {
            let (hub, at) = (hub.client()?, path(&["groups", name]));
            hub.put(&at, serde_json::to_vec(&json!({ "expression": expression }))?)?;
            let saved = hub.get(&at)?;
            writeln!(out, "group.{name} has {} nodes now", number(&saved, "nodes"))?;
            Ok(())
        }
        Some(Change::Rm { name, hub }) => {
            hub.client()?.delete(&path(&["groups", name]))?;
            writeln!(out, "group.{name} is gone")?;
            Ok(())
        }
    }
}

fn listed(hub: &HubClient, as_json: bool, out: &mut impl io::Write) -> anyhow::Result<()> {
    let all = hub.get(&path(&["groups"]))?;
    let groups = list(&all, "groups");
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(groups)?)?;
        return Ok(());
    }
    if groups.is_empty() {
        writeln!(out, "no groups yet: `selvedge fleet groups set NAME WHERE` saves one")?;
        return Ok(());
    }
    let mut table = Table::new([
        ("group", Side::Left),
        ("nodes", Side::Right),
        ("by", Side::Left),
        ("means", Side::Left),
    ]);
    for group in groups {
        let by = word(group, "made_by");
        table.row([
            clipped(word(group, "group"), 22),
            number(group, "nodes").to_string(),
            clipped(by.strip_prefix("operator:").unwrap_or(by), 14),
            clipped(word(group, "expression"), 50),
        ]);
    }
    write!(out, "{table}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_as_pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
