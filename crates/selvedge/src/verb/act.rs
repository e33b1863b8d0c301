//! `selvedge act`: people set the actuators of the node that runs on this machine.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use node::act::door::{self, Answer, Ask, Asker, View};
use node::config::Config;
use node::config::quantity::{duration_ms, show_duration};
use wire::body::act::{Outcome, Receipt, Setting};
use wire::id::PartName;

use crate::complaint::Usage;
use crate::table::{Side, Table};

/// Set an actuator of the node that runs here, for a while; its envelope holds for people, too.
///
/// A person's word goes before that of rules and agents. It ends by itself after `--for`, and then the rules have theirs again. Nothing
/// is done outside of what the flow declares, and everything is journalled, what was refused as well.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  selvedge act valve closed --for 10m --why \"a leak at the north gate\"
  selvedge act fan 40 --why \"too loud\"             for a lease of the fan
  selvedge act release valve                       take it back before its time
  selvedge act ls                                  all actuators, and whose word stands"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Which actuator.
    #[arg(required = true)]
    actuator: Option<PartName>,

    /// One of its values, or a number of its range.
    #[arg(required = true, allow_negative_numbers = true)]
    to: Option<String>,

    /// For how long, such as `10m`; without it for one lease of the actuator.
    #[arg(long = "for", value_name = "DURATION", value_parser = read_duration)]
    for_ms: Option<u64>,

    /// Why: it stands in the journal.
    #[arg(long, required = true)]
    why: Option<String>,

    #[command(flatten)]
    node: Node,
}

/// What else people do with actuators.
#[derive(clap::Subcommand)]
enum Verb {
    /// Show all actuators: what they are set to, and whose word stands.
    Ls {
        #[command(flatten)]
        node: Node,

        /// Print all that is known as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take your word back before it ends.
    Release {
        /// Which actuator.
        actuator: PartName,

        #[command(flatten)]
        node: Node,
    },
}

/// The node that runs on this machine, and who asks.
#[derive(clap::Args)]
struct Node {
    /// The node's settings, which say where its data is.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Its data folder, if its settings are not at hand.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,

    /// Who asks, for the journal.
    #[arg(long, value_name = "NAME", env = "USER", default_value = "somebody")]
    who: String,
}

impl Node {
    fn ask(&self, question: &Ask) -> anyhow::Result<Answer> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => Config::load_without_flow(&self.config)?.data,
        };
        match door::ask(&data, question)? {
            Answer::Refused { why } => bail!(why),
            answer => Ok(answer),
        }
    }
}

fn read_duration(text: &str) -> Result<u64, String> {
    duration_ms(text).map(i64::unsigned_abs)
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match &args.verb {
        Some(Verb::Ls { node, json }) => return list(node, *json, &mut out),
        Some(Verb::Release { actuator, node }) => {
            let (actuator, who, asker) = (actuator.clone(), node.who.clone(), Asker::Person);
            node.ask(&Ask::Release { actuator: actuator.clone(), who, asker })?;
            return Ok(writeln!(out, "{actuator}: the word of {} is taken back", node.who)?);
        }
        None => {}
    }
    let (Some(actuator), Some(to), Some(why)) = (&args.actuator, &args.to, &args.why) else {
        return Err(Usage("say which actuator, what it is set to, and --why".to_owned()).into());
    };
    let setting = setting(&args.node, actuator, to)?;
    let question = Ask::Set {
        actuator: actuator.clone(),
        to: setting.clone(),
        for_ms: args.for_ms,
        why: why.clone(),
        who: args.node.who.clone(),
        asker: Asker::Person,
    };
    let Answer::Told { outcome, why, receipt, for_ms } = args.node.ask(&question)? else {
        bail!("the node answers with something else; is it of this version?");
    };
    let stands = for_ms.map_or_else(String::new, |ms| {
        format!(", for {}", show_duration(i64::try_from(ms).unwrap_or(i64::MAX)))
    });
    match outcome {
        Outcome::Done => writeln!(out, "{actuator} is set to {setting}{stands}{}", said(receipt.as_ref()))?,
        Outcome::Dry => {
            writeln!(
                out,
                "{actuator} would be set to {setting}{stands}: it is on a dry run, nothing was done"
            )?;
        }
        Outcome::Waits | Outcome::Refused | Outcome::Failed | Outcome::Over => {
            bail!("{actuator} is not set to {setting}: {why}")
        }
    }
    Ok(())
}

/// A number where the actuator takes numbers, a word where it takes words.
fn setting(node: &Node, actuator: &PartName, to: &str) -> anyhow::Result<Setting> {
    let Answer::List { actuators } = node.ask(&Ask::List)? else {
        bail!("the node answers with something else; is it of this version?");
    };
    let is_number = actuators
        .iter()
        .find(|view| view.actuator == *actuator)
        .is_some_and(|view| matches!(view.safe, Setting::Number(_)));
    match to.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Ok(Setting::Number(number)),
        _ => Ok(Setting::Word(to.to_owned())),
    }
}

/// What the device says of it.
fn said(receipt: Option<&Receipt>) -> String {
    match receipt {
        Some(Receipt { read: Some(read), took_ms, .. }) => format!("; it says {read}, after {took_ms} ms"),
        Some(Receipt { set, read: None, .. }) => format!("; it took {set}, and cannot be asked"),
        None => String::new(),
    }
}

fn list(node: &Node, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Answer::List { actuators } = node.ask(&Ask::List)? else {
        bail!("the node answers with something else; is it of this version?");
    };
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&actuators)?)?);
    }
    let mut table =
        Table::new([("actuator", Side::Left), ("is", Side::Left), ("safe", Side::Left), ("", Side::Left)]);
    for view in &actuators {
        let unit = view.unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
        let at = view.at.as_ref().map_or_else(|| "unknown".to_owned(), |at| format!("{at}{unit}"));
        let safe = format!("{}{unit}", view.safe);
        table.row([view.actuator.to_string(), at, safe, state(view)]);
    }
    Ok(write!(out, "{table}")?)
}

fn state(view: &View) -> String {
    let mut words = Vec::new();
    if view.dry_run {
        words.push("dry run".to_owned());
    }
    if let Some(holder) = &view.holder {
        let left = view.for_ms.map_or_else(String::new, |ms| {
            format!(", {} left", show_duration(i64::try_from(ms).unwrap_or(i64::MAX)))
        });
        words.push(format!("the word of {holder} stands{left}"));
    }
    if let Some(toward) = view.toward.as_ref().filter(|toward| Some(*toward) != view.at.as_ref()) {
        words.push(format!("on its way to {toward}"));
    }
    if !view.may_act {
        words.push("its interlock does not hold".to_owned());
    }
    if let Some(trouble) = &view.trouble {
        words.push(format!("trouble: {trouble}"));
    }
    words.join("; ")
}
