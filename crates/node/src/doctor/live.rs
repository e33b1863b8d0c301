//! What a running node says of itself at its local API, as far as the page needs it. A newer or older node may say more or less.

use serde::Deserialize;

use super::finding::Finding;

/// The node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Live {
    /// Its name.
    pub node: String,
    /// How long it runs.
    pub uptime_ms: u64,
    /// Its memory.
    pub rss_bytes: Option<u64>,
    /// `unchecked`, `checked` or `off`.
    pub clock: String,
    flow_problem: Option<String>,
    sources: Vec<Source>,
    models: Vec<Model>,
    rules: Vec<Rule>,
    sinks: Vec<Sink>,
    slots: Vec<Slot>,
    journal: Journal,
    uplink: Option<Uplink>,
    relay: Option<Relay>,
    health: Health,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Source {
    source: String,
    state: String,
    reason: String,
    readings: u64,
    refused: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Model {
    model: String,
    state: String,
    readings: u64,
    learn: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Rule {
    rule: String,
    state: String,
    when: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Sink {
    sink: String,
    state: String,
    reason: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Slot {
    model: String,
    candidate: Option<serde_json::Value>,
    spare: Option<Spare>,
    safe: Option<String>,
    waits: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spare {
    variant: String,
    phase: String,
    answers: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Journal {
    refused: u64,
    lost: u64,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Uplink {
    hub: String,
    trouble: Option<String>,
    answered_ms: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Relay {
    listen: String,
    connections: usize,
    connections_max: usize,
    behind: Vec<serde_json::Value>,
    refused: Refused,
    cache: Option<Cache>,
    hub_up: Option<bool>,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Refused {
    full: u64,
    share: u64,
    token: u64,
    target: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Cache {
    bytes: u64,
    quota_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Health {
    memory: String,
    stuck: Vec<String>,
    left_out: Vec<String>,
    watchdog: bool,
}

/// What follows from it.
pub(super) fn examine(live: &Live, found: &mut Vec<Finding>) {
    if let Some(problem) = &live.flow_problem {
        let help = "mend it: the node looks at its flow's file every second, and takes it once it is good";
        found.push(Finding::wrong("flow", format!("the newer one was not taken: {problem}"), help));
    }
    for source in &live.sources {
        let about = format!("source.{}", source.source);
        let counts = format!("{} readings, {} refused", source.readings, source.refused);
        match source.state.as_str() {
            "failed" => {
                let help =
                    "see to what it reads; it is tried again by itself, after five minutes at the latest";
                found.push(Finding::wrong(&about, format!("failed: {}", source.reason), help));
            }
            "waiting" => {
                let help = "nothing has come from it since the node began: is anything connected?";
                found.push(Finding::note(&about, source.reason.clone(), help));
            }
            state => found.push(Finding::good(&about, format!("{state}, {counts}"))),
        }
    }
    for model in &live.models {
        let about = format!("model.{}", model.model);
        match model.state.as_str() {
            "failed" => {
                let help = "its log says of what: journalctl -u selvedge-node";
                found.push(Finding::wrong(&about, "it failed, and judges nothing", help));
            }
            "learning" => {
                let says =
                    format!("learning, {} of {} readings", model.readings.min(model.learn), model.learn);
                found.push(Finding::good(&about, says));
            }
            state => found.push(Finding::good(&about, state.to_owned())),
        }
    }
    for rule in live.rules.iter().filter(|rule| rule.state == "firing") {
        found.push(Finding::good(&format!("rule.{}", rule.rule), format!("firing: {}", rule.when)));
    }
    for sink in &live.sinks {
        let about = format!("sink.{}", sink.sink);
        if sink.state == "failed" {
            let help = "its records wait in the journal, and it is tried again by itself: is what it sends to there?";
            found.push(Finding::note(&about, format!("failed: {}", sink.reason), help));
        } else {
            found.push(Finding::good(&about, sink.state.clone()));
        }
    }
    for slot in &live.slots {
        let about = format!("release of {}", slot.model);
        if let Some(why) = &slot.safe {
            let help =
                "`selvedge slots` shows what was refused; order another release, or `selvedge rollback`";
            found.push(Finding::wrong(&about, format!("safe mode, no model is loaded: {why}"), help));
        } else if slot.candidate.is_some() {
            found.push(Finding::good(&about, "one is on trial: `selvedge slots` shows how far it is"));
        } else if let Some(why) = &slot.waits {
            found.push(Finding::good(&about, format!("one waits: {why}")));
        }
        match &slot.spare {
            Some(Spare { variant, answers: true, .. }) => {
                let says = format!("its smaller variant {variant} answers: memory is short");
                let help = "see what takes it; the larger one comes again by itself when there is memory";
                found.push(Finding::note(&about, says, help));
            }
            Some(Spare { variant, phase, .. }) if phase == "ready" => {
                let says =
                    format!("its smaller variant {variant} stands by for the time when memory is short");
                found.push(Finding::good(&about, says));
            }
            _ => {}
        }
    }
    if let Some(trouble) = &live.journal.trouble {
        let help = "see to the disk: what is decided now is kept in memory, and lost with it";
        found.push(Finding::wrong("records", format!("the journal does not take all: {trouble}"), help));
    } else if live.journal.lost + live.journal.refused > 0 {
        let says = format!(
            "{} were dropped before the hub had them, {} refused",
            live.journal.lost, live.journal.refused
        );
        let help = "raise `max_bytes` of [journal], or connect the hub";
        found.push(Finding::note("records", says, help));
    }
    if let Some(uplink) = &live.uplink {
        match &uplink.trouble {
            Some(trouble) => {
                let help = "the node works on without, and sends when it can; see: selvedge doctor --hub";
                found.push(Finding::note("hub", format!("{}: {trouble}", uplink.hub), help));
            }
            None if uplink.answered_ms.is_none() => {
                found.push(Finding::note(
                    "hub",
                    format!("{} has not answered yet", uplink.hub),
                    "wait a minute",
                ));
            }
            None => found.push(Finding::good("hub", format!("{} answers", uplink.hub))),
        }
    }
    if let Some(relay) = &live.relay {
        found.push(of_relay(relay));
    }
    for stuck in &live.health.stuck {
        let help =
            "the watchdog starts the node anew if this goes on; without one: systemctl restart selvedge-node";
        found.push(Finding::wrong("progress", stuck.clone(), help));
    }
    for left_out in &live.health.left_out {
        let help = "see why it died (journalctl -u selvedge-node), then `systemctl restart selvedge-node`";
        found.push(Finding::wrong("left out", left_out.clone(), help));
    }
    if live.health.memory != "ready" && !live.health.memory.is_empty() {
        let says = format!("memory was short: {}", live.health.memory.replace('_', " "));
        found.push(Finding::note("memory", says, "see what takes it; smaller models leave more"));
    }
    let watched =
        if live.health.watchdog { "fed" } else { "none: nobody starts the node anew if it gets stuck" };
    found.push(Finding::good("watchdog", watched));
}

/// The door for the nodes behind.
fn of_relay(relay: &Relay) -> Finding {
    let Relay { listen, connections, connections_max, behind, refused, cache, hub_up, trouble } = relay;
    let kept = cache.as_ref().map_or_else(String::new, |cache| {
        format!(", {} of {} MiB kept", cache.bytes >> 20, cache.quota_bytes >> 20)
    });
    let counts = format!("{listen}: {connections} connections from {} addresses{kept}", behind.len());
    let full = refused.full + refused.share;
    if connections >= connections_max || full > 0 {
        let says = format!("{counts}; it was full for {full} connections that came");
        return Finding::note("relay", says, "raise `connections` or `per_address` of [relay]");
    }
    let silent = (*hub_up == Some(false)).then_some("tunnels to it are not answered");
    if let Some(trouble) = trouble.as_deref().or(silent) {
        let help = "nodes behind get what is kept, and wait with the rest; see to this node's own line";
        return Finding::note("relay", format!("{counts}; it cannot reach the hub: {trouble}"), help);
    }
    if refused.token + refused.target > 0 {
        let says = format!(
            "{counts}; {} came without its token, {} wanted to go elsewhere",
            refused.token, refused.target
        );
        let help = "nodes behind need the same `relay_token_file`, and the same address of the hub";
        return Finding::note("relay", says, help);
    }
    Finding::good("relay", counts)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_node_s_own_words_become_findings() {
        let live: Live = serde_json::from_str(
            r#"{"node":"n","new":1,"flow_problem":"flow.toml:2:1: no; the flow before goes on","sources":[{"source":"a","state":"failed","reason":"no route"},
            {"source":"b","state":"running","readings":7}],"models":[{"model":"m","state":"learning","readings":3,"learn":9}],
            "rules":[{"rule":"r","state":"firing","when":"x > 1"},{"rule":"q","state":"quiet"}],
            "sinks":[{"sink":"ops","state":"failed","reason":"no route"},{"sink":"file","state":"running"}],
            "slots":[{"model":"t","safe":"it dies"},{"model":"u","spare":{"variant":"q4","phase":"ready","answers":true}},
            {"model":"v","spare":{"variant":"q4","phase":"ready"}},{"model":"w","spare":{"variant":"q4","phase":"staging"}}],"relay":{"listen":"[::]:7444","connections":1,"connections_max":2,
            "behind":[{}],"refused":{"full":2,"token":1},"cache":{"bytes":1048576,"quota_bytes":4194304}},"journal":{"lost":3},"uplink":{"hub":"h","trouble":"no route"},
            "health":{"stuck":["the thread io has not gone round for 61 s"],"left_out":["models: it died"],"memory":"ready"}}"#,
        )
        .unwrap();
        let mut found = Vec::new();
        examine(&live, &mut found);
        let told: Vec<String> = found
            .iter()
            .map(|finding| format!("{:?} {}: {}", finding.level, finding.about, finding.says))
            .collect();
        insta::assert_snapshot!("live", told.join("\n"));
        assert!(found.iter().all(|finding| finding.level == Level::Good || finding.help.is_some()));
        examine(&serde_json::from_str::<Live>("{}").unwrap(), &mut Vec::new());
    }

    #[test]
    fn a_relay_whose_tunnels_are_not_answered_says_so() {
        let told = |words: &str| {
            let relay = format!(r#"{{"listen":"[::]:7444","connections_max":2,{words}}}"#);
            of_relay(&serde_json::from_str(&relay).unwrap()).says
        };
        assert_eq!(told(r#""hub_up":null"#), "[::]:7444: 0 connections from 0 addresses");
        assert_eq!(told(r#""hub_up":true"#), "[::]:7444: 0 connections from 0 addresses");
        assert!(told(r#""hub_up":false"#).ends_with("cannot reach the hub: tunnels to it are not answered"));
        assert!(told(r#""hub_up":false,"trouble":"no route""#).ends_with("cannot reach the hub: no route"));
    }
}
