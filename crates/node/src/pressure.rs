//! How hard the machine is pressed, and what the node gives up before the system takes more: memory, disk, heat.
//!
//! [`look`] reads `/proc` and `/sys`; [`step`] decides, purely; the agent's `care` thread carries out. Memory is given up in
//! the order of what is missed least: what was kept to be quick, models that nobody uses now, the better variant of a model that has
//! a smaller one standing by, new answers. Sources, rules and the journal are never given up. A level is left only after it was not needed for [`CALM_NS`], so nothing flaps.
//! [The contract](../../../docs/healing.md).

pub mod look;

use wire::body::PartChange;
use wire::world::MonoNs;

use self::look::{Heat, Seen, Zone};

/// Something that was given up is taken back after so long without need.
pub const CALM_NS: MonoNs = 30_000_000_000;

/// What was given up is given up again after so long, if the need goes on: more of it may have gathered.
const AGAIN_NS: MonoNs = 10_000_000_000;

/// A level has so long to help before the next one is tried.
const HELP_NS: MonoNs = 2_000_000_000;

/// A smaller variant has so long to take over: its bytes are checked, and answers under way are written.
const TAKE_OVER_NS: MonoNs = 10_000_000_000;

/// What of its memory the node gives up; each means those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Squeeze {
    /// Nothing.
    #[default]
    Nothing,
    /// What was kept only to be quick: pages of sequences that ended, SQLite's page cache.
    Caches,
    /// Models of files that nobody uses now.
    Models,
    /// Models of slots that have a smaller variant standing by: that answers.
    Variants,
    /// New answers: whoever asks is told to come again.
    Answers,
}

impl Squeeze {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Squeeze::Nothing => "ready",
            Squeeze::Caches => "caches_dropped",
            Squeeze::Models => "models_unloaded",
            Squeeze::Variants => "spares_answer",
            Squeeze::Answers => "answers_refused",
        }
    }

    fn next(self, has_spares: bool) -> Squeeze {
        match self {
            Squeeze::Nothing => Squeeze::Caches,
            Squeeze::Caches => Squeeze::Models,
            Squeeze::Models if has_spares => Squeeze::Variants,
            Squeeze::Models | Squeeze::Variants | Squeeze::Answers => Squeeze::Answers,
        }
    }

    fn helps_ns(self) -> MonoNs {
        if self == Squeeze::Variants { TAKE_OVER_NS } else { HELP_NS }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Give this much up. Told again while the need goes on, and with less when it is over.
    Squeeze(Squeeze),
    /// The journal goes down to its floor.
    ShrinkJournal,
    /// A change, for the journal.
    Tell(PartChange),
}

/// What the node holds its measures against.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the disk that the node leaves free for others: `min_free_bytes` of its journal.
    pub disk_free_bytes: u64,
    /// Whether a smaller variant stands by for anything that serves: else that level is left out.
    pub has_spares: bool,
}

/// How far things have gone.
#[derive(Debug, Clone, Default)]
pub struct State {
    squeeze: Squeeze,
    squeezed_ns: MonoNs,
    given_ns: MonoNs,
    calm_ns: Option<MonoNs>,
    disk_short: bool,
    shrunk_ns: Option<MonoNs>,
    disk_calm_ns: Option<MonoNs>,
    hot: bool,
    throttles: Option<u64>,
    cool_ns: Option<MonoNs>,
}

impl State {
    /// What is given up now.
    pub fn squeeze(&self) -> Squeeze {
        self.squeeze
    }

    /// Whether the disk has less than the node wants to leave free.
    pub fn disk_short(&self) -> bool {
        self.disk_short
    }

    /// Whether the processor is slowed down by heat.
    pub fn hot(&self) -> bool {
        self.hot
    }
}

/// What one look asks for.
pub fn step(state: &State, seen: &Seen, limits: Limits, now_ns: MonoNs) -> (State, Vec<Effect>) {
    let (mut state, mut effects) = (state.clone(), Vec::new());
    memory(&mut state, seen, limits.has_spares, now_ns, &mut effects);
    disk(&mut state, seen, limits, now_ns, &mut effects);
    heat(&mut state, &seen.heat, now_ns, &mut effects);
    (state, effects)
}

/// What a measure asks for by itself, whatever was before. A share of a large memory is more than anybody needs, so each has an
/// absolute bound too. `some`, `full`: percent of the last ten seconds in which some, or all, waited for memory.
pub fn wanted(seen: &Seen) -> Squeeze {
    let Some(memory) = &seen.memory else { return Squeeze::Nothing };
    let free_below = |percent: u64, most_mib: u64| {
        memory.free_bytes.is_some_and(|free| free < (memory.bytes / 100 * percent).min(most_mib << 20))
    };
    let waits = |some: f64, full: f64| {
        memory.some_percent.is_some_and(|it| it >= some) || memory.full_percent.is_some_and(|it| it >= full)
    };
    match () {
        () if free_below(4, 128) || waits(60.0, 20.0) => Squeeze::Answers,
        () if free_below(6, 192) || waits(45.0, 10.0) => Squeeze::Variants,
        () if free_below(8, 256) || waits(30.0, 5.0) => Squeeze::Models,
        () if free_below(15, 512) || waits(10.0, 2.0) => Squeeze::Caches,
        () => Squeeze::Nothing,
    }
}

fn memory(state: &mut State, seen: &Seen, has_spares: bool, now_ns: MonoNs, effects: &mut Vec<Effect>) {
    let wanted = match wanted(seen) {
        Squeeze::Variants if !has_spares => Squeeze::Models,
        wanted => wanted,
    };
    let since = |then_ns: MonoNs| now_ns.saturating_sub(then_ns);
    if wanted > state.squeeze {
        state.calm_ns = None;
        // One after the other, each with time to help, for a cache that was dropped may be all that it takes.
        if state.squeeze == Squeeze::Nothing || since(state.squeezed_ns) >= state.squeeze.helps_ns() {
            state.squeeze = state.squeeze.next(has_spares);
            (state.squeezed_ns, state.given_ns) = (now_ns, now_ns);
            effects.push(Effect::Squeeze(state.squeeze));
            effects.push(tell("memory", state.squeeze.as_str(), words_of_memory(seen)));
        }
        return;
    }
    if wanted == state.squeeze {
        state.calm_ns = None;
        if wanted != Squeeze::Nothing && since(state.given_ns) >= AGAIN_NS {
            state.given_ns = now_ns;
            effects.push(Effect::Squeeze(state.squeeze));
        }
        return;
    }
    let calm_ns = *state.calm_ns.get_or_insert(now_ns);
    if since(calm_ns) >= CALM_NS {
        state.calm_ns = None;
        state.squeeze = wanted;
        (state.squeezed_ns, state.given_ns) = (now_ns, now_ns);
        effects.push(Effect::Squeeze(wanted));
        effects.push(tell("memory", wanted.as_str(), words_of_memory(seen)));
    }
}

fn words_of_memory(seen: &Seen) -> String {
    let Some(memory) = &seen.memory else { return "nobody tells of memory any more".to_owned() };
    let mib = |bytes: u64| bytes >> 20;
    let free = memory.free_bytes.map_or_else(String::new, |free| format!("{} MiB free of ", mib(free)));
    let limited = if memory.limited { ", the limit of this service" } else { "" };
    let waits = match (memory.some_percent, memory.full_percent) {
        (Some(some), Some(full)) => format!("; waiting for memory: some {some:.0} %, all {full:.0} %"),
        _ => String::new(),
    };
    format!("{free}{} MiB{limited}{waits}", mib(memory.bytes))
}

fn disk(state: &mut State, seen: &Seen, limits: Limits, now_ns: MonoNs, effects: &mut Vec<Effect>) {
    let Some(free) = seen.disk_free_bytes else { return };
    // The journal alone keeps this free; if less is, somebody else is writing, and the node makes room.
    let short = free < limits.disk_free_bytes / 2;
    let words = || format!("{} MiB free, {} MiB wanted", free >> 20, limits.disk_free_bytes >> 20);
    if short {
        state.disk_calm_ns = None;
        if !state.disk_short {
            state.disk_short = true;
            effects.push(tell("disk", "short", words()));
        }
        if state.shrunk_ns.is_none_or(|shrunk_ns| now_ns.saturating_sub(shrunk_ns) >= CALM_NS) {
            state.shrunk_ns = Some(now_ns);
            effects.push(Effect::ShrinkJournal);
        }
    } else if state.disk_short && free >= limits.disk_free_bytes {
        let calm_ns = *state.disk_calm_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(calm_ns) >= CALM_NS {
            (state.disk_short, state.disk_calm_ns, state.shrunk_ns) = (false, None, None);
            effects.push(tell("disk", "ready", words()));
        }
    } else {
        state.disk_calm_ns = None;
    }
}

fn heat(state: &mut State, heat: &Heat, now_ns: MonoNs, effects: &mut Vec<Effect>) {
    let more = heat.throttles.zip(state.throttles).is_some_and(|(now, before)| now > before);
    state.throttles = heat.throttles;
    let over = heat.hottest.as_ref().is_some_and(Zone::over);
    let why = match () {
        () if over => "a zone is above the temperature at which the system slows down",
        () if heat.cooling => "the system has slowed the processor down",
        () if more => "the processor has slowed itself down",
        () => "",
    };
    let zone = heat.hottest.as_ref().map_or_else(String::new, |zone| format!("; {}", zone.words()));
    if !why.is_empty() {
        state.cool_ns = None;
        if !state.hot {
            state.hot = true;
            effects.push(tell("heat", "throttled", format!("{why}{zone}")));
        }
    } else if state.hot {
        let cool_ns = *state.cool_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(cool_ns) >= CALM_NS {
            (state.hot, state.cool_ns) = (false, None);
            effects.push(tell("heat", "ready", format!("at full speed again{zone}")));
        }
    }
}

fn tell(part: &str, state: &str, reason: String) -> Effect {
    Effect::Tell(PartChange { part: part.to_owned(), state: state.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::look::Memory;
    use super::*;

    const SECOND: MonoNs = 1_000_000_000;
    const LIMITS: Limits = Limits { disk_free_bytes: 64 << 20, has_spares: false };

    fn with_free(mib: u64) -> Seen {
        let memory = Memory {
            bytes: 1_000 << 20,
            limited: true,
            free_bytes: Some(mib << 20),
            some_percent: Some(0.0),
            full_percent: Some(0.0),
        };
        Seen { memory: Some(memory), disk_free_bytes: Some(1 << 30), heat: Heat::default() }
    }

    /// The squeezes of a run of looks, one a second.
    fn squeezes(free_mib: impl IntoIterator<Item = u64>) -> Vec<(u64, Squeeze)> {
        squeezes_with(LIMITS, free_mib)
    }

    fn squeezes_with(limits: Limits, free_mib: impl IntoIterator<Item = u64>) -> Vec<(u64, Squeeze)> {
        let mut state = State::default();
        let mut all = Vec::new();
        for (at, mib) in (0..).zip(free_mib) {
            let (next, effects) = step(&state, &with_free(mib), limits, at * SECOND);
            state = next;
            all.extend(effects.iter().filter_map(|effect| match effect {
                Effect::Squeeze(squeeze) => Some((at, *squeeze)),
                _ => None,
            }));
        }
        all
    }

    #[test]
    fn one_thing_is_given_up_after_the_other_and_taken_back_when_it_stays_calm() {
        use Squeeze::{Answers, Caches, Models, Nothing};
        assert_eq!(squeezes([500; 100]), []);
        assert_eq!(squeezes([10; 9]), [(0, Caches), (2, Models), (4, Answers)]);
        // Caches were enough: they are dropped again while the need goes on.
        assert_eq!(squeezes([120; 25]), [(0, Caches), (10, Caches), (20, Caches)]);
        let falls = [10; 5].into_iter().chain([500; 40]);
        assert_eq!(squeezes(falls), [(0, Caches), (2, Models), (4, Answers), (35, Nothing)]);
        // It flaps, and nothing is taken back.
        let flaps = (0..100).map(|at| if at % 20 == 0 { 120 } else { 500 });
        assert!(squeezes(flaps).iter().all(|(_, squeeze)| *squeeze == Caches));
    }

    #[test]
    fn what_has_a_smaller_variant_goes_over_to_it_before_anybody_is_refused() {
        use Squeeze::{Answers, Caches, Models, Nothing, Variants};
        let squeezes = |free_mib: Vec<u64>| squeezes_with(Limits { has_spares: true, ..LIMITS }, free_mib);
        // It has its time to take over, however short memory is.
        let all = [(0, Caches), (2, Models), (4, Variants), (14, Answers)];
        assert_eq!(squeezes(vec![10; 24]), all);
        // It was enough; and when nothing is needed any more, all is taken back.
        let helps = [vec![50; 6], vec![500; 40]].concat();
        assert_eq!(squeezes(helps), [(0, Caches), (2, Models), (4, Variants), (36, Nothing)]);
        // From no answers at all it goes back as it came, as far as it may.
        let falls = [vec![10; 16], vec![50; 40]].concat();
        assert_eq!(squeezes(falls)[4..], [(46, Variants)]);
        // 55 MiB are less than six of a hundred; where nothing stands by, that is the level before.
        assert_eq!(squeezes_with(LIMITS, vec![55; 6]), [(0, Caches), (2, Models)]);
    }

    #[test]
    fn who_waits_for_memory_is_short_of_it_whatever_is_free() {
        let waiting = |some, full| {
            let mut seen = with_free(900);
            let memory = seen.memory.as_mut().unwrap();
            (memory.some_percent, memory.full_percent) = (Some(some), Some(full));
            wanted(&seen)
        };
        for (some, full, squeeze) in [
            (0.0, 0.0, Squeeze::Nothing),
            (12.0, 0.0, Squeeze::Caches),
            (31.0, 0.0, Squeeze::Models),
            (46.0, 0.0, Squeeze::Variants),
            (20.0, 25.0, Squeeze::Answers),
        ] {
            assert_eq!(waiting(some, full), squeeze, "{some} {full}");
        }
        assert_eq!(wanted(&Seen::default()), Squeeze::Nothing, "nobody tells");
        let mut large = with_free(700);
        large.memory.as_mut().unwrap().bytes = 64 << 30;
        assert_eq!(wanted(&large), Squeeze::Nothing, "a small share of much is enough");
    }

    #[test]
    fn a_disk_that_others_fill_shrinks_the_journal_once_in_a_while() {
        let mut state = State::default();
        let mut told = Vec::new();
        for at in 0..140 {
            let free = if at < 70 { 20 << 20 } else { 1 << 30 };
            let seen = Seen { disk_free_bytes: Some(free), ..Seen::default() };
            let (next, effects) = step(&state, &seen, LIMITS, at * SECOND);
            state = next;
            told.extend(effects.into_iter().map(|effect| match effect {
                Effect::Tell(change) => format!("{at} {} {}", change.part, change.state),
                other => format!("{at} {other:?}"),
            }));
        }
        assert_eq!(
            told,
            ["0 disk short", "0 ShrinkJournal", "30 ShrinkJournal", "60 ShrinkJournal", "100 disk ready"]
        );
    }

    #[test]
    fn heat_is_told_when_it_slows_the_processor() {
        let zone = |celsius| Zone { name: "cpu".to_owned(), celsius, slows_at: Some(80.0) };
        let looks = [
            Heat { hottest: Some(zone(60.0)), throttles: Some(3), cooling: false },
            Heat { hottest: Some(zone(60.0)), throttles: Some(4), cooling: false },
            Heat { hottest: Some(zone(82.0)), throttles: Some(4), cooling: true },
        ];
        let mut state = State::default();
        let mut told = Vec::new();
        for at in 0..60u64 {
            let heat = looks[(at as usize).min(2)].clone();
            let heat = if at >= 10 { looks[1].clone() } else { heat };
            let (next, effects) = step(&state, &Seen { heat, ..Seen::default() }, LIMITS, at * SECOND);
            state = next;
            told.extend(effects.into_iter().map(|effect| match effect {
                Effect::Tell(change) => format!("{at} {} {}: {}", change.part, change.state, change.reason),
                other => format!("{at} {other:?}"),
            }));
        }
        assert_eq!(
            told,
            [
                "1 heat throttled: the processor has slowed itself down; cpu at 60 °C, slows down at 80 °C",
                "40 heat ready: at full speed again; cpu at 60 °C, slows down at 80 °C",
            ]
        );
    }
}
