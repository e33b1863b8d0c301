//! Rules within a crate, broken one by one: loops, heads, unsafe, clocks, words, and what cannot be read.

use std::fmt::Write as _;

use crate::tidy::broken::{breaks, house};
use crate::tidy::rules;

const ID: &str = "crates/wire/src/id.rs";
const NUMBER: &str = "crates/wire/src/number.rs";
const WORLD: &str = "crates/wire/src/world.rs";
const SIMULATED: &str = "crates/wire/src/world/simulated.rs";
const PUMP: &str = "crates/node/src/source/pump.rs";

/// The third line of `NUMBER`, for what is added there.
const ONE: &str = "pub const ONE: u8 = 1;";

#[test]
fn a_loop_of_two_files_however_it_is_written() {
    for (change, line) in [
        ("use super::id::age;\npub const ONE: u8 = 1;", 3),
        ("use {std::fmt, crate::{id as name}};\npub const ONE: u8 = 1;", 3),
        ("use crate::{id as name, number};\npub const ONE: u8 = 1;", 3),
        ("\npub const ONE: u8 = super::id::age();", 4),
        ("\npub const ONE: u8 = assert!(1, self::super::id::age());", 4),
        ("\npub const ONE: u8 = crate::id!();", 4),
        ("#[serde(with = \"crate::id\")]\npub const ONE: u8 = 1;", 3),
        ("fn two() {\n    use crate::id;\n    id::age()\n}\npub const ONE: u8 = 1;", 4),
        ("mod inner {\n    pub fn two(_: super::super::id::Age) {}\n}\npub const ONE: u8 = 1;", 4),
        ("impl crate::id::Age<u8> for u8 {}\npub const ONE: u8 = 1;", 3),
    ] {
        let expected = format!(
            "crates/wire/src/id.rs:8: a loop of files, src/id.rs:8 → src/number.rs:{line} → src/id.rs: \
             move what they share into a file of its own that both import"
        );
        breaks("loops", &[(NUMBER, ONE, change)], &[&expected]);
    }
}

#[test]
fn a_parent_that_uses_what_it_contains() {
    let mend = "move what they share into a file of its own that both import";
    let check = |file: &'static str, old: &'static str, new: &'static str, line: u32| {
        let steps = format!("src/world.rs:{line} → src/world/simulated.rs:3 → src/world.rs");
        breaks(
            "loops",
            &[(file, old, new)],
            &[&format!("crates/wire/src/world.rs:{line}: a loop of files, {steps}: {mend}")],
        );
    };
    check(WORLD, "pub trait Clock {", "fn open() -> Simulated {}\npub trait Clock {", 9);
    check(WORLD, "pub trait Clock {", "fn open() {\n    simulated::open()\n}\npub trait Clock {", 10);
    check(WORLD, "pub use simulated::Simulated;", "use simulated::Simulated;", 6);
}

#[test]
fn a_loop_of_three_files_is_told_once() {
    breaks(
        "loops",
        &[
            (NUMBER, ONE, "use crate::world::Clock;\npub const ONE: u8 = 1;"),
            (WORLD, "pub trait Clock {", "use crate::id;\npub trait Clock {"),
        ],
        &["crates/wire/src/id.rs:3: a loop of files, src/id.rs:3 → src/world.rs:9 → src/id.rs: \
           move what they share into a file of its own that both import"],
    );
    let played = "use crate::id::age;\npub struct Simulated;";
    breaks(
        "loops",
        &[
            (ID, "{Clock, Simulated}", "Clock"),
            (ID, "&Simulated", "&Clock"),
            (NUMBER, ONE, "use crate::world::Simulated;\npub const ONE: u8 = 1;"),
            (SIMULATED, "pub struct Simulated;", played),
        ],
        &["crates/wire/src/id.rs:8: a loop of files, \
           src/id.rs:8 → src/number.rs:3 → src/world/simulated.rs:5 → src/id.rs: \
           move what they share into a file of its own that both import"],
    );
}

#[test]
fn a_name_through_the_root() {
    let check = |changes: &[_], written: &str, mend: &str| {
        let expected =
            format!("crates/wire/src/number.rs:3: `{written}` is imported through the crate's root: {mend}");
        breaks("loops", changes, &[&expected]);
    };
    let root = "crates/wire/src/lib.rs";
    let move_it = "move it out of the root, into a file that says what it is";
    check(&[(NUMBER, ONE, "use crate::PROTOCOL as ONE;")], "crate::PROTOCOL", move_it);
    check(&[(NUMBER, ONE, "pub const ONE: u8 = super::PROTOCOL;")], "super::PROTOCOL", move_it);
    check(&[(NUMBER, ONE, "use super::*;")], "super", "name what you need, from the files that define it");
    check(
        &[
            (NUMBER, ONE, "use crate::{world, Clock};"),
            (root, "pub mod world;", "pub mod world;\npub use world::Clock;"),
        ],
        "crate::Clock",
        "import from the file that defines the name, crates/wire/src/world.rs",
    );
    check(
        &[
            (NUMBER, ONE, "use crate::Write;"),
            (root, "pub mod world;", "pub mod world;\nuse std::fmt::Write;"),
        ],
        "crate::Write",
        "import from the library it comes from",
    );
}

#[test]
fn a_file_that_does_not_say_what_it_is_for() {
    let check = |file: &'static str, old: &'static str, new: &'static str, line: u32| {
        let mend = "open it with `//!` and one sentence: its purpose";
        let expected = format!("{file}:{line}: the file does not say what it is for: {mend}");
        breaks("heads", &[(file, old, new)], &[&expected]);
    };
    check("crates/hub/src/lib.rs", "//! The control plane.", "// The control plane.", 1);
    check("crates/hub/src/lib.rs", "//! The control plane.\n", "//! --\n//! The control plane.\n", 1);
    check("crates/hub/src/lib.rs", "//! The control plane.\n", "", 1);
    check("crates/node/benches/speed.rs", "//! Measures.", "#![allow(missing_docs)]\n//! Measures.", 1);
    check("crates/node/tests/flow.rs", "//! Real processes take real time.\n", "", 2);
    check("crates/hub/build.rs", "", "fn main() {}\n", 1);
}

#[test]
fn unsafe_outside_its_rooms() {
    let check = |file: &'static str, old: &'static str, new: &'static str, line: u32| {
        let mend = "write it without, or list the room under `## Unsafe` in ARCHITECTURE.md";
        breaks(
            "unsafety",
            &[(file, old, new)],
            &[&format!("{file}:{line}: `unsafe` outside its rooms: {mend}")],
        );
    };
    check(NUMBER, ONE, "// SAFETY: a reason does not help here.\npub const ONE: u8 = unsafe { 1 };", 4);
    check(NUMBER, ONE, "unsafe impl Send for u8 {}\npub const ONE: u8 = 1;", 3);
    check(NUMBER, ONE, "assert!(1, || unsafe { 1 });\npub const ONE: u8 = 1;", 3);
    check(NUMBER, ONE, "unsafe extern \"C\" {}\npub const ONE: u8 = 1;", 3);
    check(NUMBER, ONE, "#[unsafe(no_mangle)]\npub const ONE: u8 = 1;", 3);
    check(NUMBER, "    use crate::id;", "    unsafe fn id() {}", 7);
    check(
        "crates/node/tests/flow.rs",
        "let begun = Instant::now()",
        "let begun = unsafe { Instant::now() }",
        10,
    );
}

#[test]
fn unsafe_without_its_reason() {
    let check = |file: &'static str, old: &'static str, new: &'static str, expected: &str| {
        breaks("unsafety", &[(file, old, new)], &[expected]);
    };
    let (arch, avx2) = ("crates/kernels/src/arch.rs", "crates/kernels/src/arch/avx2/mod.rs");
    let block = "`unsafe` without its reason: say in a `// SAFETY:` comment right above why it holds";
    let conditions = "`unsafe` without its conditions: say in a `# Safety` section what the caller must keep";
    check(arch, "// SAFETY: the caller says so.", "// It is fine.", &format!("{arch}:12: {block}"));
    check(arch, "says so.\n", "says so.\n\n", &format!("{arch}:13: {block}"));
    check(arch, "/// # Safety", "/// Safety", &format!("{arch}:10: {conditions}"));
    check(avx2, "// SAFETY: aligned above.", "// SAFETY:", &format!("{avx2}:6: {block}"));
    check(
        avx2,
        "macro_rules! load",
        "/// # Safety\nunsafe impl Send for u8 {}\nmacro_rules! load",
        &format!("{avx2}:4: {block}"),
    );
    check(
        "ARCHITECTURE.md",
        "loads and stores",
        "loads and stores\n- `crates/lm/src/map.rs`: the one memory map",
        "ARCHITECTURE.md:18: no file is in the room for unsafe code `crates/lm/src/map.rs`: take the room off the list",
    );
}

#[test]
fn a_clock_or_chance_outside_the_world() {
    let check = |new: &'static str, said: &str| {
        breaks("clocks", &[(PUMP, "    let source = world::System;", new)], &[&format!("{PUMP}:6: {said}")]);
    };
    let clock = "reads a clock: take the time from a `wire::world::Clock`";
    let chance = "draws chance: take it from a `wire::world::Entropy`";
    check("    let source = std::time::SystemTime::now();", &format!("`std::time::SystemTime::now` {clock}"));
    check("    use std::time::Instant as I; let source = I::now();", &format!("`I::now` {clock}"));
    check(
        "    use std::time; let source = assert!(time::Instant::now());",
        &format!("`time::Instant::now` {clock}"),
    );
    check(
        "    let source = then.map(tokio::time::Instant::now);",
        &format!("`tokio::time::Instant::now` {clock}"),
    );
    check(
        "    use std::time::UNIX_EPOCH; let source = UNIX_EPOCH.elapsed();",
        &format!("`UNIX_EPOCH::elapsed` {clock}"),
    );
    check(
        "    let source = vec![std::time::UNIX_EPOCH.elapsed()];",
        &format!("`std::time::UNIX_EPOCH::elapsed` {clock}"),
    );
    check("    let source = jiff::Timestamp::now();", &format!("`jiff::Timestamp::now` {clock}"));
    check("    let source = jiff::Zoned::now();", &format!("`jiff::Zoned::now` {clock}"));
    check("    let source = chrono::Utc::now();", &format!("`chrono::Utc::now` {clock}"));
    check("    let source = getrandom::fill(&mut []);", &format!("`getrandom::fill` {chance}"));
    check("    let source = rand::random();", &format!("`rand::random` {chance}"));
    check("    use rand::{self}; let source = 1;", &format!("`rand` {chance}"));
    check("    let source = thread_rng();", &format!("`thread_rng` {chance}"));
    check("    let source = fastrand::u8(..);", &format!("`fastrand::u8` {chance}"));
    check(
        "    use std::hash::RandomState; let source = RandomState::new();",
        &format!("`RandomState::new` {chance}"),
    );
    check(
        "    std::thread::sleep(source);",
        "`std::thread::sleep` stops a thread: wait on a channel or a condition with a time-out",
    );
}

#[test]
fn tests_read_no_clock_but_instant() {
    let check = |file: &'static str, old: &'static str, new: &'static str, line: u32, written: &str| {
        let mend = "take the time from a `wire::world::Clock`";
        breaks(
            "clocks",
            &[(file, old, new)],
            &[&format!("{file}:{line}: `{written}` reads a clock: {mend}")],
        );
    };
    let flow = "crates/node/tests/flow.rs";
    check(
        flow,
        "let begun = Instant::now();",
        "std::time::SystemTime::now();",
        10,
        "std::time::SystemTime::now",
    );
    check(
        NUMBER,
        "    use crate::id;",
        "    const A: A = std::time::Instant::now();",
        7,
        "std::time::Instant::now",
    );
    check(
        "crates/node/examples/one.rs",
        "",
        "//! One.\n\nfn main() {\n    std::time::Instant::now();\n}\n",
        4,
        "std::time::Instant::now",
    );
}

#[test]
fn a_name_that_says_nothing() {
    let check = |changes: &[_], place: &str, name: &str| {
        let expected = format!("{place}: `{name}` says nothing: name it after the thing it holds");
        breaks("words", changes, &[&expected]);
    };
    let head = "//! Odds and ends.\n";
    let (hub, map) = ("crates/hub/src/lib.rs", "//! The control plane.");
    check(
        &[(hub, map, "//! Map.\nmod util;"), ("crates/hub/src/util.rs", "", head)],
        "crates/hub/src/util.rs:1",
        "util",
    );
    check(
        &[(hub, map, "//! Map.\nmod http_helpers;"), ("crates/hub/src/http_helpers.rs", "", head)],
        "crates/hub/src/http_helpers.rs:1",
        "http_helpers",
    );
    check(&[("crates/hub/tests/common/main.rs", "", head)], "crates/hub/tests/common/main.rs:1", "common");
    check(&[(hub, map, "//! Map.\nmod core {}")], "crates/hub/src/lib.rs:2", "core");
    check(&[(hub, map, "//! Map.\nstruct StreamManager;")], "crates/hub/src/lib.rs:2", "StreamManager");
    // A name may contain the word where it says something.
    breaks("words", &[(hub, map, "//! Map.\nmod core_dump {}\nmod commonality {}\nstruct Utility;")], &[]);
}

#[test]
fn work_left_for_later() {
    let check = |new: &'static str, word: &str| {
        let mend = "finish it, or leave it out and say so in an issue";
        let expected = format!("{NUMBER}:3: `{word}` leaves work for later: {mend}");
        breaks("words", &[(NUMBER, ONE, new)], &[&expected]);
    };
    check("// TODO: two.", "TODO");
    check("/// FIXME", "FIXME");
    check("const A: u8 = 1; /* XXX */", "XXX");
    check("fn two() { todo!() }", "todo!");
    check("fn two() { std::unimplemented!(\"two\") }", "unimplemented!");
}

#[test]
fn a_file_into_which_a_second_thing_has_moved() {
    let lines = |count: usize| {
        (0..count).fold(String::new(), |mut text, at| {
            writeln!(text, "const C{at}: u8 = 1;").expect("a text takes everything");
            text
        })
    };
    let hub = "crates/hub/src/lib.rs";
    let long =
        |body: String| rules::violations("words", &house(&[(hub, "", &format!("//! The hub.\n{body}"))]));
    assert_eq!(long(lines(799)), [""; 0]);
    assert_eq!(
        long(lines(800)),
        [
            "crates/hub/src/lib.rs:1: 801 lines without tests, the limit is 800: ask which second thing has moved in"
        ]
    );
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(900));
    assert_eq!(long(lines(799) + &tests), [""; 0]);
    let in_a_file =
        [(hub, "", "//! The hub.\n#[cfg(test)]\nmod tests;\n"), ("crates/hub/src/tests.rs", "", &lines(900))];
    assert_eq!(rules::violations("words", &house(&in_a_file)), [""; 0]);
}

#[test]
fn what_cannot_be_read() {
    // What is not read is missing elsewhere, so other rules may speak up, too.
    let check = |file: &str, old: &str, new: &str, expected: &str| {
        assert_eq!(rules::violations("unreadable", &house(&[(file, old, new)])), [expected]);
    };
    let orphan = "no `mod` reaches this file: declare it in its parent module, or remove it";
    check("crates/hub/src/ingest.rs", "", "//! Alone.\n", &format!("crates/hub/src/ingest.rs:1: {orphan}"));
    check(
        "crates/hub/tests/flow/part.rs",
        "",
        "//! Alone.\n",
        &format!("crates/hub/tests/flow/part.rs:1: {orphan}"),
    );
    check(
        "crates/hub/src/lib.rs",
        "//! The control plane.",
        "//! Map.\n\nfn f( {}",
        "crates/hub/src/lib.rs:3: this is not Rust: cannot parse string into token stream",
    );
    let hub = "crates/hub/Cargo.toml";
    let quotes = "this is not TOML: string values must be quoted, expected literal string";
    check(hub, "name = \"hub\"", "name =", &format!("{hub}:4: {quotes}"));
    let nameless = "the package has no name: write `name` under `[package]`";
    check(hub, "name = \"hub\"", "", &format!("{hub}:1: {nameless}"));
    check("Cargo.toml", "serde = \"1\"", "serde =", &format!("Cargo.toml:9: {quotes}"));
    let no_manifest = "`crates/lm` has no Cargo.toml: write one, or remove the folder";
    check("crates/lm/src/lib.rs", "", "//! Lost.\n", &format!("crates/lm/Cargo.toml:1: {no_manifest}"));
    let row = "this row of the crate table cannot be read: \
               write `| floor number | crate | one line | crates with spaces between, or – |`";
    check(
        "ARCHITECTURE.md",
        "| 1 | `kernels` |",
        "| one | `kernels` |",
        &format!("ARCHITECTURE.md:6: {row}"),
    );
    let table = "there is no crate table: write one with the columns `floor`, `crate` and `may import`";
    check("ARCHITECTURE.md", "may import", "imports", &format!("ARCHITECTURE.md:1: {table}"));
}
