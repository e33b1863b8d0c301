//! What is wrong with a node and what to do about it, on one page; whether it runs or not, and without changing anything.
//!
//! [`examine`] looks at what there is (settings were read before): the data folder, the journal, the certificate, the machine,
//! earlier starts, and, if the node runs and has a local API, what it says of itself ([`live::Live`]). It never waits for a lock.

pub mod case;
pub mod finding;
mod journal;
pub mod live;

use std::path::Path;

use wire::world::WallMs;

use self::case::Case;
use self::finding::Finding;
use crate::config::quantity::show_duration;
use crate::identity::files::Files;
use crate::journal::is_held;
use crate::pressure::look::{Seen, Zone};
use crate::pressure::{Squeeze, wanted};
use crate::supervise::starts::{BLAMED_MAX, Starts};
use crate::why::why;

/// This program is younger than that (2026-01-01): a clock that stands before it is wrong.
const CLOCK_LEAST_MS: WallMs = 1_767_225_600_000;

/// A certificate is renewed from a third of its life on; one with less than this left was not, for long.
const CERTIFICATE_SOON_MS: i64 = 3 * 86_400_000;

/// All that was looked at, in the order of a page.
pub fn examine(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let data = &case.config.data;
    let runs = is_held(data);
    settings(case, &mut found);
    process(case, runs, &mut found);
    journal::examine(case, &mut found);
    clock(case, &mut found);
    hub(case, &mut found);
    if let Some(Ok(live)) = &case.live {
        live::examine(live, &mut found);
    } else {
        journal::last_words(data, &mut found);
    }
    machine(case, &mut found);
    starts(data, &mut found);
    found
}

fn settings(case: &Case<'_>, found: &mut Vec<Finding>) {
    let flow = &case.config.flow;
    let file = case.config.file.display();
    // Each flow has a source: one without was not read, and what is wrong with it is for who tried to say.
    if flow.sources.is_empty() {
        found.push(Finding::good("settings", file.to_string()));
        return;
    }
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let counts = format!(
        "{file}: {}, {}, {}",
        count(flow.sources.len(), "source"),
        count(flow.models.len() + flow.networks.len(), "model"),
        count(flow.rules.len(), "rule")
    );
    found.push(Finding::good("settings", counts));
}

fn process(case: &Case<'_>, runs: Option<bool>, found: &mut Vec<Finding>) {
    let data = &case.config.data;
    if let Err(error) = std::fs::read_dir(data) {
        if error.kind() == std::io::ErrorKind::NotFound {
            let help = "start it: `systemctl start selvedge-node`, or `selvedge node`";
            found.push(Finding::note(
                "node",
                format!("it has never run: there is no {}", data.display()),
                help,
            ));
        } else {
            let help = "run this as the node's user: sudo -u selvedge-node selvedge doctor …";
            found.push(Finding::wrong(
                "node",
                format!("{} cannot be looked at: {error}", data.display()),
                help,
            ));
        }
        return;
    }
    match (runs, &case.live) {
        (Some(true), Some(Ok(live))) => {
            // Whole seconds are enough.
            let uptime = show_duration((live.uptime_ms / 1_000 * 1_000) as i64);
            let memory = live.rss_bytes.map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
            found.push(Finding::good("node", format!("{} runs, for {uptime}{memory}", live.node)));
        }
        (Some(true), Some(Err(why))) => {
            let help =
                "if this goes on, `systemctl restart selvedge-node`; its log: journalctl -u selvedge-node";
            found.push(Finding::wrong(
                "node",
                format!("it runs, and its local API does not answer: {why}"),
                help,
            ));
        }
        (Some(true), None) => {
            let help = "add `[api]` to its settings to see how its sources are";
            found.push(Finding::note("node", "it runs, and has no local API that could be asked", help));
        }
        (Some(false), _) => {
            let help = "start it: `systemctl start selvedge-node`, or `selvedge node`; why it ended: journalctl -u selvedge-node -n 50";
            found.push(Finding::wrong("node", "it does not run", help));
        }
        (None, _) => {
            let help = "start it: `systemctl start selvedge-node`, or `selvedge node`";
            found.push(Finding::note(
                "node",
                format!("nothing in {} shows that it runs", data.display()),
                help,
            ));
        }
    }
}

fn clock(case: &Case<'_>, found: &mut Vec<Finding>) {
    let quality = case.live.as_ref().and_then(|live| Some(live.as_ref().ok()?.clock.as_str()));
    if case.now_ms < CLOCK_LEAST_MS {
        let help = "set it, or install a time service; records keep their order without, but not their times";
        found.push(Finding::wrong("clock", "this machine believes that it is before 2026", help));
    } else if quality == Some("off") {
        let help = "set it, or install a time service: `timedatectl`";
        found.push(Finding::wrong("clock", "the hub's time is another: times of records are wrong", help));
    } else {
        found.push(Finding::good(
            "clock",
            quality.map_or("plausible", |word| {
                if word == "checked" { "agrees with the hub's" } else { "plausible; nobody has confirmed it" }
            }),
        ));
    }
}

fn hub(case: &Case<'_>, found: &mut Vec<Finding>) {
    let Some(hub) = &case.config.hub else {
        found.push(Finding::good("hub", "none: the node works alone"));
        return;
    };
    if hub.url.starts_with("https://") {
        match Files::of(&case.config.data).look() {
            Ok(Some((facts, life))) => {
                let left_ms = life.not_after_ms.saturating_sub(case.now_ms);
                let days = left_ms / 86_400_000;
                if facts.node != case.config.name {
                    let help = format!("call it {} in its settings, or enrol it again", facts.node);
                    let says =
                        format!("it was enrolled as {}, and is called {}", facts.node, case.config.name);
                    found.push(Finding::wrong("certificate", says, help));
                } else if left_ms < 0 {
                    let help = "nothing, if the hub can be reached: it is renewed by itself, also when it has expired";
                    found.push(Finding::note("certificate", format!("expired {} days ago", -days), help));
                } else if left_ms < CERTIFICATE_SOON_MS {
                    let help = "see whether the hub can be reached: selvedge doctor --hub";
                    found.push(Finding::note(
                        "certificate",
                        format!("expires in {days} days, and was not renewed"),
                        help,
                    ));
                } else {
                    found.push(Finding::good("certificate", format!("good for {days} days")));
                }
            }
            Ok(None) if hub.enrol.is_some() => {
                let help = "see whether the hub can be reached: selvedge doctor --hub; somebody there may have to admit it";
                found.push(Finding::note("certificate", "it has not come in at its hub yet", help));
            }
            Ok(None) => {
                let help = format!("selvedge node enrol --hub {} --code …", hub.url);
                found.push(Finding::wrong(
                    "certificate",
                    "it belongs to no hub, and does not start with this one",
                    help,
                ));
            }
            Err(error) => {
                let help = "enrol the node again: selvedge node enrol --help";
                found.push(Finding::wrong("certificate", why(&error), help));
            }
        }
    }
}

fn machine(case: &Case<'_>, found: &mut Vec<Finding>) {
    let Seen { memory, disk_free_bytes, heat } = &case.seen;
    match memory {
        None => found.push(Finding::good("memory", "nobody tells")),
        Some(memory) => {
            let free =
                memory.free_bytes.map_or_else(String::new, |free| format!("{} MiB free of ", free >> 20));
            let says = format!("{free}{} MiB", memory.bytes >> 20);
            if wanted(&case.seen) == Squeeze::Nothing {
                found.push(Finding::good("memory", says));
            } else {
                let help = "see what takes it; smaller models, or `memory_bytes` in [serve], leave more";
                found.push(Finding::note("memory", format!("short: {says}"), help));
            }
        }
    }
    let least = case.config.journal.min_free_bytes;
    match disk_free_bytes {
        None => found.push(Finding::good("disk", "nobody tells")),
        Some(free) if *free < least => {
            let says = format!("{} MiB free, and the node leaves {} MiB to others", free >> 20, least >> 20);
            let help = "make room, or lower `min_free_bytes` of [journal]: until then the journal does not grow, and drops the oldest";
            found.push(Finding::wrong("disk", says, help));
        }
        Some(free) => found.push(Finding::good("disk", format!("{} MiB free", free >> 20))),
    }
    let zone = heat.hottest.as_ref().map(Zone::words);
    if heat.cooling || heat.hottest.as_ref().is_some_and(Zone::over) {
        let says = format!("heat slows the processor down: {}", zone.unwrap_or_default());
        found.push(Finding::note("heat", says, "cool it, or give it less to do: decisions come later"));
    } else if let Some(zone) = zone {
        found.push(Finding::good("heat", zone));
    }
}

fn starts(data: &Path, found: &mut Vec<Finding>) {
    let starts = Starts::load(data);
    for (part, times) in starts.blamed.iter().filter(|(_, times)| **times >= BLAMED_MAX) {
        let says = format!("left out: the node died {times} times while it was busy with it");
        let help = "look at what it brings, then `systemctl restart selvedge-node` gives it one more chance";
        found.push(Finding::wrong(part, says, help));
    }
    if starts.restless > 1 {
        let says = format!("{} starts in a row without a quiet minute", starts.restless);
        let help = "why it ends: journalctl -u selvedge-node; after four it runs without language models, releases and networks";
        found.push(Finding::note("starts", says, help));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::finding::Level;
    use super::*;
    use crate::agent::start;
    use crate::config::Config;
    use crate::pressure::look::{Heat, Memory, Zone};
    use wire::world::{Clock as _, System};

    fn folder(settings: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.toml"), format!("[node]\nname = \"n\"\n{settings}")).unwrap();
        fs::write(dir.path().join("flow.toml"), "[source.s]\ntype = \"http\"\n").unwrap();
        dir
    }

    fn look(dir: &Path, change: impl FnOnce(&mut Case<'_>)) -> Vec<Finding> {
        let config = Config::load(&dir.join("node.toml")).unwrap();
        let mut case =
            Case { config: &config, live: None, seen: Seen::default(), now_ms: System::new().wall_ms() };
        change(&mut case);
        examine(&case)
    }

    fn wrong(found: &[Finding]) -> Vec<&str> {
        let wrong = found.iter().filter(|finding| finding.level == Level::Wrong);
        wrong.map(|finding| finding.about.as_str()).collect()
    }

    fn of<'f>(found: &'f [Finding], about: &str) -> &'f Finding {
        found.iter().find(|finding| finding.about == about).unwrap_or_else(|| panic!("{about}: {found:?}"))
    }

    #[test]
    fn a_node_that_never_ran_one_that_runs_and_one_that_ended() {
        let dir = folder("[journal]\nmin_free_bytes = \"0\"\n");
        let found = look(dir.path(), |_| {});
        assert_eq!(wrong(&found), [] as [&str; 0]);
        assert!(of(&found, "node").says.contains("never run"));
        let running = start(Config::load(&dir.path().join("node.toml")).unwrap(), System::new()).unwrap();
        let found = look(dir.path(), |_| {});
        assert_eq!(wrong(&found), [] as [&str; 0]);
        assert!(of(&found, "node").says.contains("it runs"));
        let found = look(dir.path(), |case| case.live = Some(Err("connection refused".to_owned())));
        assert_eq!(wrong(&found), ["node"]);
        running.stop().unwrap();
        let found = look(dir.path(), |_| {});
        assert_eq!(wrong(&found), ["node"], "{found:?}");
        assert!(of(&found, "journal").says.contains("whole"));
        assert!(found.iter().all(|finding| finding.level == Level::Good || finding.help.is_some()));
    }

    #[test]
    fn a_journal_that_was_altered_is_found() {
        let dir = folder("[journal]\nmin_free_bytes = \"0\"\n");
        start(Config::load(&dir.path().join("node.toml")).unwrap(), System::new()).unwrap().stop().unwrap();
        let file = dir.path().join("data/journal.sqlite");
        let found = look(dir.path(), |_| {});
        assert_eq!(of(&found, "journal").level, Level::Good);
        let conn = rusqlite::Connection::open(&file).unwrap();
        conn.execute("UPDATE records SET body = replace(body, 'version', 'versiom')", []).unwrap();
        drop(conn);
        let found = look(dir.path(), |_| {});
        assert_eq!(of(&found, "journal").level, Level::Wrong, "{found:?}");
    }

    #[test]
    fn what_the_machine_lacks_is_said_with_what_to_do() {
        let dir = folder("[hub]\nurl = \"https://hub.example:8421\"\n");
        let memory = Memory {
            bytes: 1 << 30,
            limited: false,
            free_bytes: Some(1 << 20),
            some_percent: None,
            full_percent: None,
        };
        let zone = Zone { name: "cpu".to_owned(), celsius: 90.0, slows_at: Some(80.0) };
        let heat = Heat { hottest: Some(zone), throttles: None, cooling: true };
        let seen = Seen { memory: Some(memory), disk_free_bytes: Some(1 << 20), heat };
        let found = look(dir.path(), |case| (case.seen, case.now_ms) = (seen, 1_000));
        assert_eq!(wrong(&found), ["clock", "certificate", "disk"]);
        assert_eq!(of(&found, "memory").level, Level::Note);
        assert_eq!(of(&found, "heat").level, Level::Note);
        fs::create_dir_all(dir.path().join("data")).unwrap();
        let starts = Starts { restless: 3, blamed: [("source.s".to_owned(), BLAMED_MAX)].into() };
        starts.save(&dir.path().join("data")).unwrap();
        let found = look(dir.path(), |_| {});
        assert!(wrong(&found).contains(&"source.s") && of(&found, "starts").level == Level::Note);
    }

    #[test]
    fn settings_are_looked_at_without_their_flow() {
        let dir = folder("[journal]\nmin_free_bytes = \"0\"\n");
        assert!(of(&look(dir.path(), |_| {}), "settings").says.ends_with("1 source, 0 models, 0 rules"));
        fs::write(dir.path().join("flow.toml"), "[sorce.s]\n").unwrap();
        let file = dir.path().join("node.toml");
        assert!(Config::load(&file).is_err());
        let config = Config::load_without_flow(&file).unwrap();
        let (seen, now_ms) = (Seen::default(), System::new().wall_ms());
        let found = examine(&Case { config: &config, live: None, seen, now_ms });
        assert_eq!(of(&found, "settings").says, file.display().to_string());
        assert!(of(&found, "node").says.contains("never run"), "{found:?}");
    }
}
