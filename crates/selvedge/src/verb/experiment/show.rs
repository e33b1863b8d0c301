//! How experiments stand, and what they are told.

use std::io::{self, Write as _};
use std::path::PathBuf;

use hub::experiment::text;
use serde_json::{Value, json};

use super::ask;
use crate::hub_client::HubArgs;
use crate::table::{Side, Table};

/// Give a plan to the hub. Nothing moves before its documents are signed and somebody starts it.
#[derive(clap::Args)]
pub(crate) struct Create {
    /// The plan, as `selvedge experiment new` wrote it.
    plan: PathBuf,

    #[command(flatten)]
    hub: HubArgs,

    /// Print how the experiment stands as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct OrderArgs {
    /// The experiment: its id, or the first digits of it.
    experiment: String,

    /// Why; it stands in the audit log.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print how the experiment stands as JSON.
    #[arg(long)]
    json: bool,
}

/// List experiments, the newest first.
#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Show how an experiment stands, and what is known by now.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The experiment: its id, or the first digits of it.
    experiment: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn create(args: &Create) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let plan = ask::read_plan(&args.plan)?;
    let made = hub.post("/api/v1/experiments", &serde_json::from_slice(&text::write(&plan))?)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&made)?)?;
        return Ok(());
    }
    let id = text::id(&plan);
    writeln!(out, "the hub has experiment {id}")?;
    writeln!(out, "sign it where the assigner's key is: selvedge experiment sign {id} --key FILE.age")?;
    Ok(())
}

pub(super) fn order(order: &str, args: &OrderArgs) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let id = ask::id(&hub, &args.experiment)?;
    let done = hub.post(&format!("{}/order", ask::path(id)), &json!({ "do": order, "why": args.why }))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&done)?)?;
        return Ok(());
    }
    writeln!(out, "experiment {id} is {}", stands(&done))?;
    Ok(())
}

pub(super) fn ls(args: &Ls) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let mut all = Vec::new();
    ask::each(&hub, |experiment| all.push(experiment.clone()))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    if all.is_empty() {
        writeln!(out, "no experiments yet: `selvedge experiment new MODEL:A MODEL:B --where all` plans one")?;
        return Ok(());
    }
    let columns = ["experiment", "arms", "among", "phase", "what came of it"].map(|name| (name, Side::Left));
    let mut table = Table::new(columns);
    for one in &all {
        let word = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let id: String = word("id").chars().take(12).collect();
        let group: String = word("group").chars().take(40).collect();
        table.row([id, arms(one), group, word("phase").to_owned(), word("verdict").to_owned()]);
    }
    write!(out, "{table}")?;
    Ok(())
}

fn arms(one: &Value) -> String {
    let arms = one.get("arms").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = arms.filter_map(|arm| arm.get("release").and_then(Value::as_str)).collect();
    names.join(" and ")
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let view = hub.get(&ask::path(ask::id(&hub, &args.experiment)?))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
        return Ok(());
    }
    let text = view.get("text").and_then(Value::as_str).unwrap_or_default();
    writeln!(out, "{text}\n\n{}", stands(&view))?;
    Ok(())
}

/// Where it stands, in a few lines.
fn stands(view: &Value) -> String {
    let word = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut lines = word("phase").to_owned();
    for more in [word("verdict"), word("why")].iter().filter(|more| !more.is_empty()) {
        lines += &format!("; {more}");
    }
    for arm in view.get("arms").and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| arm.get(name).and_then(Value::as_str).unwrap_or_default();
        let members = arm.get("members").and_then(Value::as_object).into_iter().flatten();
        let members: Vec<String> = members.map(|(standing, count)| format!("{count} {standing}")).collect();
        let members = if members.is_empty() { "nobody yet".to_owned() } else { members.join(", ") };
        let figures = arm.get("figures").and_then(Value::as_u64).unwrap_or_default();
        lines += &match word("name") {
            "shadow" => format!("\n  {} beside what runs: {members}; {figures} nodes told", word("release")),
            name => format!("\n  arm {name}, {}: {members}; {figures} figures", word("release")),
        };
    }
    if let Some(text) = view.pointer("/interval/text").and_then(Value::as_str) {
        lines += &format!("\n  {text}");
    }
    lines += &view.get("compared").map(compared).unwrap_or_default();
    for warning in ask::words(view, "warnings") {
        lines += &format!("\n  beware: {warning}");
    }
    for need in ask::words(view, "needs") {
        lines += &format!("\n  it waits for {need}");
    }
    lines
}

/// What was compared of a release that answers beside what runs, and where it parts the most.
fn compared(view: &Value) -> String {
    let count = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
    if view.is_null() {
        return String::new();
    }
    let parted = |of: &Value| count(of, "compared").saturating_sub(count(of, "agreed"));
    let mut lines = format!(
        "\n  {} of {} answers were compared, {} part, {} were passed over; it took {:.1} s of a core",
        count(view, "compared"),
        count(view, "enough"),
        parted(view),
        count(view, "skipped"),
        count(view, "busy_ms") as f64 / 1e3,
    );
    if let Some(rests_on) = view.get("rests_on").and_then(Value::as_str) {
        lines += &format!("\n  {} nodes told of them; a verdict rests on {rests_on}", count(view, "nodes"));
    }
    for node in view.get("worst").and_then(Value::as_array).into_iter().flatten() {
        let name = node.get("node").and_then(Value::as_str).unwrap_or_default();
        lines += &format!("\n    {name}: {} of {} part", parted(node), count(node, "compared"));
    }
    lines
}
