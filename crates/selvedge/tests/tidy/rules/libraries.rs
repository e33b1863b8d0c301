//! Libraries stay on their floor: IO from the fourth up, the command line in the binary, and no way from the hub to a
//! model runtime.

use std::collections::BTreeSet;

use crate::tidy::house::House;
use crate::tidy::mentions;
use crate::tidy::page::matches;
use crate::tidy::source::Folder;
use crate::tidy::violation::Violation;

/// The lowest floor that may do IO.
const IO_FLOOR: u32 = 4;

/// Async, HTTP, TLS, SQL and the command line.
const IO: [&str; 23] = [
    "async-opcua",
    "axum",
    "clap",
    "hyper",
    "hyper-util",
    "libsqlite3-sys",
    "mqtt-v4",
    "mqtt-v5",
    "parquet",
    "rcgen",
    "reqwest",
    "rmcp",
    "rusqlite",
    "rustls",
    "serial2-tokio",
    "sqlx",
    "tokio",
    "tokio-modbus",
    "tokio-rustls",
    "tokio-util",
    "tower",
    "tower-http",
    "ureq",
];

/// What only the binary needs: it is where a person looks.
const BINARY_ONLY: [&str; 5] = ["anyhow", "clap", "clap_complete", "indicatif", "miette"];
const BINARY: &str = "selvedge";

/// The node's local API, its HTTP source, and its server of language models.
const NODE_API: [&str; 3] =
    ["crates/node/src/api*", "crates/node/src/serve*", "crates/node/src/source/http*"];

/// Crates that must not reach others, even through others, and why.
const APART: [(&str, &[&str], &str); 4] = [
    ("hub", &["kernels", "lm", "net"], "the hub moves models, it does not run them"),
    ("hub", &["node", "forge"], "they meet in `wire`"),
    ("node", &["hub", "forge"], "they meet in `wire`"),
    ("forge", &["hub", "node"], "they meet in `wire`"),
];

/// Dependencies on the wrong floor, axum where no door is, and ways through the table that must not be.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = dependencies(house);
    found.extend(axum_in_the_node(house));
    found.extend(ways(house));
    found
}

fn dependencies(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in &house.crates {
        let floor = house.row(&part.name).map_or(IO_FLOOR, |row| row.floor);
        for dependency in &part.manifest.dependencies {
            let library = house.package(dependency);
            let mut say = |wrong: String, mend: &str| {
                found.push(Violation::at(&part.manifest.path, dependency.line, wrong, mend));
            };
            if IO.contains(&library) && floor < IO_FLOOR {
                let mend = "leave the IO to floor 4 and take its result as a value or a trait";
                say(format!("`{library}` on floor {floor}, below floor {IO_FLOOR}"), mend);
            }
            if BINARY_ONLY.contains(&library) && part.name != BINARY {
                let mend = "give an error type or a plain value and let the binary show it";
                say(format!("`{library}` outside the binary"), mend);
            }
            // Tests of the binary may play the other side of the wire.
            let plays = dependency.dev && part.name == BINARY;
            if library == "axum"
                && !["hub", "node"].contains(&part.name.as_str())
                && !plays
                && floor >= IO_FLOOR
            {
                say("`axum` outside `hub` and `node`".into(), "open the door in one of them");
            }
        }
    }
    found
}

/// In the node, HTTP comes in through the local API, the server and the HTTP source only. Its tests may play a hub.
fn axum_in_the_node(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in house.crates.iter().filter(|part| part.name == "node") {
        for mention in mentions::of(part) {
            let source = &part.sources[mention.file];
            let is_door = NODE_API.iter().any(|door| matches(door, &source.path));
            let is_test = mention.test || source.folder != Folder::Src;
            if mention.library() == Some("axum") && !is_door && !is_test {
                let wrong = format!("`{}` outside the node's doors", mention.written.join("::"));
                let mend = "keep HTTP in `api*`, `serve*` and `source/http*`, and hand on plain values";
                found.push(Violation::at(&source.path, mention.line, wrong, mend));
            }
        }
    }
    found
}

fn ways(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for (from, never, why) in APART {
        let Some(row) = house.row(from) else { continue };
        for to in never {
            if let Some(way) = way(house, from, to, &mut BTreeSet::new()) {
                let wrong = format!("`{from}` reaches `{to}`: {}", way.join(" → "));
                found.push(Violation::at(&house.page.path, row.line, wrong, format!("cut the way, {why}")));
            }
        }
    }
    found
}

/// A way through the table, with both ends.
fn way(house: &House, from: &str, to: &str, seen: &mut BTreeSet<String>) -> Option<Vec<String>> {
    if from == to {
        return Some(vec![to.to_owned()]);
    }
    let next = &house.row(from).filter(|_| seen.insert(from.to_owned()))?.may_import;
    let rest = next.iter().find_map(|next| way(house, next, to, seen))?;
    Some([from.to_owned()].into_iter().chain(rest).collect())
}
