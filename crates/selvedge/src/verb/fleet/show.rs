//! `selvedge fleet show` and `why`: one node, and why it is offered something or not.

use std::io::{self, Write as _};

use serde_json::{Value, json};
use wire::world::{Clock as _, System};

use crate::amount::{show_ago, show_bytes, show_time_ns};
use crate::hub_client::{HubArgs, list, number, path, word};
use crate::table::{Side, Table, clipped};
use crate::verb::rollout::ask;

/// Show a node: how it is, what it is, what it runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Its name.
    node: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Show why a node is offered what a rollout brings, or why not.
#[derive(clap::Args)]
pub(crate) struct Why {
    /// The node's name.
    node: String,

    /// The rollout: its id, or the first digits of it.
    rollout: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let node = hub.get(&path(&["nodes", &args.node]))?;
    let facts = hub.get(&path(&["nodes", &args.node, "facts"]))?;
    let mut out = io::stdout().lock();
    if args.json {
        let whole = json!({ "node": node, "facts": facts });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(());
    }
    write!(out, "{}", shown(&node, &facts, System::new().wall_ms()))?;
    Ok(())
}

fn shown(node: &Value, facts: &Value, now_ms: i64) -> String {
    let text = |name: &str| node.get(name).and_then(Value::as_str);
    let heard = show_ago(now_ms.saturating_sub(number(node, "last_seen_ms")));
    let mut lines =
        format!("{}: {}, {}; heard {heard}\n", word(node, "node"), word(node, "state"), word(node, "health"));
    let mut table = Table::plain([Side::Left, Side::Left]).indented(2);
    let mut row = |name: &str, what: String| {
        if !what.is_empty() {
            table.row([name.to_owned(), clipped(&what, 84)]);
        }
    };
    row("program", text("version").map(|version| format!("selvedge {version}")).unwrap_or_default());
    let uptime_ns = number(node, "uptime_ms").max(0) as u64 * 1_000_000;
    row("up for", if uptime_ns > 0 { show_time_ns(uptime_ns) } else { String::new() });
    let offset = node.get("clock_offset_ms").and_then(Value::as_i64);
    let offset = offset.map(|ms| format!(", {ms} ms off the hub's")).unwrap_or_default();
    row("clock", text("clock").map(|clock| format!("{clock}{offset}")).unwrap_or_default());
    row("sources", format!("{} of {} run", number(node, "sources_running"), number(node, "sources")));
    row("ahead", text("conflict").unwrap_or_default().to_owned());
    row(
        "alerts",
        match number(node, "alerts_firing") {
            0 => String::new(),
            count => format!("{count} firing"),
        },
    );
    for slot in list(node, "slots") {
        let serves = slot.get("release").and_then(Value::as_u64);
        let mut what = match serves {
            Some(release) => format!("release {release}, {}", word(slot, "variant")),
            None => "nothing serves".to_owned(),
        };
        if let Some(before) = slot.get("previous").and_then(Value::as_u64) {
            what += &format!("; {before} before");
        }
        if let Some(next) = slot.get("candidate").and_then(Value::as_u64) {
            what += &format!("; {next} is {}", word(slot, "phase"));
        }
        if let Some(safe) = slot.get("safe").and_then(Value::as_str) {
            what += &format!("; safe mode: {safe}");
        }
        row(&format!("model {}", word(slot, "model")), what);
    }
    if let Some(trust) = node.get("trust").filter(|trust| trust.is_object()) {
        let stale = match number(trust, "stale_ms") {
            0 => "fresh".to_owned(),
            ms => format!("stale since {}", show_ago(ms)),
        };
        let lost = trust.get("lost").and_then(Value::as_str).map(|why| format!("; lost: {why}"));
        row("trust", format!("targets {}, {stale}{}", number(trust, "targets"), lost.unwrap_or_default()));
    }
    let labels = node.get("labels").and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    row("labels", labels.join(" "));
    lines += &table.to_string();
    if text("conflict").is_some() {
        lines += "  it knows more than the hub, and gets nothing until somebody has looked: selvedge hub adopt --plan\n";
    }
    for id in list(node, "strange").iter().filter_map(Value::as_str) {
        lines += &format!(
            "  it follows {id}, which the hub does not know: made after the backup that the hub was restored from,\n  most likely. \
             Create it anew from its plan, upload its documents, then selvedge hub adopt --plan\n"
        );
    }
    let said = facts.get("facts").and_then(Value::as_object).into_iter().flatten();
    let mut table = Table::plain([Side::Left, Side::Left]).indented(4);
    for (name, fact) in said {
        table.row([clipped(name, 28), clipped(&fact_text(name, fact), 64)]);
    }
    let facts = table.to_string();
    if !facts.is_empty() {
        lines += &format!("  facts, by which expressions find it:\n{facts}");
    }
    lines
}

fn fact_text(name: &str, fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Number(bytes) if matches!(name, "ram" | "disk") => {
            format!("{bytes} ({})", show_bytes(bytes.as_f64().unwrap_or_default() as u64))
        }
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

pub(super) fn why(args: &Why) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let id = ask::id(&hub, &args.rollout)?.to_string();
    let said = hub.get(&path(&["rollouts", &id, "why", &args.node]))?;
    let judged = hub.find(&path(&["nodes", &args.node, "why"]), &[("rollout", id.clone())])?;
    let mut out = io::stdout().lock();
    if args.json {
        let whole = json!({ "why": said.get("why"), "judged": judged });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(());
    }
    writeln!(out, "{} and rollout {}: {}", args.node, clipped(&id, 13), word(&said, "why"))?;
    write!(out, "{}", terms(&judged))?;
    Ok(())
}

/// Each term of the group's expression, and what it found.
fn terms(judged: &Value) -> String {
    let truth = |holds: bool| if holds { "yes" } else { "no" };
    let is_true = |value: &Value, name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut lines =
        format!("the group {:?} has it: {}\n", word(judged, "expression"), truth(is_true(judged, "holds")));
    let mut table = Table::plain([Side::Left, Side::Left, Side::Left]).indented(2);
    for term in list(judged, "terms") {
        let found = term.get("found").and_then(Value::as_str);
        let found =
            found.map_or_else(|| "it says nothing of that".to_owned(), |found| format!("it says {found}"));
        table.row([
            truth(is_true(term, "holds")).to_owned(),
            clipped(word(term, "term"), 44),
            clipped(&found, 44),
        ]);
    }
    lines += &table.to_string();
    if let Some(stands) = judged.get("rollout").filter(|stands| stands.is_object()) {
        let place =
            format!("{} of a ring that is open up to {}", number(stands, "place"), number(stands, "ring_to"));
        let canary = if is_true(stands, "canary") { "a canary; " } else { "" };
        lines += &format!("  {canary}its place is {place}; the rollout is {}\n", word(stands, "phase"));
        if let Some(standing) = stands.get("standing").and_then(Value::as_str) {
            let told = stands.get("told").and_then(Value::as_str).map(|told| format!(": {told}"));
            lines += &format!("  it stands at {standing}{}\n", told.unwrap_or_default());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_a_few_lines() {
        let node = json!({"node": "pump-1", "state": "up", "health": "good", "last_seen_ms": 55_000, "version": "0.1.0",
            "clock": "checked", "clock_offset_ms": 3, "sources": 2, "sources_running": 1, "alerts_firing": 1,
            "uptime_ms": 125_000, "labels": {"site": "oslo"}, "trust": {"targets": 12, "stale_ms": 0, "lost": null},
            "slots": [{"model": "smollm2", "release": 7, "variant": "q4", "previous": 6, "candidate": 8, "phase": "trial"}]});
        let facts = json!({"facts": {"ram": 2_000_000_000, "isa": ["avx2", "sse4"], "site": "oslo"}});
        let shown = shown(&node, &facts, 60_000);
        for line in [
            "pump-1: up, good; heard just now",
            "  model smollm2  release 7, q4; 6 before; 8 is trial",
            "  trust          targets 12, fresh",
            "    ram   2000000000 (2.00 GB)",
            "    isa   avx2 sse4",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line:?} is not in\n{shown}");
        }
    }

    #[test]
    fn terms_say_what_they_found() {
        let judged = json!({"expression": "site == \"oslo\" && gpu", "holds": false,
            "terms": [{"term": "site == \"oslo\"", "holds": true, "found": "oslo"}, {"term": "gpu", "holds": false, "found": null}],
            "rollout": {"place": 7, "ring_to": 20, "phase": "running", "canary": false, "standing": "offered", "told": null}});
        let shown = terms(&judged);
        assert!(
            shown.contains("has it: no") && shown.contains("  no   gpu             it says nothing of that"),
            "{shown}"
        );
        assert!(shown.contains("its place is 7 of a ring that is open up to 20"), "{shown}");
    }
}
