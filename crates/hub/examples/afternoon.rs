//! Fills a hub with a made-up afternoon, so that its pages can be looked at without a node: six hours of six nodes
//! with anomalies, alerts, a loss and a forked journal, and then goes on live.
//!
//! `cargo run -p hub --example afternoon -- http://127.0.0.1:8420` feeds a hub that runs; without an address it starts
//! one in a temporary folder and feeds that.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example talks to its reader and may end")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::time::Duration;

use fleet::FakeNode;
use hub::config::HubConfig;
use hub::server::Hub;
use wire::body::{
    ChannelSummary, Decision, Episode, Inference, ModelRef, ModelSummary, Ran, RuleState, Severity, Share,
    Start, Summary,
};
use wire::checkin::SourceState;
use wire::class::Class;
use wire::hash::Hash;
use wire::id::PartName;
use wire::record::GapReason;
use wire::world::{Clock, Entropy, Simulated, System};

const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 10_000;

/// A channel: its name, its level, how far it swings, how long a swing takes, how much it jitters.
type Channel = (&'static str, f64, f64, f64, f64);

struct Plant {
    node: FakeNode,
    chance: Simulated,
    source: &'static str,
    channels: Vec<Channel>,
    /// Minutes before now: from, to (negative: it goes on), which channel, how strongly.
    anomalies: Vec<(f64, f64, usize, f64)>,
    silent: bool,
}

fn name(text: &str) -> PartName {
    PartName::new(text).unwrap()
}

impl Plant {
    fn new(url: &str, seed: u64, node: &str, source: &'static str, channels: &[Channel]) -> Plant {
        let mut node = FakeNode::new(url, node, seed);
        node.token = std::env::var("SELVEDGE_TOKEN").ok();
        node.sources.push(SourceState {
            source: name(source),
            state: "running".into(),
            reason: None,
            readings: 216_000,
            refused: seed % 3,
            extra: serde_json::Map::new(),
        });
        let chance = Simulated::new(seed);
        Plant { node, chance, source, channels: channels.to_vec(), anomalies: Vec::new(), silent: false }
    }

    fn with(mut self, from_min: f64, to_min: f64, channel: usize, strength: f64) -> Plant {
        self.anomalies.push((from_min, to_min, channel, strength));
        self
    }

    /// The summary of the ten seconds before `t_ms`, `now_ms` being the time the anomalies are told from.
    fn summary(&mut self, begin_ms: i64, t_ms: i64, now_ms: i64) -> Summary {
        let minutes = (t_ms - begin_ms) as f64 / 60_000.0;
        let before = (now_ms - t_ms) as f64 / 60_000.0;
        let mut strongest: f64 = 0.0;
        let mut channels = Vec::new();
        for (at, &(channel, level, swing, period_min, jitter)) in self.channels.iter().enumerate() {
            let noise = (0..4).map(|_| self.chance.unit() - 0.5).sum::<f64>() * jitter;
            let mut mean = level + swing * (minutes / period_min * std::f64::consts::TAU).sin() + noise;
            let mut spread = jitter * (0.8 + self.chance.unit());
            for &(from, to, which, strength) in &self.anomalies {
                if before <= from && before >= to {
                    let ramp = ((from - before) / 1.5).min(1.0);
                    strongest = strongest.max(strength * ramp);
                    if which == at {
                        mean += ramp * strength * (swing + 2.0 * jitter);
                        spread *= 1.0 + 2.0 * ramp;
                    }
                }
            }
            let missing = u64::from(self.chance.unit() < 0.01);
            channels.push(ChannelSummary {
                channel: channel.into(),
                min: mean - spread,
                mean,
                max: mean + spread,
                missing,
            });
        }
        let base = 0.12 + 0.25 * self.chance.unit().powi(4);
        let score = (base + strongest * 0.7).max(0.0);
        let probability = (minutes > 25.0).then(|| 1.0 / (1.0 + (-6.0 * (score - 0.95)).exp()));
        let models = vec![ModelSummary { model: name("health"), score, probability }];
        Summary {
            source: name(self.source),
            from_ms: t_ms - STEP_MS,
            to_ms: t_ms,
            count: 100,
            channels,
            models,
        }
    }

    fn write_summary(&mut self, begin_ms: i64, t_ms: i64, now_ms: i64) {
        let summary = self.summary(begin_ms, t_ms, now_ms);
        self.node.write("metrics", Class::Metric, t_ms, &summary);
    }

    fn model(&self) -> ModelRef {
        ModelRef { name: name("health"), variant: "subspace lag=10".into(), digest: None }
    }

    fn inference(&mut self, state: Episode, since_ms: i64, at_ms: i64, channel: usize, strength: f64) {
        let lead = self.channels[channel].0;
        let other = self.channels[(channel + 1) % self.channels.len()].0;
        let body = Inference {
            model: self.model(),
            source: name(self.source),
            state,
            since_ms,
            at_ms,
            score: 0.3 + strength * 0.7,
            probability: Some(1.0 - 0.02 / strength.powi(3)),
            channels: vec![
                Share { channel: lead.into(), share: 0.83 },
                Share { channel: other.into(), share: 0.17 },
            ],
            input: Hash::of(&at_ms.to_le_bytes()),
            latency_us: 140,
        };
        self.node.write("events", Class::Event, at_ms, &body);
    }

    fn decision(&mut self, state: RuleState, since_ms: i64, at_ms: i64, channel: usize, strength: f64) {
        let critical = strength > 2.5;
        let lead = self.channels[channel].0;
        let why = match state {
            RuleState::Firing => format!("health.p stayed above 0.97 for 20 s, driven by {lead} (83 %)"),
            RuleState::Cleared => "health.p stayed below 0.97 for 60 s".to_owned(),
        };
        let body = Decision {
            rule: name(if critical { "stop-and-look" } else { "anomaly" }),
            state,
            severity: if critical { Severity::Critical } else { Severity::Warning },
            source: name(self.source),
            since_ms,
            at_ms,
            when: "health.p > 0.97".into(),
            value: 1.0 - 0.02 / strength.powi(3),
            model: Some(self.model()),
            input: Hash::of(&at_ms.to_le_bytes()),
            ran: Ran::Local,
            why,
            confidence: Some(1.0 - 0.02 / strength.powi(3)),
            latency_us: 160,
            joules: None,
            labels: std::collections::BTreeMap::new(),
        };
        self.node.write("decisions", Class::Audit, at_ms, &body);
    }

    /// Six hours until now.
    fn afternoon(&mut self, begin_ms: i64, now_ms: i64) {
        let start = Start { version: "0.1.0".into(), flow: Hash::of(b"flow"), clean: Some(true) };
        self.node.write("audit", Class::Audit, begin_ms, &start);
        let mut t_ms = begin_ms + STEP_MS;
        while t_ms <= now_ms {
            self.write_summary(begin_ms, t_ms, now_ms);
            t_ms += STEP_MS;
        }
        for (from, to, channel, strength) in self.anomalies.clone() {
            let at = |minutes: f64| now_ms - (minutes * 60_000.0) as i64;
            let since_ms = at(from) + 40_000;
            self.inference(Episode::Begins, since_ms, since_ms, channel, strength);
            self.decision(RuleState::Firing, since_ms, since_ms + 20_000, channel, strength);
            if to > 0.0 {
                self.inference(Episode::Ends, since_ms, at(to), channel, strength);
                self.decision(RuleState::Cleared, at(to), at(to) + 60_000, channel, strength);
            }
        }
    }
}

#[tokio::main]
async fn main() {
    let clock = System::new();
    let folder = tempfile::tempdir().unwrap();
    let (url, _hub) = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let config = HubConfig { data: folder.path().to_owned(), ..HubConfig::default() };
            let hub = Hub::start(config, System::new()).await.unwrap();
            (hub.url(), Some(hub))
        }
    };
    let now_ms = clock.wall_ms();
    let begin_ms = now_ms - 6 * HOUR_MS;
    let pump: [Channel; 4] = [
        ("pressure_bar", 5.2, 0.25, 47.0, 0.05),
        ("flow_l_min", 182.0, 6.0, 61.0, 1.8),
        ("vibration_mm_s", 2.1, 0.2, 23.0, 0.12),
        ("motor_temp_c", 61.0, 3.0, 140.0, 0.3),
    ];
    let cold: [Channel; 3] = [
        ("freezer_temp_c", -19.5, 0.8, 22.0, 0.08),
        ("compressor_a", 4.4, 1.9, 22.0, 0.1),
        ("humidity_pct", 46.0, 4.0, 95.0, 0.6),
    ];
    let press: [Channel; 2] = [("force_kn", 412.0, 12.0, 9.0, 4.0), ("cycle_ms", 1480.0, 20.0, 33.0, 8.0)];
    let ward: [Channel; 2] =
        [("line_pressure_kpa", 12.4, 0.6, 17.0, 0.2), ("flow_ml_h", 80.0, 0.4, 55.0, 0.3)];
    let mut plants = vec![
        Plant::new(&url, 1, "pump-station-7", "pump", &pump)
            .with(171.0, 163.0, 2, 2.2)
            .with(3.2, -1e9, 0, 3.4),
        Plant::new(&url, 2, "pump-station-8", "pump", &pump).with(41.0, 36.0, 1, 1.9),
        Plant::new(&url, 3, "cold-store-oslo", "freezer", &cold).with(96.0, 74.0, 0, 2.0),
        Plant::new(&url, 4, "press-line-2", "press", &press).with(19.0, 15.0, 0, 1.7),
        Plant::new(&url, 5, "ward-3-infusion", "line", &ward).with(230.0, 226.0, 0, 1.8),
        Plant::new(&url, 6, "mast-north", "wind", &[("speed_m_s", 9.0, 4.0, 70.0, 1.2)]),
    ];
    plants[5].silent = true;
    plants[4].node.sources[0].state = "waiting".into();
    plants[4].node.sources[0].reason = Some("modbus 10.0.7.21:502 does not answer, next try in 40 s".into());
    for plant in &mut plants {
        plant.afternoon(begin_ms, now_ms - 10_000);
        if plant.node.name.as_str() == "press-line-2" {
            plant.node.lose("metrics", GapReason::ByteCap);
            for step in (0..200).rev() {
                plant.write_summary(begin_ms, now_ms - 10_000 - step * STEP_MS, now_ms);
            }
        }
        plant.node.sync().await;
        plant.node.check_in(now_ms).await;
        println!("{} has sent its afternoon", plant.node.name);
    }
    // A copy of a gateway's disk was started twice.
    let mut twin = Plant::new(&url, 2, "pump-station-8", "pump", &pump);
    twin.node.write_text("audit", Class::Audit, "start", now_ms, "{\"version\":\"0.1.0\",\"copy\":true}");
    twin.node.write_text("audit", Class::Audit, "start", now_ms, "{\"version\":\"0.1.0\",\"copy\":true}");
    twin.node.send(&twin.node.batch("audit", 10)).await;

    println!("look at {url} – going on live until interrupted");
    let mut second = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second += 1;
        let t_ms = clock.wall_ms();
        for (nth, plant) in plants.iter_mut().enumerate().filter(|(_, plant)| !plant.silent) {
            if (second + nth as i64) % 5 == 0 {
                plant.write_summary(begin_ms, t_ms, now_ms);
                plant.node.sync().await;
            }
            if (second + nth as i64) % 10 == 0 {
                plant.node.check_in(t_ms).await;
            }
        }
    }
}
