//! What a plan would do, how rollouts stand, what differs between two plans.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use hub::rollout::text;
use serde_json::Value;

use super::ask;
use crate::hub_client::{HubArgs, HubClient};
use crate::table::{Side, Table};

/// How often a rollout that is watched is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Show what a plan would do to the fleet as it is now.
#[derive(clap::Args)]
pub(crate) struct Preview {
    /// A file with the plan, or the id of a rollout.
    plan: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Give a plan to the hub. Nothing moves before its documents are signed and somebody starts it.
#[derive(clap::Args)]
pub(crate) struct Create {
    /// The plan, as `selvedge rollout new` wrote it.
    plan: PathBuf,

    #[command(flatten)]
    hub: HubArgs,

    /// Print how the rollout stands as JSON.
    #[arg(long)]
    json: bool,
}

/// List rollouts, the newest first.
#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Show how a rollout stands, and what it waits for.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The rollout: its id, or the first digits of it.
    rollout: String,

    /// Show each change until it ends or waits for a person.
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Show what differs between two plans.
#[derive(clap::Args)]
pub(crate) struct Diff {
    /// A file with a plan, or the id of a rollout.
    old: String,

    /// Another one.
    new: String,

    #[command(flatten)]
    hub: HubArgs,
}

pub(super) fn preview(args: &Preview) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let plan = ask::plan(&hub, &args.plan)?;
    let shown = hub.post("/api/v1/plans", &serde_json::from_slice(&text::write(&plan))?)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(());
    }
    write!(out, "{}", previewed(&shown))?;
    Ok(())
}

/// A preview as the hub tells it: what would be done, and what stands in the way.
pub(super) fn previewed(shown: &Value) -> String {
    let word = |name: &str| shown.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut lines = format!("{}\n\n{}", word("text"), word("preview"));
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    for problem in ask::words(shown, "problems") {
        lines += &format!("it cannot go about like this: {problem}\n");
    }
    lines
}

pub(super) fn create(args: &Create) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let plan = ask::read_plan(&args.plan)?;
    let made = hub.post("/api/v1/rollouts", &serde_json::from_slice(&text::write(&plan))?)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&made)?)?;
        return Ok(());
    }
    let id = text::id(&plan);
    writeln!(out, "the hub has rollout {id}")?;
    writeln!(out, "sign it where the assigner's key is: selvedge rollout sign {id} --key FILE.age")?;
    Ok(())
}

pub(super) fn ls(args: &Ls) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let mut rollouts = Vec::new();
    ask::each(&hub, |rollout| rollouts.push(rollout.clone()))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rollouts)?)?;
        return Ok(());
    }
    if rollouts.is_empty() {
        writeln!(out, "no rollouts yet: `selvedge rollout new MODEL:RELEASE --where all` plans one")?;
        return Ok(());
    }
    let columns = [
        ("rollout", Side::Left),
        ("what", Side::Left),
        ("to", Side::Left),
        ("phase", Side::Left),
        ("wave", Side::Left),
    ];
    let mut table = Table::new(columns);
    for rollout in &rollouts {
        let word = |name: &str| rollout.get(name).and_then(Value::as_str).unwrap_or_default();
        let id: String = word("id").chars().take(12).collect();
        let group: String = word("group").chars().take(40).collect();
        let what = ask::words(rollout, "what").join(", ");
        table.row([id, what, group, word("phase").to_owned(), wave(rollout)]);
    }
    write!(out, "{table}")?;
    Ok(())
}

fn wave(rollout: &Value) -> String {
    let number = |name: &str| rollout.get(name).and_then(Value::as_u64).unwrap_or_default();
    match number("wave") {
        0 => "–".to_owned(),
        wave => format!("{wave} of {}", number("waves")),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let path = ask::path(ask::id(&hub, &args.rollout)?);
    let mut out = io::stdout().lock();
    let view = hub.get(&path)?;
    if args.json && !args.watch {
        let evidence = hub.get(&format!("{path}/evidence"))?;
        let whole = serde_json::json!({ "rollout": view, "evidence": evidence });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(());
    }
    let word = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
    if !args.json {
        writeln!(out, "{}\n\n{}", word("text"), stands(&view))?;
        write!(out, "{}", gate(&hub, &path)?)?;
    }
    if !args.watch {
        return Ok(());
    }
    let mut last = view;
    loop {
        let word = |name: &str| last.get(name).and_then(Value::as_str).unwrap_or_default();
        if ["done", "aborted", "reverted", "draft", "held", "paused"].contains(&word("phase")) {
            return Ok(());
        }
        hub.pause(LOOK_EVERY)?;
        let view = hub.get(&path)?;
        if view.get("revision") != last.get("revision") {
            if args.json {
                writeln!(out, "{}", serde_json::to_string(&view)?)?;
            } else {
                writeln!(out, "{}", stands(&view))?;
            }
            out.flush()?;
        }
        last = view;
    }
}

/// Where it stands, in a line or two.
fn stands(view: &Value) -> String {
    let word = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
    let members = view.get("members").and_then(Value::as_object).into_iter().flatten();
    let members: Vec<String> = members
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(standing, count)| format!("{count} {standing}"))
        .collect();
    let mut line = word("phase").to_owned();
    if view.get("wave").and_then(Value::as_u64).is_some_and(|wave| wave > 0) {
        line += &format!(", wave {}", wave(view));
    }
    for more in [members.join(", "), word("why").to_owned()].iter().filter(|more| !more.is_empty()) {
        line += &format!("; {more}");
    }
    for need in ask::words(view, "needs") {
        line += &format!("\n  it waits for {need}");
    }
    line
}

/// What the open gate says.
fn gate(hub: &HubClient, path: &str) -> anyhow::Result<String> {
    let evidence = hub.get(&format!("{path}/evidence"))?;
    let Some(now) = evidence.get("now").and_then(Value::as_str) else { return Ok(String::new()) };
    let mut lines = format!("the gate {now}:\n");
    for line in ask::words(&evidence, "why") {
        lines += &format!("  {line}\n");
    }
    Ok(lines)
}

pub(super) fn diff(args: &Diff) -> anyhow::Result<()> {
    let hub = args.hub.client()?;
    let (old, new) = (ask::plan(&hub, &args.old)?, ask::plan(&hub, &args.new)?);
    let text = text::diff(&old, &new);
    let mut out = io::stdout().lock();
    if text.is_empty() {
        writeln!(out, "they say the same")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(())
}
