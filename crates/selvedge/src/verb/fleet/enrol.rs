//! `selvedge fleet enrol`, `tickets`, `admit`, `refuse`, `deny`: who comes in, and who stays out.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde_json::{Map, Value, json};
use wire::hash::Hash;
use wire::world::{Clock as _, System};

use super::label::pair;
use crate::amount::show_ago;
use crate::complaint::Usage;
use crate::hub_client::{HubArgs, number, path, word};
use crate::recording::show_time;
use crate::table::{Side, Table, clipped};

/// Make a code that lets a node in, or a token for several.
///
/// The code is shown here and nowhere else. It also tells the node which hub is the true one, so nobody copies certificates.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge fleet enrol --name pump-7                          counts once, for an hour
  selvedge fleet enrol --name pump-7 --replace                puts another device in its place
  selvedge fleet enrol --token --uses 50 --label site=oslo    for fifty nodes")]
pub(crate) struct Args {
    /// What the node will be called; without it what it asks for.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    name: Option<String>,

    /// Make a token, for several nodes.
    #[arg(long, requires = "uses")]
    token: bool,

    /// For how many nodes.
    #[arg(long, value_name = "N", requires = "token", value_parser = clap::value_parser!(u32).range(2..))]
    uses: Option<u32>,

    /// What the nodes of a token may be called: a name with at most one * in it.
    #[arg(long, value_name = "PATTERN", requires = "token")]
    pattern: Option<String>,

    /// A label that each node gets; several if need be.
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,

    /// Whether somebody admits each node; unless told, those of a token.
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    approve: Option<bool>,

    /// For how many minutes; an hour unless told.
    #[arg(long, value_name = "N")]
    minutes: Option<u32>,

    /// A node of that name may be replaced; its keys are denied then.
    #[arg(long, requires = "name")]
    replace: bool,

    #[command(flatten)]
    hub: HubArgs,

    /// Print the code as JSON.
    #[arg(long)]
    json: bool,
}

fn yes_or_no(word: &str) -> Result<bool, String> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("say yes or no".to_owned()),
    }
}

/// List the nodes that wait to be let in.
#[derive(clap::Args)]
pub(crate) struct Tickets {
    /// Also those that somebody has said something about.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Order {
    /// The ticket, as `selvedge fleet tickets` lists it.
    ticket: String,

    /// Why; it stands in the audit log.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    #[command(flatten)]
    hub: HubArgs,

    /// Print what became of it as JSON.
    #[arg(long)]
    json: bool,
}

/// Keep a node out, or one key. What runs on the node goes on.
#[derive(clap::Args)]
pub(crate) struct Deny {
    /// The node's name, or the id of a key, 64 digits.
    #[arg(value_name = "NODE|KEY")]
    whom: String,

    /// Why; it stands in the audit log.
    #[arg(long, value_name = "WORDS", default_value = "")]
    why: String,

    #[command(flatten)]
    hub: HubArgs,
}

/// What is asked of the hub: only what was said, so that an older hub understands it, too.
fn asked(args: &Args) -> Value {
    let mut ask = Map::new();
    let mut say = |name: &str, value: Option<Value>| ask.extend(value.map(|value| (name.to_owned(), value)));
    let labels: BTreeMap<&String, &String> =
        args.labels.iter().map(|(label, value)| (label, value)).collect();
    say("name", args.name.clone().map(Value::from));
    say("uses", args.uses.map(Value::from));
    say("pattern", args.pattern.clone().map(Value::from));
    say("labels", (!labels.is_empty()).then(|| json!(labels)));
    say("approve", args.approve.map(Value::from));
    say("minutes", args.minutes.map(Value::from));
    say("replace", args.replace.then_some(Value::Bool(true)));
    Value::Object(ask)
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let made = args.hub.client()?.post(&path(&["enrolments"]), &asked(args))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&made)?)?;
        return Ok(());
    }
    let whom = match (&args.name, args.uses) {
        (Some(name), _) => name.clone(),
        (None, Some(uses)) => format!("{uses} nodes"),
        (None, None) => "one node".to_owned(),
    };
    writeln!(out, "{}\n", word(&made, "code"))?;
    writeln!(
        out,
        "it lets {whom} in, until {} UTC; it is shown here only",
        show_time(number(&made, "until_ms"))
    )?;
    writeln!(out, "there: selvedge node enrol --hub https://… --code {}", word(&made, "code"))?;
    if made.get("approve").and_then(Value::as_bool) == Some(true) {
        writeln!(
            out,
            "each waits for somebody: `selvedge fleet tickets`, then `selvedge fleet admit TICKET`"
        )?;
    }
    writeln!(out, "its number is {}: DELETE /api/v1/enrolments/{0} takes it back", word(&made, "id"))?;
    Ok(())
}

pub(super) fn tickets(args: &Tickets) -> anyhow::Result<()> {
    let all = args.all.then(|| ("all", "true".to_owned()));
    let tickets = args.hub.client()?.find(&path(&["tickets"]), all.as_slice())?;
    let tickets = tickets.as_array().map_or(&[][..], Vec::as_slice);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(tickets)?)?;
        return Ok(());
    }
    if tickets.is_empty() {
        writeln!(out, "nobody waits")?;
        return Ok(());
    }
    let columns = [
        ("ticket", Side::Left),
        ("node", Side::Left),
        ("stands", Side::Left),
        ("asked", Side::Left),
        ("key", Side::Left),
        ("labels", Side::Left),
    ];
    let (mut table, now_ms) = (Table::new(columns), System::new().wall_ms());
    for ticket in tickets {
        let labels = ticket.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
        table.row([
            word(ticket, "id").to_owned(),
            clipped(word(ticket, "node"), 22),
            word(ticket, "state").to_owned(),
            show_ago(now_ms.saturating_sub(number(ticket, "made_ms"))),
            clipped(word(ticket, "key"), 13),
            clipped(&labels.collect::<Vec<_>>().join(" "), 18),
        ]);
    }
    write!(out, "{table}")?;
    writeln!(
        out,
        "the device shows the same key while it waits: compare before `selvedge fleet admit TICKET`"
    )?;
    Ok(())
}

pub(super) fn order(order: &str, args: &Order) -> anyhow::Result<()> {
    let at = path(&["tickets", &args.ticket, order]);
    let ticket = args.hub.client()?.post(&at, &json!({ "why": args.why }))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&ticket)?)?;
        return Ok(());
    }
    writeln!(out, "{} is {}", word(&ticket, "node"), word(&ticket, "state"))?;
    Ok(())
}

pub(super) fn deny(args: &Deny) -> anyhow::Result<()> {
    let what = if Hash::parse(&args.whom).is_some() { "key" } else { "node" };
    let ask = json!({ what: args.whom, "why": args.why });
    let done = args.hub.client()?.post(&path(&["denied"]), &ask)?;
    let keys = number(&done, "keys");
    if keys == 0 {
        return Err(Usage(format!("there is no {what} {} that is not out already", args.whom)).into());
    }
    let keys = if keys == 1 { "1 key is".to_owned() } else { format!("{keys} keys are") };
    writeln!(io::stdout(), "{keys} out from the next request on; what runs on the node goes on")?;
    Ok(())
}
