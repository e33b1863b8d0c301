//! Nights of the remembering half, played from a seed: a real journal, sync, a lossy link and a hub by the wire's rules.
//! Requests and answers get lost, the process is killed, the power fails, the disk is tiny, the hub is restored from
//! a backup. In the end: every record once and in order, or told as lost.
//!
//! A failure prints its seed and a line per event. `SEED=17 cargo nextest run -p node night` plays one again.

#![allow(clippy::print_stdout, reason = "a failing night tells its story")]

use std::collections::BTreeMap;

use node::journal::outbox::Outbox;
use node::journal::{Durability, Journal, JournalError};
use node::sync::{Effect, Event, Failure, Sync};
use tempfile::TempDir;
use wire::checkin::CheckInAnswer;
use wire::class::Class;
use wire::id::JournalId;
use wire::record::Gap;
use wire::world::{Clock, Entropy, Simulated};

use crate::stand::{FakeHub, batch, body, capped, copy, draft, folder, stamp, stream};

const STREAMS: [(&str, Class); 5] = [
    ("decisions", Class::Audit),
    ("events", Class::Event),
    ("summary.a", Class::Metric),
    ("summary.b", Class::Metric),
    ("readings", Class::Raw),
];

/// What may go wrong in a night.
#[derive(Debug, Clone, Copy)]
struct Weather {
    max_bytes: u64,
    lost: f64,
    kills: f64,
    power_cuts: f64,
    hub_restored: f64,
    /// An old copy of the journal comes back.
    copy_restored: f64,
}

/// The bodies that were committed, per stream, in order.
type Written = BTreeMap<&'static str, Vec<String>>;

struct Night {
    weather: Weather,
    world: Simulated,
    dir: TempDir,
    journal: Option<Journal>,
    outbox: Option<Outbox>,
    sync: Sync,
    /// What sync last wanted.
    effect: Option<Effect>,
    written: Written,
    /// The journal as a power cut leaves it: at the last commit that was on the disk.
    durable: (TempDir, Written),
    copies: Vec<(TempDir, Written)>,
    hub: FakeHub,
    backups: Vec<FakeHub>,
    hub_up: bool,
    calm: bool,
    next_body: u64,
    forks: u64,
    log: Vec<String>,
}

impl Night {
    fn new(seed: u64, weather: Weather) -> Night {
        let mut night = Night {
            weather,
            world: Simulated::new(seed),
            dir: folder(),
            journal: None,
            outbox: None,
            sync: Sync::new(),
            effect: None,
            written: Written::new(),
            durable: (folder(), Written::new()),
            copies: Vec::new(),
            hub: FakeHub::default(),
            backups: vec![FakeHub::default()],
            hub_up: true,
            calm: false,
            next_body: 0,
            forks: 0,
            log: Vec::new(),
        };
        night.start();
        night
    }

    fn chance(&mut self, probability: f64) -> bool {
        !self.calm && self.world.unit() < probability
    }

    fn note(&mut self, line: String) {
        self.log.push(format!("{:>9.3} s  {line}", self.world.mono_ns() as f64 / 1e9));
    }

    fn start(&mut self) {
        let settings = capped(self.weather.max_bytes);
        let opened = Journal::open(self.dir.path(), settings, &mut self.world).unwrap();
        assert_eq!(opened.set_aside, None, "{}", self.story());
        self.outbox = Some(opened.journal.outbox().unwrap());
        self.journal = Some(opened.journal);
        self.sync = Sync::new();
        self.effect = None;
        // Opening puts everything on the disk.
        self.keep_durable();
    }

    fn stop(&mut self) {
        (self.journal, self.outbox) = (None, None);
    }

    fn keep_durable(&mut self) {
        if self.weather.power_cuts > 0.0 {
            copy(self.dir.path(), self.durable.0.path());
            self.durable.1 = self.written.clone();
        }
    }

    fn commit(&mut self, durability: Durability, audit: Option<String>, others: Vec<(&'static str, String)>) {
        let journal = self.journal.as_mut().unwrap();
        let mut audit = audit;
        let durable = match journal.commit(durability) {
            Ok(committed) => committed.durable,
            Err(JournalError::Full { refused: 1, .. }) => {
                audit = None;
                true
            }
            Err(error) => panic!("{error}"),
        };
        for (name, text) in others.into_iter().chain(audit.map(|text| ("decisions", text))) {
            self.written.entry(name).or_default().push(text);
        }
        if durable {
            self.keep_durable();
        }
    }

    /// The thinking half has something to remember.
    fn write(&mut self) {
        let (mut audit, mut others) = (None, Vec::new());
        let stamp = stamp(&mut self.world);
        for _ in 0..1 + (self.world.unit() * 4.0) as u64 {
            let (name, class) = STREAMS[(self.world.unit() * STREAMS.len() as f64) as usize];
            if class == Class::Audit && audit.is_some() {
                continue;
            }
            let text = body(self.next_body, 30 + (self.world.unit() * self.world.unit() * 3000.0) as usize);
            self.next_body += 1;
            self.journal.as_mut().unwrap().append([draft(name, class, &text)], stamp).unwrap();
            match class {
                Class::Audit => audit = Some(text),
                _ => others.push((name, text)),
            }
        }
        let line = format!("write {} and {} decision", others.len(), usize::from(audit.is_some()));
        self.note(line);
        self.commit(Durability::Relaxed, audit, others);
    }

    fn pass_time(&mut self, ms: u64) {
        self.world.advance_ms(ms);
        let due = self.journal.as_ref().unwrap().durable_due();
        if due.is_some_and(|due| due <= self.world.mono_ns()) {
            self.commit(Durability::Full, None, Vec::new());
        }
    }

    /// Carries out what sync wants, as the uplink does.
    fn sync_once(&mut self) {
        let outbox = self.outbox.as_ref().unwrap();
        let event = match self.effect.take() {
            None => Event::Looked(outbox.positions().unwrap()),
            Some(Effect::Wait { until, growth }) => {
                let now = self.world.mono_ns();
                if now < until && !growth {
                    if self.calm {
                        self.world.advance_to(until);
                    } else {
                        self.effect = Some(Effect::Wait { until, growth });
                        return;
                    }
                } else if self.calm {
                    self.world.advance_to(until.min(now + 1_000_000_000));
                }
                Event::Looked(self.outbox.as_ref().unwrap().positions().unwrap())
            }
            Some(Effect::CheckIn) => {
                let watermarks = self.hub.watermarks(outbox.journal().unwrap());
                let next_ms = 5_000;
                let answer = CheckInAnswer { v: 1, next_ms, watermarks, ..CheckInAnswer::default() };
                self.note("check in".into());
                self.deliver(|_| Event::CheckedIn(Box::new(answer)))
            }
            Some(Effect::Send { stream, max_bytes, max_records }) => {
                // A link this thin makes many batches.
                let run = outbox.next_run(&stream, max_bytes.min(6000), max_records).unwrap();
                match run {
                    None => Event::NothingToSend(outbox.positions().unwrap()),
                    Some(run) => {
                        let batch = batch(run);
                        let (first, last) = batch.range().unwrap();
                        let gap = batch.gap.as_ref().map_or(0, Gap::count);
                        self.note(format!("send {stream} {first}..={last}, {gap} of them lost"));
                        self.deliver(|hub| Event::Answered(hub.take(&batch)))
                    }
                }
            }
            Some(Effect::Settle { watermarks, complete }) => {
                let settled = outbox.settle(&watermarks, complete).unwrap();
                let positions = outbox.positions().unwrap();
                self.note(format!("settle {settled:?}"));
                Event::Settled { strangers: !settled.strangers.is_empty(), positions }
            }
            Some(Effect::Fork) => {
                let report = outbox.fork(JournalId::random(&mut self.world)).unwrap();
                let positions = outbox.positions().unwrap();
                self.note(report.to_string());
                self.forks += 1;
                self.keep_durable();
                Event::Forked(positions)
            }
        };
        let now = self.world.mono_ns();
        if let Event::Failed(failure) = &event {
            self.log.push(format!("                 {failure}"));
        }
        self.effect = Some(self.sync.step(event, now, &mut self.world));
    }

    /// A request over the link: it, or its answer, may get lost.
    fn deliver(&mut self, take: impl FnOnce(&mut FakeHub) -> Event) -> Event {
        let lost = |why: &str| Event::Failed(Failure::Unreachable { why: why.into() });
        let busy = |status, retry_after_ns| {
            Event::Failed(Failure::Status { status, retry_after_ns, why: "".into() })
        };
        if !self.hub_up || self.chance(self.weather.lost) {
            return lost("the request was lost");
        }
        if self.chance(self.weather.lost / 8.0) {
            return busy(503, Some(2_000_000_000));
        }
        if self.chance(self.weather.lost / 20.0) {
            return busy(413, None);
        }
        if self.chance(self.weather.lost / 40.0) {
            return busy(400, None);
        }
        let answer = take(&mut self.hub);
        if self.chance(self.weather.lost) {
            return lost("the answer was lost");
        }
        answer
    }

    fn disaster(&mut self) {
        if self.chance(self.weather.kills) {
            self.note("the process is killed".into());
            self.stop();
            self.start();
        }
        if self.chance(self.weather.power_cuts) {
            self.note("the power fails".into());
            self.stop();
            copy(self.durable.0.path(), self.dir.path());
            self.written = self.durable.1.clone();
            self.start();
        }
        if self.chance(0.01) {
            self.hub_up = !self.hub_up;
            self.note(format!("the hub is {}", if self.hub_up { "back" } else { "away" }));
        }
        if self.chance(self.weather.hub_restored) {
            self.backups.push(self.hub.clone());
        }
        if self.chance(self.weather.hub_restored) {
            let at = (self.world.unit() * self.backups.len() as f64) as usize;
            self.note(format!("the hub is restored from backup {at}"));
            self.hub = self.backups[at].clone();
        }
        if self.chance(self.weather.copy_restored) {
            let kept = folder();
            copy(self.dir.path(), kept.path());
            self.copies.push((kept, self.written.clone()));
        }
        if !self.copies.is_empty() && self.chance(self.weather.copy_restored) {
            let at = (self.world.unit() * self.copies.len() as f64) as usize;
            self.note(format!("the journal is restored from copy {at}"));
            self.stop();
            copy(self.copies[at].0.path(), self.dir.path());
            self.written = self.copies[at].1.clone();
            self.start();
        }
    }

    fn play(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.world.unit() {
                dice if dice < 0.3 => self.write(),
                dice if dice < 0.85 => self.sync_once(),
                _ => {
                    let ms = (self.world.unit() * self.world.unit() * 3000.0) as u64;
                    self.pass_time(ms);
                }
            }
            self.disaster();
        }
        // A calm morning: everything goes up.
        (self.calm, self.hub_up) = (true, true);
        self.note("morning".into());
        self.pass_time(2000);
        for _ in 0..20_000 {
            self.sync_once();
            let waiting = matches!(self.effect, Some(Effect::Wait { growth: true, .. }));
            let positions = self.outbox.as_ref().unwrap().positions().unwrap();
            let watermarks = self.hub.watermarks(self.journal_id());
            let known = positions.iter().filter(|p| p.leaves && p.last > 0).all(|p| {
                watermarks.iter().any(|mark| mark.stream == p.stream && mark.seq == p.last) && p.unsent() == 0
            });
            if waiting && known {
                return;
            }
        }
        panic!("it never drains{}", self.story());
    }

    fn journal_id(&self) -> JournalId {
        self.outbox.as_ref().unwrap().journal().unwrap()
    }

    fn story(&self) -> String {
        format!("\n{}\n", self.log.join("\n"))
    }
}

/// Plays `seeds` nights, or the one that `SEED` names. `weather` gives each its own.
fn nights(seeds: u64, weather: impl Fn(u64) -> Weather, check: impl Fn(&Night, u64)) {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let mut night = Night::new(seed, weather(seed));
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            night.play(220);
            check(&night, seed);
        }));
        if let Err(panic) = played {
            println!("seed {seed}, {:?}{}", night.weather, night.story());
            std::panic::resume_unwind(panic);
        }
    }
}

fn losses(seed: u64, max_bytes: u64) -> Weather {
    Weather {
        max_bytes,
        lost: [0.0, 0.1, 0.3, 0.6][seed as usize % 4],
        kills: 0.01,
        power_cuts: if seed.is_multiple_of(3) { 0.01 } else { 0.0 },
        hub_restored: if seed.is_multiple_of(5) { 0.01 } else { 0.0 },
        copy_restored: 0.0,
    }
}

/// Everything that was written is at the hub once and in order, or told as lost. Gives which classes lost something.
fn account(night: &Night) -> Vec<Class> {
    assert_eq!(night.forks, 0, "a fork without a copy");
    assert!(night.hub.streams.keys().all(|(id, _)| *id == night.journal_id()));
    let mut lost = Vec::new();
    for (name, class) in STREAMS {
        let held = night.hub.streams.get(&(night.journal_id(), stream(name)));
        if class == Class::Raw {
            assert!(held.is_none(), "raw left the node");
            continue;
        }
        let written = night.written.get(name).map_or(&[][..], Vec::as_slice);
        assert_eq!(held.map_or(0, |held| held.seq), written.len() as u64, "{name}: settled and written");
        let Some(held) = held else { continue };
        held.check().unwrap_or_else(|why| panic!("{name}: {why}"));
        for record in &held.records {
            assert_eq!(record.body.get(), written[record.seq as usize - 1], "{name} {}", record.seq);
        }
        if !held.gaps.is_empty() {
            lost.push(class);
        }
    }
    lost
}

#[test]
fn a_night_of_losses_loses_nothing_and_doubles_nothing() {
    nights(260, |seed| losses(seed, 16 << 20), |night, _| assert_eq!(account(night), []));
}

#[test]
fn on_a_tiny_disk_every_loss_is_told_and_no_decision_is_lost() {
    let told = std::cell::Cell::new(0);
    nights(
        260,
        |seed| losses(seed, 96 << 10),
        |night, _| {
            let lost = account(night);
            told.set(told.get() + lost.len());
            // A hub that was restored asks for decisions that it once had.
            assert!(!lost.contains(&Class::Audit) || night.weather.hub_restored > 0.0, "{lost:?}");
        },
    );
    assert!(
        told.get() > 100 || std::env::var("SEED").is_ok(),
        "the disk was not tiny: {} losses",
        told.get()
    );
}

#[test]
fn a_night_of_copies_brings_everything_up_in_the_end() {
    let weather = |seed| Weather {
        max_bytes: 16 << 20,
        lost: [0.0, 0.2][seed as usize % 2],
        kills: 0.005,
        power_cuts: 0.0,
        hub_restored: 0.0,
        copy_restored: 0.02,
    };
    let forked = std::cell::Cell::new(0);
    nights(100, weather, |night, _| {
        forked.set(forked.get() + night.forks);
        for ((_, name), held) in &night.hub.streams {
            held.check().unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(held.gaps.is_empty(), "{name}: {:?}", held.gaps);
        }
        for (name, class) in STREAMS {
            let held = night.hub.bodies(name);
            for text in night.written.get(name).into_iter().flatten().filter(|_| class != Class::Raw) {
                assert!(held.contains(text), "{name} {text} is not at the hub");
            }
        }
    });
    assert!(forked.get() > 0 || std::env::var("SEED").is_ok(), "no copy was ever overtaken");
}
