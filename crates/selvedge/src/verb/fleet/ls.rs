//! `selvedge fleet ls`: which nodes there are, or which ones an expression means.

use std::io::{self, Write as _};

use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::amount::show_ago;
use crate::hub_client::{HubArgs, list, number, word};
use crate::table::{Side, Table, clipped};

/// How many nodes come at once.
const PAGE: &str = "1000";

/// List nodes: all, or those that an expression means.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge fleet ls
  selvedge fleet ls 'site == \"oslo\" && ram >= 2GiB'
  selvedge fleet ls 'state == \"silent\"' --sort seen")]
pub(crate) struct Args {
    /// An expression over what nodes say of themselves: site == "oslo"; a saved group is group.NAME.
    #[arg(value_name = "WHERE")]
    selector: Option<String>,

    /// By name; or those first that were not heard of for longest, or that are worst.
    #[arg(long, value_name = "WORD", default_value = "name", value_parser = ["name", "seen", "health"])]
    sort: String,

    /// Not more than this many.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    most: usize,

    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let mut query = vec![("sort", args.sort.clone()), ("limit", PAGE.to_owned())];
    query.extend(args.selector.clone().map(|selector| ("where", selector)));
    let (mut nodes, mut matched, mut after) = (Vec::new(), 0, None::<String>);
    while nodes.len() < args.most {
        let behind = after.map(|after| ("after", after));
        let page = hub.find("/api/v1/nodes", &query.iter().cloned().chain(behind).collect::<Vec<_>>())?;
        nodes.extend_from_slice(list(&page, "nodes"));
        matched = number(&page, "matched");
        after = page.get("next_after").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    nodes.truncate(args.most);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        return Ok(());
    }
    if nodes.is_empty() {
        match args.selector {
            Some(_) => {
                writeln!(out, "no node is meant by that: `selvedge fleet show NODE` says what one is")?;
            }
            None => writeln!(out, "no nodes yet: `selvedge fleet enrol` makes a code that lets one in")?,
        }
        return Ok(());
    }
    write!(out, "{}", table(&nodes, System::new().wall_ms()))?;
    for line in beware(&nodes) {
        writeln!(out, "{line}")?;
    }
    if matched > nodes.len() as i64 {
        writeln!(out, "{} of {matched}", nodes.len())?;
    }
    Ok(())
}

/// What somebody has to look at, after a backup of the hub was restored.
fn beware(nodes: &[Value]) -> Vec<String> {
    let ahead = nodes.iter().filter(|node| node.get("conflict").is_some_and(Value::is_string)).count();
    let strange = nodes.iter().filter(|node| !list(node, "strange").is_empty()).count();
    let mut lines = Vec::new();
    if ahead > 0 {
        lines.push(format!(
            "{ahead} know more than the hub and get nothing until somebody has looked: selvedge hub adopt --plan"
        ));
    }
    if strange > 0 {
        lines.push(format!(
            "{strange} follow a rollout that the hub does not know: selvedge fleet ls strange, selvedge fleet show NODE"
        ));
    }
    lines
}

fn table(nodes: &[Value], now_ms: i64) -> Table {
    let columns = [
        ("node", Side::Left),
        ("health", Side::Left),
        ("heard", Side::Left),
        ("version", Side::Left),
        ("runs", Side::Left),
        ("labels", Side::Left),
    ];
    let mut table = Table::new(columns);
    for node in nodes {
        let pairs = |name: &str, between: &str| {
            let fields = node.get(name).and_then(Value::as_object).into_iter().flatten();
            let pair = |(name, value): (&String, &Value)| match value {
                Value::String(text) => format!("{name}{between}{text}"),
                other => format!("{name}{between}{other}"),
            };
            fields.map(pair).collect::<Vec<_>>().join(" ")
        };
        let health = match (word(node, "state"), word(node, "health")) {
            ("silent", _) => "silent",
            (_, health) => health,
        };
        table.row([
            clipped(word(node, "node"), 24),
            health.to_owned(),
            show_ago(now_ms.saturating_sub(number(node, "last_seen_ms"))),
            clipped(word(node, "version"), 10),
            clipped(&pairs("releases", ":"), 16),
            clipped(&pairs("labels", "="), 18),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_restored_hub_does_not_know_is_told() {
        let nodes = [
            json!({"node": "a", "conflict": "it was told revision 9, this hub is at 4", "strange": []}),
            json!({"node": "b", "conflict": null, "strange": ["00112233445566778899aabbccddeeff"]}),
            json!({"node": "c"}),
        ];
        let lines = beware(&nodes);
        assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("1 ")), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 110), "{lines:?}");
        assert!(beware(&nodes[2..]).is_empty());
    }

    #[test]
    fn a_list_fits_a_terminal() {
        let long = "x".repeat(64);
        let nodes = [
            json!({"node": "pump-1", "state": "up", "health": "good", "last_seen_ms": 0, "version": "0.1.0",
                "releases": {"smollm2": 7}, "labels": {"line": "2", "site": "oslo"}}),
            json!({"node": long, "state": "silent", "health": "unknown", "last_seen_ms": -40 * 86_400_000_i64,
                "version": long, "releases": {long.clone(): 7}, "labels": {long.clone(): "2"}}),
        ];
        let shown = table(&nodes, 60_000).to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        let first: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            first,
            ["pump-1", "good", "1", "minute", "ago", "0.1.0", "smollm2:7", "line=2", "site=oslo"]
        );
    }
}
