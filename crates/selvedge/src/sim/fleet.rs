//! The nodes of a simulated fleet: what they are, and when they can be reached.

use hub::rollout::offer::place;
use hub::rollout::plan::Plan;
use hub::rollout::policy::{Preset, waves};
use hub::rollout::text;
use serde::Deserialize;
use wire::facts::{Fact, FactName, Facts};
use wire::select::Selector;
use wire::world::{Entropy as _, Simulated};

/// 2026-01-05T00:00:00Z, a Monday, when every simulated rollout begins.
pub(crate) const START_MS: i64 = 1_767_571_200_000;
pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const GIB: u64 = 1 << 30;

/// When a node can be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Habit {
    /// Always.
    Always,
    /// Here and away by chance, for these times in the mean.
    Sometimes { here_ms: f64, away_ms: f64 },
    /// From 8 to 18, Monday to Friday.
    Office,
    /// Never again.
    Dead,
}

/// What a fleet is made of.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mix {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// How many a site has.
    pub(crate) of_a_site: usize,
    /// The share that is away at any time, of nodes that come and go.
    pub(crate) away: f64,
    /// For how long, in the mean.
    pub(crate) away_hours: f64,
    /// The share that keeps office hours.
    pub(crate) office: f64,
    /// The share at sea: three days away, one here.
    pub(crate) ships: f64,
    /// The share that is dead.
    pub(crate) dead: f64,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { nodes: 10_000, of_a_site: 50, away: 0.03, away_hours: 8.0, office: 0.0, ships: 0.0, dead: 0.0 }
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) facts: Facts,
    pub(crate) habit: Habit,
}

/// All nodes, the same in every run.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Resident>,
}

impl Fleet {
    /// Makes one.
    pub(crate) fn new(mix: &Mix, seed: u64) -> Fleet {
        let mut world = Simulated::new(seed);
        let nodes = (0..mix.nodes).map(|at| resident(at, mix, &mut world)).collect();
        Fleet { nodes }
    }

    /// Gives a plan its salt and the waves of a preset over the members of its group.
    pub(crate) fn plan(&self, mut plan: Plan, preset: Preset, hold_out_percent: u8) -> anyhow::Result<Plan> {
        plan.hold_out_percent = hold_out_percent;
        plan.salt = text::salt(&plan);
        let places: Vec<u16> = self.lots(&plan)?.into_iter().map(|(place, _)| place).collect();
        plan.waves = waves(preset, &places, hold_out_percent);
        Ok(plan)
    }

    /// The members of a plan's group by their places on its ring, sorted.
    pub(crate) fn lots(&self, plan: &Plan) -> anyhow::Result<Vec<(u16, usize)>> {
        let group = Selector::parse(&plan.group)?;
        let members = self.nodes.iter().enumerate().filter(|(_, node)| group.has(&node.facts));
        let mut lots: Vec<(u16, usize)> = members.map(|(at, node)| (place(plan, &node.name), at)).collect();
        lots.sort_unstable();
        Ok(lots)
    }
}

fn resident(at: usize, mix: &Mix, world: &mut Simulated) -> Resident {
    let site = at / mix.of_a_site.max(1);
    let mut facts = Facts::default();
    let mut set = |name: &str, fact| {
        // These are good names and small facts.
        let name = FactName::new(name).expect("a fact's name");
        facts.set(name, fact).expect("few facts");
    };
    set("site", Fact::Text(format!("s{site}")));
    let ram = GIB << (world.unit() * 5.0) as u64;
    set("ram", Fact::Number(ram as f64));
    let mut isa = vec!["avx2".to_owned()];
    if world.unit() < 0.05 {
        isa.push("avx512".to_owned());
    }
    set("isa", Fact::List(isa));
    set("version", Fact::Text("0.1.0".to_owned()));
    let lot = world.unit();
    let hour = HOUR_MS as f64;
    let habit = match lot {
        _ if lot < mix.dead => Habit::Dead,
        _ if lot < mix.dead + mix.office => Habit::Office,
        _ if lot < mix.dead + mix.office + mix.ships => {
            Habit::Sometimes { here_ms: 24.0 * hour, away_ms: 72.0 * hour }
        }
        _ if mix.away > 0.0 => {
            let away_ms = mix.away_hours * hour;
            Habit::Sometimes { here_ms: away_ms * (1.0 - mix.away) / mix.away, away_ms }
        }
        _ => Habit::Always,
    };
    Resident { name: format!("pump-{at}"), site, facts, habit }
}

/// Whether a node can be reached, drawn as far as somebody asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    pub(crate) is_here: bool,
    /// Since when it is so.
    pub(crate) since_ms: i64,
    /// Until when it stays so.
    pub(crate) until_ms: i64,
}

impl Presence {
    /// How a node is as the rollout begins.
    pub(crate) fn new(habit: Habit, world: &mut Simulated) -> Presence {
        let since_ms = START_MS - 2 * HOUR_MS;
        match habit {
            Habit::Always => Presence { is_here: true, since_ms, until_ms: i64::MAX },
            Habit::Dead => Presence { is_here: false, since_ms, until_ms: i64::MAX },
            Habit::Office => Presence { is_here: false, since_ms, until_ms: START_MS + 8 * HOUR_MS },
            Habit::Sometimes { here_ms, away_ms } => {
                let is_here = world.unit() < here_ms / (here_ms + away_ms);
                let mean = if is_here { here_ms } else { away_ms };
                Presence { is_here, since_ms, until_ms: START_MS + span(mean, world) }
            }
        }
    }

    /// Lets time pass up to now, which is never before the last time.
    pub(crate) fn pass(&mut self, habit: Habit, now_ms: i64, world: &mut Simulated) {
        while self.until_ms <= now_ms {
            self.is_here = !self.is_here;
            self.since_ms = self.until_ms;
            self.until_ms = match habit {
                Habit::Always | Habit::Dead => i64::MAX,
                Habit::Sometimes { here_ms, away_ms } => {
                    self.since_ms + span(if self.is_here { here_ms } else { away_ms }, world)
                }
                Habit::Office if self.is_here => self.since_ms + 10 * HOUR_MS,
                Habit::Office => {
                    let is_friday = (self.since_ms - START_MS).div_euclid(DAY_MS).rem_euclid(7) == 4;
                    self.since_ms + 14 * HOUR_MS + if is_friday { 2 * DAY_MS } else { 0 }
                }
            };
        }
    }

    /// Whether the hub heard of it in the last hour, if it listens to everybody.
    pub(crate) fn was_heard(&self, now_ms: i64) -> bool {
        self.is_here || now_ms - self.since_ms < HOUR_MS
    }
}

/// A time with this mean, exponentially distributed; at least a second.
pub(crate) fn span(mean_ms: f64, world: &mut Simulated) -> i64 {
    (-mean_ms * (1.0 - world.unit()).ln()).max(1000.0) as i64
}
