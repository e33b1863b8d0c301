//! Any sequence of askings, hours, failures and restarts, against a checker that knows nothing of the envelope: it sees what
//! reached the device, what was asked and when the interlock held.

use proptest::prelude::*;

use super::*;
use crate::act::limits::{Allowed, Rate};

const S: MonoNs = 1_000_000_000;
const MS: MonoNs = 1_000_000;
/// The slowest write.
const SLOWEST: MonoNs = 2 * S;
/// What it may take until the device follows: a write under way, the write behind it, a tick.
const SLACK: MonoNs = 2 * SLOWEST + 2 * S;
const LEASE: MonoNs = 30 * S;
const LONGEST: MonoNs = 600 * S;

fn actor(at: usize) -> Actor {
    let kind = [ActorKind::Rule, ActorKind::Person, ActorKind::Agent][at % 3];
    Actor { kind, name: format!("a{at}") }
}

fn words() -> Limits {
    Limits {
        allowed: Allowed::Words(["safe", "b", "c"].map(str::to_owned).to_vec()),
        safe: Setting::Word("safe".into()),
        rate: Rate { count: 3, per_ms: 20_000 },
        slew_per_s: None,
        interlocked: true,
        lease_ms: LEASE / MS,
        longest_ms: LONGEST / MS,
        tolerance: 0.0,
        agents: true,
    }
}

fn numbers() -> Limits {
    Limits {
        allowed: Allowed::Range { min: 0.0, max: 100.0 },
        safe: Setting::Number(11.1),
        rate: Rate { count: 5, per_ms: 20_000 },
        slew_per_s: Some(8.0),
        tolerance: 0.01,
        ..words()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Ask {
        who: usize,
        to: usize,
        for_ms: Option<u64>,
    },
    Release {
        who: usize,
    },
    Interlock(Option<bool>),
    Wait {
        ms: u64,
        holds: bool,
    },
    /// The node does nothing for a while.
    Hang {
        ms: u64,
    },
    /// The node begins again, and its guard too.
    Restart,
    /// The guard dies: a write under way may have reached the device.
    LoseGuard,
    /// The next write does not reach the device, reaches it and is told as failed, or is read back as something else.
    Fail(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6usize, 0..5usize, proptest::option::of(0..700_000u64))
            .prop_map(|(who, to, for_ms)| Op::Ask { who, to, for_ms }),
        2 => (0..6usize).prop_map(|who| Op::Release { who }),
        2 => proptest::option::of(any::<bool>()).prop_map(Op::Interlock),
        6 => (1..40_000u64, prop_oneof![4 => Just(true), 1 => Just(false)])
            .prop_map(|(ms, holds)| Op::Wait { ms, holds }),
        1 => (1..90_000u64).prop_map(|ms| Op::Hang { ms }),
        1 => Just(Op::Restart),
        1 => Just(Op::LoseGuard),
        2 => (0..3u8).prop_map(Op::Fail),
    ]
}

/// What the checker sees.
#[derive(Default)]
struct Seen {
    device: Vec<(MonoNs, Setting)>,
    asked: Vec<(MonoNs, Asked)>,
    released: Vec<(MonoNs, Actor)>,
    interlock: Vec<(MonoNs, bool)>,
    /// While something fails, nobody can bring the device back: from, to.
    excused: Vec<(MonoNs, MonoNs)>,
    settings: Vec<(MonoNs, Setting)>,
}

struct House {
    limits: Limits,
    envelope: Envelope,
    now: MonoNs,
    /// The write under way: id, setting, when it reaches the device, when it is told.
    flight: Option<(u64, Setting, MonoNs, MonoNs, u8)>,
    fail: u8,
    fails: bool,
    delay: u64,
    lapsed: bool,
    seen: Seen,
    at: Option<Setting>,
}

impl House {
    fn new(limits: Limits, delay: u64) -> House {
        let envelope = Envelope::new(limits.clone(), S);
        let mut house = House {
            limits,
            envelope,
            now: S,
            flight: None,
            fail: 0,
            fails: false,
            delay,
            lapsed: true,
            seen: Seen::default(),
            at: None,
        };
        house.give(Event::Tick);
        house
    }

    fn reach(&mut self, to: Setting) {
        if to == self.limits.safe && self.fails {
            self.fails = false;
            for excuse in self.seen.excused.iter_mut().filter(|excuse| excuse.1 == MonoNs::MAX) {
                excuse.1 = self.now + SLACK;
            }
        }
        self.at = Some(to.clone());
        self.seen.device.push((self.now, to));
    }

    fn excuse(&mut self) {
        if !self.fails {
            self.fails = true;
            self.seen.excused.push((self.now, MonoNs::MAX));
        }
    }

    fn give(&mut self, event: Event) {
        for effect in self.envelope.step(event, self.now) {
            match effect {
                Effect::Write { id, to } => {
                    assert!(self.flight.is_none(), "one write at a time");
                    // A guard that begins, or brought the device back by itself, takes the safe setting first.
                    assert!(!self.lapsed || to == self.limits.safe, "the safe setting first");
                    self.delay = (self.delay * 7 + 13) % (SLOWEST / MS);
                    let reach = self.now + self.delay * MS / 2;
                    let tell = self.now + self.delay * MS;
                    let fail = std::mem::take(&mut self.fail);
                    self.flight = Some((id, to, reach, tell, fail));
                }
                Effect::Tell(_) => {}
                Effect::Replace => {
                    // The node hung for so long that it has not heard yet: the guard goes, and what it was told may be done.
                    if let Some((_, to, reach, ..)) = self.flight.take()
                        && reach != MonoNs::MAX
                    {
                        self.reach(to);
                    }
                    self.lapsed = true;
                }
            }
        }
    }

    /// Lets time pass until `until`; the node works if `awake`.
    fn pass(&mut self, until: MonoNs, awake: bool, holds: bool) {
        while self.now < until {
            let mut next = if awake { until.min(self.envelope.wakes_ns(self.now)) } else { until };
            if let Some((_, _, reach, tell, _)) = &self.flight {
                next = next.min(if *reach > self.now { *reach } else { *tell }).max(self.now + 1);
            }
            self.now = next;
            self.arrive(awake);
            if awake {
                if holds {
                    self.seen.interlock.push((self.now, true));
                    self.give(Event::Interlock(Some(true)));
                }
                self.give(Event::Tick);
            }
        }
    }

    fn arrive(&mut self, awake: bool) {
        if let Some((_, to, reach, _, fail)) = self.flight.clone()
            && reach <= self.now
            && fail != 10
        {
            if fail == 1 {
                self.excuse();
            } else {
                self.lapsed &= to != self.limits.safe;
                self.reach(to);
            }
            let flight = self.flight.as_mut().unwrap();
            flight.2 = MonoNs::MAX;
            // Reached: what is told of it stays the same.
            flight.4 = if fail == 0 { 10 } else { fail + 10 };
        }
        if let Some((id, to, _, tell, fail)) = self.flight.clone()
            && tell <= self.now
            && awake
        {
            self.flight = None;
            let read = match fail {
                10 => Ok(Some(to)),
                11 => Err("no answer".to_owned()),
                12 => Err("too late".to_owned()),
                _ => Ok(Some(Setting::Word("something else".to_owned()))),
            };
            if read != Ok(Some(self.limits.safe.clone())) && fail > 10 {
                self.excuse();
            }
            self.give(Event::Wrote { id, read, took_ms: 1 });
        }
    }

    fn hang(&mut self, ms: u64) {
        let (begin, end) = (self.now, self.now + ms * MS);
        // A word that ends meanwhile stands until the guard's lease does.
        self.seen.excused.push((begin, end + SLACK));
        self.pass(end.min(begin + LEASE), false, false);
        if end < begin + LEASE {
            return;
        }
        // The guard brings it back; what it was told before, it has done.
        let safe = self.limits.safe.clone();
        self.flight = None;
        self.reach(safe);
        self.lapsed = true;
        self.now = end;
        self.give(Event::Lapsed { why: "the guard brought it back".into() });
    }

    fn play(&mut self, op: &Op) {
        let setting = |to: usize| match &self.limits.allowed {
            Allowed::Words(_) => Setting::Word(["safe", "b", "c", "d", "b"][to].to_owned()),
            Allowed::Range { .. } => Setting::Number([11.1, 0.0, 100.0, 101.0, 33.3][to]),
        };
        match *op {
            Op::Ask { who, to, for_ms } => {
                let asked =
                    Asked { who: actor(who), to: setting(to), for_ms, why: "test".into(), ticket: None };
                self.seen.asked.push((self.now, asked.clone()));
                self.give(Event::Ask(asked));
            }
            Op::Release { who } => {
                self.seen.released.push((self.now, actor(who)));
                self.give(Event::Release { who: actor(who), why: "enough".into() });
            }
            Op::Interlock(holds) => {
                self.seen.interlock.push((self.now, holds == Some(true)));
                self.give(Event::Interlock(holds));
            }
            Op::Wait { ms, holds } => self.pass(self.now + ms * MS, true, holds),
            Op::Hang { ms } => self.hang(ms),
            Op::Restart | Op::LoseGuard => {
                if let Some((_, to, reach, ..)) = self.flight.take()
                    && reach != MonoNs::MAX
                {
                    self.reach(to);
                }
                // The guard brings the device back before it goes, or a new one is told to.
                if matches!(op, Op::Restart) {
                    let safe = self.limits.safe.clone();
                    self.reach(safe);
                    self.envelope = Envelope::new(self.limits.clone(), self.now);
                } else {
                    self.give(Event::Lost { why: "test".into() });
                }
                self.lapsed = true;
                self.give(Event::Tick);
            }
            Op::Fail(how) => self.fail = how + 1,
        }
        if let Some(at) = self.at.clone() {
            self.seen.settings.push((self.now, at));
        }
    }
}

/// The checker: what must be true of what reached the device.
fn check(seen: &Seen, limits: &Limits) -> Result<(), String> {
    let safe = &limits.safe;
    let away: Vec<&(MonoNs, Setting)> = seen.device.iter().filter(|(_, to)| to != safe).collect();
    for (t, to) in &away {
        limits.allowed.check(to).map_err(|why| format!("at {t}: {why}"))?;
        // The interlock was told to hold not long before, and not told otherwise since.
        let told = seen.interlock.iter().rev().find(|(r, _)| *r <= t.saturating_sub(SLOWEST));
        let fresh = |r: &MonoNs| t - r <= LEASE + SLOWEST;
        let since = seen.interlock.iter().filter(|(r, _)| *r <= *t && *r > t.saturating_sub(SLOWEST));
        let held = told.into_iter().chain(since).any(|(r, holds)| *holds && fresh(r));
        if !held {
            return Err(format!("at {t} it was set to {to}, and the interlock did not hold"));
        }
    }
    // Somebody's word stood.
    let stood = |t: MonoNs, to: Option<&Setting>| {
        seen.asked.iter().any(|(a, asked)| {
            let for_ns = asked.for_ms.map_or(LEASE, |ms| ms * MS);
            let most = if asked.who.kind == ActorKind::Person { LONGEST } else { LEASE };
            let over = seen.released.iter().any(|(r, who)| *who == asked.who && *r > *a && *r + SLACK < t);
            *a <= t
                && for_ns <= most
                && t <= a + for_ns + SLACK
                && !over
                && asked.to != *safe
                && (limits.agents || asked.who.kind != ActorKind::Agent)
                && to.is_none_or(|to| *to == asked.to)
                && limits.allowed.check(&asked.to).is_ok()
        })
    };
    for (t, to) in &away {
        let exact = limits.slew_per_s.is_none().then_some(to);
        if !stood(*t, exact) {
            return Err(format!("at {t} it was set to {to}, for nobody"));
        }
    }
    for (t, at) in &seen.settings {
        let excused = seen.excused.iter().any(|(from, to)| from <= t && t <= to);
        if at != safe && !excused && !stood(*t, None) {
            return Err(format!("at {t} it still is at {at}, for nobody"));
        }
    }
    let window = limits.rate.per_ms * MS;
    let most = limits.rate.count as usize;
    let crowded = |times: &[MonoNs]| times.windows(most + 1).any(|w| w[most] - w[0] < window);
    match limits.slew_per_s {
        None => {
            let times: Vec<MonoNs> = away.iter().map(|(t, _)| *t).collect();
            if crowded(&times) {
                return Err("it was set too often".to_owned());
            }
        }
        Some(slew) => {
            let number = |to: &Setting| match to {
                Setting::Number(number) => *number,
                Setting::Word(_) => f64::NAN,
            };
            let mut departures = Vec::new();
            for (i, (t, to)) in seen.device.iter().enumerate().filter(|(_, (_, to))| to != safe) {
                let before = &seen.device[i - 1];
                if before.1 == *safe {
                    departures.push(*t);
                } else if i >= 2 && seen.device[i - 2].1 != *safe {
                    let turn = (number(to) - number(&before.1))
                        * (number(&before.1) - number(&seen.device[i - 2].1));
                    if turn < 0.0 {
                        departures.push(*t);
                    }
                }
                // From any earlier place that it was at since it last was sent back.
                for (s, from) in seen.device[..i].iter().rev() {
                    let far = slew * ((t - s) as f64 / 1e9 + STEP_NS as f64 / 1e9) + 1e-6;
                    if (number(to) - number(from)).abs() > far {
                        return Err(format!("from {from} at {s} to {to} at {t}: too fast"));
                    }
                    if from == safe {
                        break;
                    }
                }
            }
            if crowded(&departures) {
                return Err("it was turned too often".to_owned());
            }
        }
    }
    Ok(())
}

fn play(limits: &Limits, delay: u64, ops: &[Op]) -> Result<(), String> {
    let mut house = House::new(limits.clone(), delay);
    for op in ops {
        house.play(op);
    }
    // In the end everybody's word is over, and nothing fails any more.
    house.fail = 0;
    house.pass(house.now + LONGEST + 300 * S, true, true);
    check(&house.seen, limits)?;
    match house.at {
        Some(at) if at == limits.safe => Ok(()),
        other => Err(format!("in the end it is at {other:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_the_envelope_of_words(
        delay in 0..2_000u64,
        agents in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        play(&Limits { agents, ..words() }, delay, &ops).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn nothing_leaves_the_envelope_of_numbers(
        delay in 0..2_000u64,
        agents in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        play(&Limits { agents, ..numbers() }, delay, &ops).map_err(TestCaseError::fail)?;
    }
}

/// The checker finds what it is there for.
#[test]
fn the_checker_is_no_rubber_stamp() {
    let ask = |to: &str| Asked {
        who: actor(1),
        to: Setting::Word(to.into()),
        for_ms: Some(10_000),
        why: String::new(),
        ticket: None,
    };
    let word = |text: &str| Setting::Word(text.into());
    let good = || Seen {
        asked: vec![(S, ask("b"))],
        interlock: vec![(S, true)],
        device: vec![(2 * S, word("b"))],
        ..Seen::default()
    };
    let limits = words();
    assert_eq!(check(&good(), &limits), Ok(()));
    type Spoil<'a> = &'a dyn Fn(&mut Seen);
    let wrong: [(&str, Spoil<'_>); 6] = [
        ("not among", &|seen| seen.device = vec![(2 * S, word("d"))]),
        ("interlock", &|seen| seen.interlock = vec![(S / 2, false)]),
        ("interlock", &|seen| seen.device = vec![(40 * S, word("b"))]),
        ("for nobody", &|seen| seen.device = vec![(2 * S, word("c"))]),
        ("for nobody", &|seen| seen.settings = vec![(60 * S, word("b"))]),
        ("too often", &|seen| seen.device = (0..4).map(|i| (2 * S + i * MS, word("b"))).collect()),
    ];
    for (what, spoil) in wrong {
        let mut seen = good();
        spoil(&mut seen);
        let told = check(&seen, &limits).unwrap_err();
        assert!(told.contains(what), "{told}");
    }
    let of_an_agent = Seen { asked: vec![(S, Asked { who: actor(2), ..ask("b") })], ..good() };
    assert_eq!(check(&of_an_agent, &limits), Ok(()));
    let none = Limits { agents: false, ..limits };
    assert!(check(&of_an_agent, &none).unwrap_err().contains("for nobody"));
    let number = |number| Setting::Number(number);
    let seen = Seen {
        asked: vec![(S, Asked { to: number(33.3), ..ask("b") })],
        interlock: vec![(S, true)],
        device: vec![(S, number(11.1)), (2 * S, number(30.0))],
        ..Seen::default()
    };
    assert!(check(&seen, &numbers()).unwrap_err().contains("too fast"));
}

/// One story, told as a person would hear it.
fn story(limits: Limits) -> (Envelope, impl FnMut(&mut Envelope, MonoNs, Event) -> Vec<String>) {
    let envelope = Envelope::new(limits, 0);
    let tell = |envelope: &mut Envelope, now_ns: MonoNs, event: Event| -> Vec<String> {
        let mut lines = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in envelope.step(event, now_ns) {
                match effect {
                    Effect::Write { id, to } => {
                        lines.push(format!("write {to}"));
                        events.push(Event::Wrote { id, read: Ok(Some(to)), took_ms: 1 });
                    }
                    Effect::Tell(told) => {
                        let Told { who, asked, outcome, why, .. } = told;
                        lines.push(format!("{who}: {asked} {}: {why}", outcome.as_str()));
                    }
                    Effect::Replace => lines.push("replace".to_owned()),
                }
            }
        }
        lines
    };
    (envelope, tell)
}

fn ask(who: usize, to: &str, for_ms: Option<u64>) -> Event {
    let (to, why) = (Setting::Word(to.into()), "because".to_owned());
    Event::Ask(Asked { who: actor(who), to, for_ms, why, ticket: None })
}

#[test]
fn who_goes_before_whom() {
    let (mut envelope, mut tell) = story(Limits { interlocked: false, ..words() });
    let mut at = |s: u64, event| tell(&mut envelope, s * S, event);
    assert_eq!(at(0, Event::Tick), ["write safe", "the node: safe done: the node has begun"]);
    // The rate begins used up.
    assert_eq!(at(1, ask(2, "b", None)), ["agent a2: b refused: its rate of 3/? is used up"]);
    assert_eq!(at(21, ask(2, "b", None)), ["write b", "agent a2: b done: because"]);
    assert_eq!(at(22, ask(5, "c", None)), ["agent a5: c refused: the word of agent a2 stands: b"]);
    // A rule goes before an agent, a person before a rule.
    let rule = at(23, ask(0, "c", None));
    assert_eq!(rule, ["agent a2: b over: rule a0 has taken over", "write c", "rule a0: c done: because"]);
    let person = at(24, ask(1, "safe", Some(60_000)));
    assert_eq!(person[..2], ["write safe", "rule a0: c waits: the word of person a1 stands"]);
    assert_eq!(at(25, ask(3, "b", None)), ["rule a3: b waits: the word of person a1 stands"]);
    let released = at(45, Event::Release { who: actor(1), why: "enough".into() });
    assert_eq!(
        released[..3],
        ["person a1: safe over: enough", "write c", "rule a3: b waits: the word of rule a0 stands"]
    );
    // A rule that nobody renews ends; the other one gets its turn.
    let over = at(53, Event::Tick);
    assert_eq!(over, ["rule a0: c over: the lease ran out", "write b", "rule a3: b done: because"]);
    assert_eq!(
        at(56, Event::Tick),
        [
            "rule a3: b over: the lease ran out",
            "write safe",
            "the node: safe done: rule a3: the lease ran out"
        ]
    );
}

#[test]
fn a_missing_interlock_is_none() {
    let (mut envelope, mut tell) = story(words());
    let mut at = |s: u64, event| tell(&mut envelope, s * S, event);
    at(0, Event::Tick);
    let refused = ["person a1: b refused: its interlock does not hold"];
    assert_eq!(at(30, ask(1, "b", None)), refused);
    at(31, Event::Interlock(None));
    assert_eq!(at(31, ask(1, "b", None)), refused);
    at(32, Event::Interlock(Some(true)));
    assert_eq!(at(32, ask(1, "b", Some(300_000))), ["write b", "person a1: b done: because"]);
    // Nobody judges it any more.
    assert!(at(60, ask(1, "b", Some(300_000))).is_empty());
    let over = at(62, Event::Tick);
    assert_eq!(over[..2], ["person a1: b over: the interlock does not hold any more", "write safe"]);
}

#[test]
fn who_asks_too_often_is_not_written_down() {
    let (mut envelope, _) = story(Limits { interlocked: false, ..words() });
    envelope.step(Event::Tick, 0);
    let mut remembered = 0;
    for i in 0..10_000 {
        let out = envelope.step(ask(2, "nonsense", None), 30 * S + i * MS);
        remembered +=
            out.iter().filter(|effect| matches!(effect, Effect::Tell(told) if told.remember)).count();
    }
    assert_eq!(remembered, ASKS as usize);
}

#[test]
fn an_agent_is_heard_only_where_the_declaration_says_so() {
    let (mut envelope, mut tell) = story(Limits { interlocked: false, agents: false, ..words() });
    let mut at = |s: u64, event| tell(&mut envelope, s * S, event);
    at(0, Event::Tick);
    let said = at(30, ask(2, "b", None));
    assert!(
        said.len() == 1 && said[0].starts_with("agent a2: b refused: agents may not ask for it"),
        "{said:?}"
    );
    // Nor for the safe setting, by which it would stand in the way of other agents.
    assert!(at(31, ask(2, "safe", None))[0].contains("refused"));
    assert_eq!(at(32, ask(1, "b", None)), ["write b", "person a1: b done: because"]);
}

#[test]
fn a_loud_agent_takes_no_turn_of_a_person() {
    let (mut envelope, mut tell) = story(Limits { interlocked: false, ..words() });
    tell(&mut envelope, 0, Event::Tick);
    let mut last = Vec::new();
    for i in 0..200 {
        last = tell(&mut envelope, 30 * S + i * MS, ask(2, "nonsense", None));
    }
    assert!(last[0].contains("it was asked 60 times"), "{last:?}");
    let person = tell(&mut envelope, 31 * S, ask(1, "b", None));
    assert!(person.contains(&"person a1: b done: because".to_owned()), "{person:?}");
}
