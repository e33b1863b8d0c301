//! Rules between crates, broken one by one: arrows, libraries, manifests, pages.

use crate::tidy::broken::breaks;

const ARROW: &str = "an arrow that is not in the crate table: \
                     move what both need to a crate below, or decide on the arrow in ARCHITECTURE.md";

#[test]
fn an_arrow_that_is_not_in_the_table() {
    let check = |changes: &[_], place: &str, from: &str, to: &str| {
        breaks("arrows", changes, &[&format!("{place}: `{from}` imports `{to}`, {ARROW}")]);
    };
    let manifest = "crates/node/Cargo.toml";
    let kernels = "wire = { workspace = true }\nkernels = { workspace = true }";
    check(
        &[(manifest, "wire = { workspace = true }", kernels)],
        "crates/node/Cargo.toml:10",
        "node",
        "kernels",
    );
    let renamed = "wire = { workspace = true }\nfast = { workspace = true, package = \"kernels\" }";
    check(
        &[(manifest, "wire = { workspace = true }", renamed)],
        "crates/node/Cargo.toml:10",
        "node",
        "kernels",
    );
    let on_unix = "serde = { workspace = true }\nkernels = { workspace = true }";
    check(
        &[(manifest, "serde = { workspace = true }", on_unix)],
        "crates/node/Cargo.toml:13",
        "node",
        "kernels",
    );
    // Only the binary's tests see the whole house.
    let for_tests =
        "[target.'cfg(unix)'.dev-dependencies]\nhub.workspace = true\n[target.'cfg(unix)'.dependencies]";
    check(
        &[(manifest, "[target.'cfg(unix)'.dependencies]", for_tests)],
        "crates/node/Cargo.toml:12",
        "node",
        "hub",
    );
    let pump = "crates/node/src/source/pump.rs";
    check(
        &[(pump, "world::System;", "kernels::load;")],
        "crates/node/src/source/pump.rs:6",
        "node",
        "kernels",
    );
    // Names of crates that are something else here.
    breaks(
        "arrows",
        &[(pump, "{self, Clock}", "Clock as kernels"), (pump, "source.start(clock)", "kernels::now")],
        &[],
    );
}

#[test]
fn an_arrow_in_code() {
    let check =
        |file: &'static str, old: &'static str, new: &'static str, line: u32, from: &str, to: &str| {
            let expected = format!("{file}:{line}: `{from}` imports `{to}`, {ARROW}");
            breaks("arrows", &[(file, old, new)], &[&expected]);
        };
    let api = "crates/node/src/api.rs";
    check(api, "use axum::Router;", "use axum::Router;\nuse kernels::{load as k};", 4, "node", "kernels");
    check(api, "    let hub = run;", "    let hub = assert!(kernels::load() == 1);", 8, "node", "kernels");
    check(
        api,
        "    let hub = run;",
        "    quote! { use {hub::watch, wire::id}; }\n    let hub = run;",
        8,
        "node",
        "hub",
    );
    check(api, "pub fn signal", "#[serde(with = \"hub::text\")]\npub fn signal", 7, "node", "hub");
    check(api, "use axum::Router;", "extern crate hub;\nuse axum::Router;", 3, "node", "hub");
    check("crates/node/src/source.rs", "use crate::api::signal;", "use hub::signal;", 7, "node", "hub");
    check("crates/node/tests/flow/hub.rs", "    0", "    ::kernels::port()", 4, "node", "kernels");
    check("crates/selvedge/src/main.rs", "node::api::signal", "kernels::load", 4, "selvedge", "kernels");
}

#[test]
fn the_crate_table() {
    let check = |old: &'static str, new: &'static str, expected: &[&str]| {
        breaks("arrows", &[("ARCHITECTURE.md", old, new)], expected);
    };
    let table = "| 1 | `kernels` | arithmetic | – |";
    check(
        table,
        "| 1 | `kernels` | arithmetic | – |\n| 2 | `lm` | language | kernels |",
        &[
            "ARCHITECTURE.md:7: crate `lm` has no folder `crates/lm`: remove the row: an empty room is not architecture",
        ],
    );
    check(
        table,
        "| 1 | `kernels` | arithmetic | wire |",
        &["ARCHITECTURE.md:6: `kernels` on floor 1 may import `wire` on floor 1: \
           arrows go to lower floors: move what both need below them"],
    );
    check(
        table,
        "| 1 | `kernels` | arithmetic | selvedge |",
        &["ARCHITECTURE.md:6: `kernels` on floor 1 may import `selvedge` on floor 5: \
           arrows go to lower floors: move what both need below them"],
    );
    check(
        table,
        "| 1 | `kernels` | arithmetic | blas |",
        &["ARCHITECTURE.md:6: `kernels` may import `blas`, which has no row: add its row, or take it out"],
    );
    check(
        table,
        "| 1 | `kernels` | arithmetic | – |\n| 2 | `kernels` | again | – |",
        &["ARCHITECTURE.md:7: crate `kernels` has two rows: keep one"],
    );
    check(
        "| 1 | `kernels` | arithmetic | – |\n",
        "",
        &["crates/kernels/Cargo.toml:1: crate `kernels` is not in the crate table: \
           add its row, with its floor, to ARCHITECTURE.md"],
    );
}

#[test]
fn a_library_below_its_floor() {
    let check = |file: &'static str, old: &'static str, new: &'static str, expected: &[&str]| {
        breaks("libraries", &[(file, old, new)], expected);
    };
    let (wire, node, hub) = ("crates/wire/Cargo.toml", "crates/node/Cargo.toml", "crates/hub/Cargo.toml");
    let mend = "leave the IO to floor 4 and take its result as a value or a trait";
    check(
        wire,
        "serde.workspace = true",
        "serde.workspace = true\ntokio = { workspace = true }",
        &[&format!("crates/wire/Cargo.toml:10: `tokio` on floor 1, below floor 4: {mend}")],
    );
    // The workspace calls hyper `web`.
    check(
        wire,
        "[dependencies]",
        "[dev-dependencies]\nweb.workspace = true\n[dependencies]",
        &[&format!("crates/wire/Cargo.toml:8: `hyper` on floor 1, below floor 4: {mend}")],
    );
    check(
        node,
        "axum.workspace = true",
        "axum.workspace = true\nclap.workspace = true\nanyhow.workspace = true",
        &[
            "crates/node/Cargo.toml:9: `clap` outside the binary: \
             give an error type or a plain value and let the binary show it",
            "crates/node/Cargo.toml:10: `anyhow` outside the binary: \
             give an error type or a plain value and let the binary show it",
        ],
    );
    check(
        "crates/selvedge/Cargo.toml",
        "node.workspace = true",
        "node.workspace = true\naxum.workspace = true",
        &["crates/selvedge/Cargo.toml:9: `axum` outside `hub` and `node`: open the door in one of them"],
    );
    check(hub, "[package]", "dependencies.axum.workspace = true\n[package]", &[]);
    check(
        "crates/node/src/source/pump.rs",
        "use wire::world::{self, Clock};",
        "use axum::Json;\nuse wire::world::{self, Clock};",
        &["crates/node/src/source/pump.rs:3: `axum::Json` outside the node's doors: \
           keep HTTP in `api*`, `serve*` and `source/http*`, and hand on plain values"],
    );
}

#[test]
fn the_hub_reaches_no_model_runtime() {
    breaks(
        "libraries",
        &[
            (
                "ARCHITECTURE.md",
                "| 4 | `node` | the agent | wire |\n| 4 | `hub` | the control plane | wire |",
                "| 4 | `node` | the agent | wire |\n| 2 | `package` | as it travels | kernels |\n\
                 | 4 | `hub` | the control plane | wire package |",
            ),
            ("crates/package/Cargo.toml", "", "[package]\nname = \"package\"\n[lints]\nworkspace = true\n"),
            ("crates/package/src/lib.rs", "", "//! As it travels.\n"),
        ],
        &["ARCHITECTURE.md:9: `hub` reaches `kernels`: hub → package → kernels: \
           cut the way, the hub moves models, it does not run them"],
    );
}

#[test]
fn node_and_hub_meet_in_wire() {
    breaks(
        "libraries",
        &[
            (
                "ARCHITECTURE.md",
                "| 4 | `hub` | the control plane | wire |",
                "| 5 | `hub` | the control plane | wire node |",
            ),
            ("ARCHITECTURE.md", "| 5 | `selvedge`", "| 6 | `selvedge`"),
        ],
        &["ARCHITECTURE.md:8: `hub` reaches `node`: hub → node: cut the way, they meet in `wire`"],
    );
}

#[test]
fn a_page_that_points_nowhere() {
    let check = |file: &'static str, old: &'static str, new: &'static str, expected: &str| {
        breaks("stations", &[(file, old, new)], &[expected]);
    };
    let mend = "correct the path, or create the file";
    check(
        "ARCHITECTURE.md",
        "`crates/wire/src/world.rs`",
        "`crates/wire/src/clock.rs`",
        &format!("ARCHITECTURE.md:11: `crates/wire/src/clock.rs` does not exist: {mend}"),
    );
    check(
        "ARCHITECTURE.md",
        "each `lib.rs`",
        "each `map.rs`",
        &format!("ARCHITECTURE.md:11: `map.rs` does not exist: {mend}"),
    );
    check(
        "ARCHITECTURE.md",
        "`crates/*/src/`",
        "`crates/*/lib/`",
        &format!("ARCHITECTURE.md:11: `crates/*/lib/` does not exist: {mend}"),
    );
    check(
        "docs/adding-a-source.md",
        "source/<name>.rs",
        "sources/<name>.rs",
        &format!("docs/adding-a-source.md:1: `crates/node/src/sources/<name>.rs` does not exist: {mend}"),
    );
}

#[test]
fn a_dependency_without_its_place_or_reason() {
    let check = |file: &'static str, old: &'static str, new: &'static str, expected: &str| {
        breaks("manifests", &[(file, old, new)], &[expected]);
    };
    let reason = "end its line with `# why it is in the house`";
    check(
        "Cargo.toml",
        "       # every encoding",
        " #",
        &format!("Cargo.toml:9: `serde` has no reason: {reason}"),
    );
    check("Cargo.toml", "] } # HTTP", "] }", &format!("Cargo.toml:5: `axum` has no reason: {reason}"));
    check(
        "Cargo.toml",
        "\"0.4\" # the system's entropy",
        "\"0.4 # no comment\"",
        &format!("Cargo.toml:8: `getrandom` has no reason: {reason}"),
    );
    let mend = "declare it in the root's `[workspace.dependencies]` and write `workspace = true` here";
    check(
        "crates/wire/Cargo.toml",
        "serde.workspace = true",
        "serde = \"1\"",
        &format!("crates/wire/Cargo.toml:9: `serde` is declared outside the workspace: {mend}"),
    );
    check(
        "crates/node/Cargo.toml",
        "serde = { workspace = true }",
        "serde = { version = \"1\", features = [] }",
        &format!("crates/node/Cargo.toml:12: `serde` is declared outside the workspace: {mend}"),
    );
    check(
        "crates/hub/Cargo.toml",
        "lints.workspace = true",
        "lints.rust.unused = \"allow\"",
        "crates/hub/Cargo.toml:1: `hub` does not have the workspace's lints: write `workspace = true` under `[lints]`",
    );
    check(
        "crates/hub/Cargo.toml",
        "name = \"hub\"",
        "name = \"control\"",
        "crates/hub/Cargo.toml:1: package `control` in the folder `crates/hub`: give both one name",
    );
}
