//! Sync's rules one by one, without a journal: what comes first, what waits and how long, and that no hub, however
//! strange, gets it into a tight loop.

use node::journal::position::Position;
use node::sync::{Effect, Event, Failure, Sync, Trouble};
use wire::batch::{BatchAnswer, Outcome, Watermark};
use wire::checkin::{CheckInAnswer, Quiet};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::StreamName;
use wire::world::{Clock, MonoNs, Simulated};

use crate::stand::stream;

const SECOND: MonoNs = 1_000_000_000;

/// A stream with `unsent` records of `bytes` each, all on disk.
fn position(name: &str, class: Class, unsent: u64, bytes: u64) -> Position {
    let mut position = Position::empty(&stream(name), class, true);
    (position.last, position.durable, position.bytes) = (unsent, unsent, unsent * bytes);
    position
}

fn stored(name: &StreamName, seq: u64) -> Event {
    let watermark = Watermark { stream: name.clone(), seq, hash: Hash::of(&seq.to_le_bytes()) };
    Event::Answered(BatchAnswer { outcome: Outcome::Stored, watermark })
}

fn checked_in(next_ms: u64) -> Event {
    Event::CheckedIn(Box::new(CheckInAnswer { v: 1, next_ms, ..CheckInAnswer::default() }))
}

fn status(status: u16, retry_after_s: Option<u64>) -> Event {
    let retry_after_ns = retry_after_s.map(|seconds| seconds.saturating_mul(SECOND));
    Event::Failed(Failure::Status { status, retry_after_ns, why: "no".into() })
}

fn unreachable() -> Event {
    Event::Failed(Failure::Unreachable { why: "cable".into() })
}

/// Sync, a journal that is only positions, and a clock.
struct Play {
    sync: Sync,
    positions: Vec<Position>,
    world: Simulated,
    /// Every request: when, and of which stream, if it was a batch.
    requests: Vec<(MonoNs, Option<String>)>,
    forks: u64,
}

impl Play {
    fn new(positions: Vec<Position>) -> Play {
        Play { sync: Sync::new(), positions, world: Simulated::new(9), requests: Vec::new(), forks: 0 }
    }

    /// Runs for `seconds`; `hub` answers each request. A request takes a millisecond.
    fn run(&mut self, seconds: u64, mut hub: impl FnMut(&Effect, &mut Vec<Position>) -> Event) {
        let end = self.world.mono_ns() + seconds * SECOND;
        let mut event = Event::Looked(self.positions.clone());
        while self.world.mono_ns() < end {
            let now = self.world.mono_ns();
            let effect = self.sync.step(event, now, &mut self.world);
            event = match &effect {
                Effect::Wait { until, .. } => {
                    assert!(*until > now, "a wait that is none");
                    self.world.advance_to((*until).min(end));
                    Event::Looked(self.positions.clone())
                }
                Effect::CheckIn => {
                    self.requests.push((now, None));
                    self.world.advance_ms(1);
                    hub(&effect, &mut self.positions)
                }
                Effect::Send { stream, .. } => {
                    self.requests.push((now, Some(stream.to_string())));
                    self.world.advance_ms(1);
                    hub(&effect, &mut self.positions)
                }
                Effect::Settle { watermarks, .. } => {
                    for mark in watermarks {
                        let own = self.positions.iter_mut().filter(|p| p.stream == mark.stream);
                        own.for_each(|p| p.acked = mark.seq.min(p.last));
                    }
                    Event::Settled { strangers: false, positions: self.positions.clone() }
                }
                Effect::Fork => {
                    self.forks += 1;
                    Event::Forked(self.positions.clone())
                }
            };
        }
    }

    fn batches(&self) -> Vec<&str> {
        self.requests.iter().filter_map(|(_, stream)| stream.as_deref()).collect()
    }
}

/// A hub that stores what it is sent, `at_once` records of a stream at a time.
fn good_hub(at_once: u64) -> impl FnMut(&Effect, &mut Vec<Position>) -> Event {
    move |effect, positions| match effect {
        Effect::Send { stream, .. } => {
            let position = positions.iter().find(|p| p.stream == *stream).unwrap();
            stored(stream, (position.acked + at_once).min(position.durable))
        }
        _ => checked_in(60_000),
    }
}

#[test]
fn the_check_in_comes_first_then_the_most_precious() {
    let mut secret = position("secret", Class::Raw, 5, 100);
    secret.leaves = false;
    let mut play = Play::new(vec![
        secret,
        position("raw", Class::Raw, 5, 100),
        position("m", Class::Metric, 5, 100),
        position("d", Class::Audit, 5, 100),
        position("e", Class::Event, 5, 100),
    ]);
    play.run(10, good_hub(5));
    assert_eq!(play.requests[0].1, None);
    assert_eq!(play.batches(), ["d", "e", "m", "raw"]);
}

#[test]
fn classes_that_the_hub_wants_quiet_wait_and_what_an_auditor_asks_for_does_not() {
    let mut play = Play::new(vec![
        position("d", Class::Audit, 5, 100),
        position("e", Class::Event, 5, 100),
        position("m", Class::Metric, 5, 100),
    ]);
    let hush = |class, ms| Quiet { class, ms };
    let quiet = vec![hush(Class::Audit, 60_000), hush(Class::Event, 15_000), hush(Class::Metric, u64::MAX)];
    let mut check_ins = 0;
    let mut hub = good_hub(5);
    play.run(100, |effect, positions| match effect {
        Effect::CheckIn => {
            check_ins += 1;
            // The second time it says nothing of it any more.
            let quiet = if check_ins == 1 { quiet.clone() } else { Vec::new() };
            let answer = CheckInAnswer { v: 1, next_ms: 60_000, quiet, ..CheckInAnswer::default() };
            Event::CheckedIn(Box::new(answer))
        }
        _ => hub(effect, positions),
    });
    let sent: Vec<(&str, u64)> =
        play.requests.iter().filter_map(|(at, stream)| Some((stream.as_deref()?, at / SECOND))).collect();
    assert_eq!((sent[0], sent[1]), (("d", 0), ("e", 15)));
    assert!(sent.len() == 3 && sent[2].0 == "m" && (54..=67).contains(&sent[2].1), "{sent:?}");
}

#[test]
fn a_few_records_wait_a_little_for_company_and_many_do_not() {
    for (bytes, expected_ms) in [(100, 200..=210), (100_000, 0..=5)] {
        let mut play = Play::new(vec![position("m", Class::Metric, 2, bytes)]);
        play.run(5, good_hub(9));
        let sent_ms = play.requests[1].0 / 1_000_000;
        assert!(expected_ms.contains(&sent_ms), "{bytes}: {sent_ms}");
    }
}

#[test]
fn a_backlog_neither_delays_an_alert_nor_is_forgotten() {
    let backlog = 100_000;
    let mut play = Play::new(vec![
        position("m1", Class::Metric, backlog, 1000),
        position("m2", Class::Metric, backlog, 1000),
        position("d", Class::Audit, backlog, 1000),
        position("e", Class::Event, 0, 0),
    ]);
    // An event every 50 requests.
    let mut requests = 0;
    play.run(20, |effect, positions| {
        requests += 1;
        if requests % 50 == 0 {
            let event = positions.iter_mut().find(|p| p.stream == stream("e")).unwrap();
            event.last += 1;
            event.durable += 1;
            // As large as a batch, so that it does not linger and the test can count turns.
            event.bytes += 200_000;
        }
        good_hub(200)(effect, positions)
    });
    let batches = play.batches();
    // While decisions have a backlog too: three turns for them, one for the metrics.
    let early = &batches[40..440];
    let count = |name: &str| early.iter().filter(|stream| **stream == name).count();
    assert!((280..=300).contains(&count("d")), "{}", count("d"));
    assert!(
        (45..=51).contains(&count("m1")) && (45..=51).contains(&count("m2")),
        "{} {}",
        count("m1"),
        count("m2")
    );
    assert!(count("e") >= 7);
    for (at, _) in play.requests.iter().enumerate().filter(|(at, _)| at % 50 == 49 && *at < 400) {
        let next = play.requests[at..].iter().position(|(_, stream)| stream.as_deref() == Some("e"));
        assert!(next.is_some_and(|turns| turns <= 4), "the event of request {at} waited {next:?}");
    }
    // In the end everything is there.
    assert!(play.positions.iter().all(|p| p.unsent() == 0));
}

#[test]
fn an_unreachable_hub_is_tried_less_and_less_often_and_never_given_up() {
    let mut play = Play::new(vec![position("d", Class::Audit, 5, 100)]);
    play.run(3600, |_, _| unreachable());
    let first_hour = play.requests.len();
    assert!((15..60).contains(&first_hour), "{first_hour}");
    play.run(400 * 24 * 3600, |_, _| unreachable());
    let days = (play.requests.len() - first_hour) / 400;
    assert!((400..800).contains(&days), "{days} a day");
    assert!(play.batches().is_empty());
    // It comes back: at most five minutes later it is all there.
    play.run(301, good_hub(5));
    assert_eq!(play.positions[0].unsent(), 0);
}

#[test]
fn waits_are_jittered() {
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut play = Play::new(vec![]);
        play.world = Simulated::new(seed);
        play.run(100, |_, _| unreachable());
        firsts.insert(play.requests[4].0 / 100_000_000);
    }
    assert!(firsts.len() > 25, "{firsts:?}");
}

#[test]
fn the_hub_says_when_to_come_again() {
    for (code, asked_s, at_least_s, at_most_s) in [
        (429, Some(100), 100, 112),
        (503, Some(7), 7, 9),
        (503, Some(1 << 40), 3600, 3962),
        (503, None, 0, 1),
    ] {
        let mut play = Play::new(vec![position("d", Class::Audit, 5, 100)]);
        let mut first = true;
        play.run(5000, |effect, positions| {
            if std::mem::take(&mut first) { status(code, asked_s) } else { good_hub(5)(effect, positions) }
        });
        let waited = play.requests[1].0 - play.requests[0].0;
        assert!(
            (at_least_s * SECOND..=at_most_s * SECOND + SECOND / 100).contains(&waited),
            "{code} {asked_s:?}: {waited}"
        );
        assert_eq!(play.positions[0].unsent(), 0);
    }
}

#[test]
fn a_stream_that_the_hub_refuses_does_not_hold_up_the_others() {
    for code in [400, 409, 413, 422] {
        let mut play = Play::new(vec![
            position("bad", Class::Audit, 50, 100),
            position("good", Class::Metric, 50_000, 100),
        ]);
        let mut troubles = 0;
        play.run(3600, |effect, positions| match effect {
            Effect::Send { stream, .. } if stream.as_str() == "bad" => status(code, None),
            _ => good_hub(100)(effect, positions),
        });
        while play.sync.take_trouble().is_some_and(|trouble| matches!(trouble, Trouble::Stream { .. })) {
            troubles += 1;
        }
        assert_eq!((play.positions[1].unsent(), troubles), (0, 1), "{code}");
        let bad = play.batches().iter().filter(|stream| **stream == "bad").count();
        // Too large is made smaller a few times first.
        assert!((3..20).contains(&bad), "{code}: {bad}");
        // Mended at last, it goes.
        play.run(2 * 3600, good_hub(100));
        assert_eq!(play.positions[0].unsent(), 0, "{code}");
    }
}

#[test]
fn a_wrong_token_is_tried_slowly() {
    let mut play = Play::new(vec![position("d", Class::Audit, 5, 100)]);
    play.run(24 * 3600, |_, _| status(401, None));
    assert!((280..600).contains(&play.requests.len()), "{}", play.requests.len());
    assert!(matches!(play.sync.take_trouble(), Some(Trouble::Hub(Failure::Status { status: 401, .. }))));
}

#[test]
fn no_hub_makes_a_tight_loop() {
    type Strange = fn(&StreamName) -> Event;
    let hubs: [(&str, Strange); 8] = [
        ("always ahead", |name| {
            let watermark = Watermark { stream: name.clone(), seq: 0, hash: Hash::GENESIS };
            Event::Answered(BatchAnswer { outcome: Outcome::Ahead, watermark })
        }),
        ("always forked", |name| {
            let watermark = Watermark { stream: name.clone(), seq: 0, hash: Hash::GENESIS };
            Event::Answered(BatchAnswer { outcome: Outcome::Forked, watermark })
        }),
        ("stores without moving", |name| stored(name, 0)),
        ("speaks of another stream", |_| stored(&stream("other"), 3)),
        ("finds all too large", |_| status(413, None)),
        ("is mad", |_| Event::Failed(Failure::BadAnswer { why: "not JSON".into() })),
        ("fails", |_| status(500, None)),
        ("redirects", |_| status(302, None)),
    ];
    for (what, strange) in hubs {
        let mut play = Play::new(vec![position("d", Class::Audit, 5000, 100)]);
        play.run(3600, |effect, _| match effect {
            Effect::Send { stream, .. } => strange(stream),
            // Even one that wants to be asked all the time.
            _ => checked_in(0),
        });
        let batches = play.batches().len();
        assert!(batches < 100, "a hub that {what} was sent {batches} batches in an hour");
        assert!(play.requests.len() < 3600 * 12 / 10, "{what}: {}", play.requests.len());
        assert!(play.forks <= 12, "{what}: {} forks", play.forks);
        assert_eq!(play.forks > 0, what == "always forked", "{what}");
    }
}

#[test]
fn a_check_in_settles_every_stream_and_a_stranger_makes_a_fork_but_not_twice_in_a_row() {
    let mut world = Simulated::new(1);
    let mut sync = Sync::new();
    let mut step = |event| {
        let now = world.mono_ns();
        sync.step(event, now, &mut world)
    };
    let strangers = || Event::Settled { strangers: true, positions: Vec::new() };
    assert_eq!(step(Event::Looked(Vec::new())), Effect::CheckIn);
    assert_eq!(step(checked_in(60_000)), Effect::Settle { watermarks: Vec::new(), complete: true });
    assert_eq!(step(strangers()), Effect::Fork);
    assert_eq!(step(Event::Forked(Vec::new())), Effect::CheckIn);
    step(checked_in(60_000));
    assert!(matches!(step(strangers()), Effect::Wait { .. }));
}

#[test]
fn a_call_brings_the_next_check_in_forward_and_no_more_than_one_a_second() {
    let mut world = Simulated::new(1);
    let mut sync = Sync::new();
    let mut step = |event, now| sync.step(event, now, &mut world);
    let called = || Event::Called(Vec::new());
    let settled = || Event::Settled { strangers: false, positions: Vec::new() };
    assert_eq!(step(Event::Looked(Vec::new()), 0), Effect::CheckIn);
    step(checked_in(60_000), 0);
    assert!(matches!(step(settled(), 0), Effect::Wait { until, .. } if until > 50 * SECOND));
    assert_eq!(step(called(), 0), Effect::Wait { until: SECOND, growth: true });
    assert_eq!(step(Event::Looked(Vec::new()), SECOND), Effect::CheckIn);
    step(checked_in(60_000), SECOND);
    step(settled(), SECOND);
    assert_eq!(step(called(), 9 * SECOND), Effect::CheckIn);
    // A hub that wants to be left alone is, whoever calls.
    let Effect::Wait { until, growth: false } = step(status(503, Some(30)), 9 * SECOND) else { panic!() };
    assert_eq!(step(called(), 10 * SECOND), Effect::Wait { until, growth: false });
}

#[test]
fn news_bring_the_next_check_in_forward_and_twelve_times_in_an_interval_at_most() {
    let mut world = Simulated::new(1);
    let mut sync = Sync::new();
    let mut step = |event, now| sync.step(event, now, &mut world);
    let changed = || Event::Changed(Vec::new());
    let settled = || Event::Settled { strangers: false, positions: Vec::new() };
    assert_eq!(step(Event::Looked(Vec::new()), 0), Effect::CheckIn);
    // The interval that the hub advises, in seconds, and how soon after a check-in there may be another.
    for (began, interval, least) in [(0, 60, 5), (1_000, 1_200, 100), (10_000, 10, 3)] {
        let began = began * SECOND;
        step(checked_in(interval * 1000), began);
        step(settled(), began);
        let until = began + least * SECOND;
        assert_eq!(step(changed(), began), Effect::Wait { until, growth: true }, "{interval}");
        assert_eq!(step(changed(), until - 1), Effect::Wait { until, growth: true }, "no later for a second");
        assert_eq!(step(Event::Looked(Vec::new()), until), Effect::CheckIn, "{interval}");
        step(checked_in(interval * 1000), until);
        step(settled(), until);
        assert_eq!(step(changed(), until + 2 * least * SECOND), Effect::CheckIn, "long enough ago");
    }
    let Effect::Wait { until, growth: false } = step(status(503, Some(30)), 20_000 * SECOND) else {
        panic!()
    };
    assert_eq!(step(changed(), 20_001 * SECOND), Effect::Wait { until, growth: false });
}
