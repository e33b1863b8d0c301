//! `selvedge release`: what is approved at a hub, what it is made of, and which nodes could take it.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde_json::Value;

use crate::amount::{show_bytes, show_number};
use crate::complaint::Usage;
use crate::hub_client::{HubArgs, list, number, path, word};
use crate::recording::show_count;
use crate::table::{Side, Table, clipped};

/// Look at the releases that are approved at a hub.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Ls(Ls),
    Show(Show),
    Coverage(Coverage),
}

/// List the approved releases.
#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    hub: HubArgs,

    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Show a release: its variants, what they ask for, who approved it.
#[derive(clap::Args)]
pub(crate) struct Show {
    /// The release: smollm2:7.
    #[arg(value_name = "MODEL:RELEASE", value_parser = release)]
    release: (String, u64),

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Show which nodes could take a release, by what they say of themselves, and why others could not.
#[derive(clap::Args)]
pub(crate) struct Coverage {
    /// The release: smollm2:7.
    #[arg(value_name = "MODEL:RELEASE", value_parser = release)]
    release: (String, u64),

    /// Only of nodes that this expression means.
    #[arg(value_name = "WHERE")]
    selector: Option<String>,

    #[command(flatten)]
    hub: HubArgs,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

fn release(word: &str) -> Result<(String, u64), String> {
    let parts =
        word.rsplit_once(':').and_then(|(model, number)| Some((model.to_owned(), number.parse().ok()?)));
    parts.ok_or_else(|| "it reads like smollm2:7".to_owned())
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let (told, as_json, shown) = match verb {
        Verb::Ls(args) => {
            let all = args.hub.client()?.get(&path(&["releases"]))?;
            let shown = listed(&all);
            (all, args.json, shown)
        }
        Verb::Show(args) => {
            let (model, number) = &args.release;
            let one = args.hub.client()?.get(&path(&["releases", model, &number.to_string()]))?;
            let shown = card(&one);
            (one, args.json, shown)
        }
        Verb::Coverage(args) => {
            let (model, number) = &args.release;
            let at = path(&["releases", model, &number.to_string(), "coverage"]);
            let selector = args.selector.clone().map(|selector| ("where", selector));
            let told = args.hub.client()?.find(&at, selector.as_slice())?;
            if number_of(&told)? == 0 {
                return Err(Usage("no node is meant by that".to_owned()).into());
            }
            let shown = covered(&told);
            (told, args.json, shown)
        }
    };
    match as_json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?,
        false => write!(out, "{shown}")?,
    }
    Ok(())
}

fn number_of(coverage: &Value) -> anyhow::Result<u64> {
    coverage.get("nodes").and_then(Value::as_u64).context("the hub does not say how many nodes there are")
}

fn listed(all: &Value) -> String {
    let releases = list(all, "releases");
    if releases.is_empty() {
        let why = match all.get("targets_version").and_then(Value::as_u64) {
            Some(version) => format!("the published targets, version {version}, list no release"),
            None => "no targets are published".to_owned(),
        };
        return format!("{why}: `selvedge trust add` approves one, `selvedge trust push` publishes that\n");
    }
    let columns = [
        ("release", Side::Left),
        ("nodes", Side::Right),
        ("index", Side::Left),
        ("approved by", Side::Left),
        ("", Side::Left),
    ];
    let mut table = Table::new(columns);
    for one in releases {
        let here = one.get("here").and_then(Value::as_bool).unwrap_or(false);
        table.row([
            clipped(&format!("{}:{}", word(one, "model"), number(one, "release")), 36),
            show_count(number(one, "nodes").max(0) as u64),
            clipped(word(one, "index"), 13),
            clipped(word(one, "role"), 18),
            if here { String::new() } else { "not pushed here".to_owned() },
        ]);
    }
    table.to_string()
}

fn card(one: &Value) -> String {
    let mut lines = format!("{}:{}\n", word(one, "model"), number(one, "release"));
    let mut facts = Table::plain([Side::Left, Side::Left]).indented(2);
    let nodes = show_count(number(one, "nodes").max(0) as u64);
    facts.row(["runs on", &format!("{nodes} nodes")]);
    let signers: Vec<String> =
        list(one, "signed_by").iter().filter_map(Value::as_str).map(|key| clipped(key, 13)).collect();
    facts.row(["approved by", &format!("role {}, {}", word(one, "role"), signers.join(" "))]);
    for (name, key) in [("licence", "licence"), ("made", "created"), ("index", "index")] {
        if let Some(text) = one.get(key).and_then(Value::as_str) {
            facts.row([name, &clipped(text, 80)]);
        }
    }
    let provenance = match number(one, "provenance") {
        0 => "nobody says who made it".to_owned(),
        count => format!("{count} bundles say who made it"),
    };
    facts.row(["provenance", &provenance]);
    lines += &facts.to_string();
    let columns = [
        ("variant", Side::Left),
        ("kind", Side::Left),
        ("memory", Side::Right),
        ("disk", Side::Right),
        ("processor", Side::Left),
        ("quality", Side::Left),
        ("golden", Side::Right),
    ];
    let mut table = Table::new(columns).indented(2);
    for one in list(one, "variants") {
        let bytes = |name: &str| show_bytes(number(one, name).max(0) as u64);
        let isa: Vec<&str> = list(one, "isa").iter().filter_map(Value::as_str).collect();
        let quality = one.get("quality").filter(|quality| quality.is_object());
        let quality = quality.map(|quality| {
            let value = quality.get("value").and_then(Value::as_f64).unwrap_or_default();
            format!("{} {}", word(quality, "metric"), show_number(value))
        });
        let golden = one.get("golden").and_then(|golden| golden.get("cases")).and_then(Value::as_u64);
        let kind = format!("{}/{}", word(one, "kind"), word(one, "runtime"));
        let sealed = one.get("sealed").and_then(Value::as_bool).unwrap_or(false);
        table.row([
            clipped(word(one, "variant"), 18),
            clipped(&if sealed { format!("{kind} sealed") } else { kind }, 14),
            bytes("ram_bytes"),
            bytes("disk_bytes"),
            if isa.is_empty() { "any".to_owned() } else { clipped(&isa.join(" "), 18) },
            quality.map_or_else(|| "not measured".to_owned(), |quality| clipped(&quality, 16)),
            golden.map_or_else(|| "–".to_owned(), |cases| cases.to_string()),
        ]);
    }
    lines + "\n" + &table.to_string()
}

fn covered(told: &Value) -> String {
    let nodes = number(told, "nodes").max(1);
    let share = |count: i64| format!("{:.1} %", count as f64 * 100.0 / nodes as f64);
    let mut table = Table::new([("takes", Side::Left), ("nodes", Side::Right), ("", Side::Right)]);
    for one in list(told, "variants") {
        let count = number(one, "nodes");
        table.row([clipped(word(one, "variant"), 40), count.to_string(), share(count)]);
    }
    let none = number(told, "none");
    if none > 0 {
        table.row(["none".to_owned(), none.to_string(), share(none)]);
    }
    let mut lines = table.to_string();
    if none > 0 {
        lines += "\nwhy they take none, by the variant that they lack least of:\n";
        let mut table = Table::plain([Side::Right, Side::Left, Side::Left]).indented(2);
        for one in list(told, "lacks") {
            let reason = clipped(word(one, "reason"), 60);
            table.row([number(one, "nodes").to_string(), clipped(word(one, "variant"), 18), reason]);
        }
        lines += &table.to_string();
        if let Some(find) = list(told, "lacks").iter().find_map(|one| one.get("find").and_then(Value::as_str))
        {
            lines += &format!("find the first of them:\n  selvedge fleet ls '{find}'\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn releases_read_as_model_and_number() {
        assert_eq!(release("team/smollm2:7"), Ok(("team/smollm2".into(), 7)));
        assert!(release("smollm2").is_err() && release("smollm2:x").is_err());
    }

    #[test]
    fn coverage_says_how_many_and_why_not() {
        let told = json!({"nodes": 4, "none": 1, "variants": [{"variant": "q4", "nodes": 3}],
            "lacks": [{"variant": "q4", "reason": "less than 1 MiB memory", "find": "!(ram >= 1000)", "nodes": 1}]});
        let shown = covered(&told);
        assert!(shown.contains("q4         3  75.0 %") && shown.contains("none       1  25.0 %"), "{shown}");
        assert!(shown.contains("  1  q4  less than 1 MiB memory\n"), "{shown}");
        assert!(shown.contains("selvedge fleet ls '!(ram >= 1000)'"), "{shown}");
    }
}
