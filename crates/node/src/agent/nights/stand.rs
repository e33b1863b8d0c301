//! A gateway in virtual time: the node's own stations on one thread, lives that end and begin again, a disk, clocks and lines that
//! fail when the day says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use net::specimen::{Size, constant, model, node, value};
use tempfile::TempDir;
use tokio::sync::watch;
use wire::id::BootId;
use wire::record::Stamp;
use wire::world::{Clock, ClockQuality, Entropy, MonoNs, Simulated, WallMs};

use super::super::care::{self, Care};
use super::super::looper::{self, Looper, SourceStates};
use super::super::reporting::Desk;
use super::super::shared::Shared;
use super::super::sinks::Sinks;
use super::super::sources::Sources;
use super::super::{begin, clocks, recall, remember_start, report};
use super::day::{Day, Fault, Planned};
use super::judge::{Seen as Second, Tail};
use super::lines::{Broker, Listener, Poller, Said, bring};
use super::plant::Plant;
use crate::config::Config;
use crate::pipeline::bulkhead::sabotage;
use crate::pressure::Limits;
use crate::pressure::look::{Memory, Seen};
use crate::source::BackOff;
use crate::source::http::HttpSource;
use crate::source::queue::Outlet;
use crate::supervise::crumb::Crumb;
use crate::supervise::notify::NotifySettings;

/// The sensors say something so often.
const EVERY_S: u64 = 2;
/// What systemd waits before it starts the node again (`RestartSec`), and what the start may take.
const RESTART_S: u64 = 2;
const LOAD_S: u64 = 3;
const SECOND_NS: MonoNs = 1_000_000_000;
/// What the journal leaves free for others.
const FREE_BYTES: u64 = 64 << 20;

/// What is left out of the healing, to see that somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// Whoever died comes back only after ten minutes.
    Restarts,
    /// Sources that failed are not tried again.
    Tries,
    /// A clock that was set back a little makes everything late.
    SetBack,
    /// One sensor, and no other to ask.
    Siblings,
    /// Rules do not say that they cannot be judged.
    Words,
}

/// A clock that begins with the process.
#[derive(Clone)]
struct Boot {
    world: Simulated,
    base_ns: MonoNs,
}

impl Clock for Boot {
    fn wall_ms(&self) -> WallMs {
        self.world.wall_ms()
    }

    fn mono_ns(&self) -> MonoNs {
        self.world.mono_ns() - self.base_ns
    }
}

impl Entropy for Boot {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.world.fill(bytes);
    }
}

/// A process.
struct Life {
    boot: Boot,
    looper: Looper,
    round: looper::Round,
    care: Care,
    care_round: care::Round,
    listener: Listener,
    poller: Poller,
    brought: Arc<Mutex<HttpSource>>,
}

/// The gateway.
pub(super) struct Stand {
    world: Simulated,
    folder: TempDir,
    plant: Plant,
    without: Without,
    begun: u32,
    /// When each life began, in seconds of the day.
    boots: BTreeMap<BootId, u64>,
    life: Option<Life>,
    wakes_s: u64,
    broker: Broker,
    free_bytes: Arc<AtomicU64>,
    seen: Seen,
    tail: Tail,
    active: Vec<Planned>,
    /// What sensors say that are stuck.
    stuck: BTreeMap<(usize, usize), f64>,
    now_s: u64,
}

/// The rules of the day, and how long each may take: twice its wait, for a fault may break the first one, and 15 s in which a
/// process that died is started again and its sources connect.
pub(super) const RULES: [(&str, usize, u64); 3] =
    [("overpressure", 0, 2 * 5 + 15), ("overheat", 1, 2 * 20 + 15), ("worn", 2, 2 * 5 + 15)];

const FLOW: &str = r#"
[source.a]
type = "http"
summary = "1m"
[source.b]
type = "http"
summary = "1m"
[source.c]
type = "http"
summary = "1m"
channels = ["pressure", "temperature", "vibration"]

[model.bearing]
type = "network"
inputs = ["source.a"]
file = "bearing.onnx"
window = 3
hop = 1
[[model.bearing.recipe.answers]]
as = "numbers"
output = "y"
names = ["level"]

[model.habits]
type = "subspace"
inputs = ["source.b"]
lag = 1
learn = 600

[rule.overpressure]
inputs = ["source.a", "source.b", "source.c"]
when = "OVERPRESSURE"
for = "5s"
clear_after = "5s"
severity = "critical"

[rule.overheat]
inputs = ["source.a", "source.b", "source.c"]
when = "OVERHEAT"
for = "20s"
clear_after = "20s"

[rule.worn]
inputs = ["model.bearing", "source.a", "source.b", "source.c"]
when = "WORN"
floor = "FLOOR"
for = "5s"
clear_after = "5s"
"#;

/// Two of three decide.
fn vote(fields: [&str; 3], limit: f64) -> String {
    let pair =
        |one: usize, other: usize| format!("({} > {limit:?} && {} > {limit:?})", fields[one], fields[other]);
    [pair(0, 1), pair(1, 2), pair(0, 2)].join(" || ")
}

fn flow(without: Without) -> String {
    let (pressure, heat, worn) = match without {
        Without::Siblings => {
            ("a.pressure > 8.0".into(), "a.temperature > 80.0".into(), "bearing.level > 3.5".into())
        }
        _ => (
            vote(["a.pressure", "b.pressure", "c.pressure"], Plant::limit(0)),
            vote(["a.temperature", "b.temperature", "c.temperature"], Plant::limit(1)),
            vote(["bearing.level", "b.vibration", "c.vibration"], Plant::limit(2)),
        ),
    };
    // Where the network is silent, the sensor that it looks at is asked itself.
    let floor = vote(["a.vibration", "b.vibration", "c.vibration"], Plant::limit(2));
    FLOW.replace("FLOOR", &floor)
        .replace("OVERPRESSURE", &pressure)
        .replace("OVERHEAT", &heat)
        .replace("WORN", &worn)
}

/// The mean of the vibration over three readings.
fn network() -> Vec<u8> {
    let third = 1.0 / 3.0;
    let weights = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, third, third, third];
    let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[9, 1], &weights)];
    let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
    model(&parts, &[port("x", 9)], &[port("y", 1)])
}

impl Stand {
    pub(super) fn new(seed: u64, without: Without) -> Stand {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::write(folder.path().join("flow.toml"), flow(without)).unwrap();
        fs::write(folder.path().join("bearing.onnx"), network()).unwrap();
        fs::create_dir(folder.path().join("life-0")).unwrap();
        sabotage::set("late", without == Without::SetBack);
        sabotage::set("bearing", false);
        sabotage::set("habits", false);
        let memory = Memory {
            bytes: 1 << 30,
            limited: true,
            free_bytes: Some(600 << 20),
            some_percent: None,
            full_percent: None,
        };
        Stand {
            world: Simulated::new(seed),
            folder,
            plant: Plant::new(seed),
            without,
            begun: 0,
            boots: BTreeMap::new(),
            life: None,
            wakes_s: 0,
            broker: Broker::default(),
            free_bytes: Arc::new(AtomicU64::new(1 << 40)),
            seen: Seen { memory: Some(memory), disk_free_bytes: Some(1 << 40), ..Seen::default() },
            tail: Tail::default(),
            active: Vec::new(),
            stuck: BTreeMap::new(),
            now_s: 0,
        }
    }

    /// Plays a day; `see` is shown what an onlooker sees at each second. Gives what the journals say.
    pub(super) fn play(mut self, day: &Day, long_s: u64, mut see: impl FnMut(&Plant, &Second)) -> Tail {
        let mut planned = day.0.iter().peekable();
        for now_s in 0..long_s {
            self.now_s = now_s;
            self.world.advance_to(now_s * SECOND_NS);
            let (ended, active): (Vec<Planned>, Vec<Planned>) =
                self.active.iter().copied().partition(|fault| fault.until_s <= now_s);
            self.active = active;
            for fault in ended {
                self.ends(fault.fault);
            }
            while let Some(fault) = planned.next_if(|fault| fault.from_s <= now_s) {
                self.begins(fault.fault);
                self.active.push(*fault);
            }
            self.second();
            let seen = self.onlook();
            see(&self.plant, &seen);
            if now_s % 600 == 599 {
                self.read();
            }
        }
        self.read();
        if let Some(life) = self.life.take() {
            life.looper.finish(life.round).unwrap();
        }
        self.tail
    }

    /// A second of the world, and what the node does in it.
    fn second(&mut self) {
        if self.life.is_none() && self.now_s >= self.wakes_s {
            self.life = Some(self.live());
        }
        // The damaged network crashed, and cannot be loaded again: that is all that is wrong with it.
        let has_crashed = |it: &Planned| it.fault == Fault::NetworkFile && self.now_s == it.from_s + 4;
        if self.active.iter().any(has_crashed) {
            sabotage::set("bearing", false);
        }
        let said = self.now_s.is_multiple_of(EVERY_S).then(|| [0, 1, 2].map(|source| self.say(source)));
        if let Some([a, ..]) = &said {
            self.broker.take(a);
        }
        let (now_s, now_ms) = (self.now_s, self.world.wall_ms());
        let [a, b, c] = [0, 1, 2]
            .map(|source| !self.active.iter().any(|planned| planned.fault == Fault::Lost { source }));
        let Some(life) = &mut self.life else { return };
        life.listener.second(now_s, a, &mut self.broker);
        if let Some(said) = &said {
            life.poller.poll(now_s, b, &said[1]);
            if c {
                bring(&life.brought, &said[2], now_ms);
            }
        }
        life.think();
        life.listener.acknowledge(&mut self.broker);
        life.care.look(&self.seen, &mut life.care_round, life.boot.mono_ns());
        life.think();
    }

    /// What the sensors of a source say now.
    fn say(&mut self, source: usize) -> Said {
        let mut values = [0.0; 3];
        for (channel, value) in values.iter_mut().enumerate() {
            *value = self.plant.value(source, channel, self.now_s);
            for planned in &self.active {
                match planned.fault {
                    Fault::Dead { source: s, channel: c } if (s, c) == (source, channel) => *value = f64::NAN,
                    Fault::Off { source: s, channel: c } if (s, c) == (source, channel) => {
                        *value = 2.0 * Plant::limit(channel) - *value;
                    }
                    Fault::Stuck { source: s, channel: c } if (s, c) == (source, channel) => {
                        *value = *self.stuck.entry((s, c)).or_insert(*value);
                    }
                    _ => {}
                }
            }
        }
        // The plant's own clock is right.
        let wall_ms = Simulated::new(0).wall_ms() + self.now_s as i64 * 1_000;
        Said { wall_ms, values }
    }

    fn begins(&mut self, fault: Fault) {
        match fault {
            Fault::Dead { .. } | Fault::Stuck { .. } | Fault::Off { .. } | Fault::Lost { .. } => {}
            Fault::Clock { by_ms } => self.world.set_wall_back_ms(-by_ms),
            Fault::Network => sabotage::set("bearing", true),
            Fault::Detector => sabotage::set("habits", true),
            Fault::NetworkFile => {
                fs::write(self.folder.path().join("bearing.onnx"), b"half a download").unwrap();
                // It crashes once, and has to be loaded again.
                sabotage::set("bearing", true);
            }
            Fault::LearntFile => {
                self.die();
                let learnt = self.data().join("models").join("habits.json");
                if learnt.exists() {
                    fs::write(learnt, b"{\"form\":1,\"model\":\"hab").unwrap();
                }
            }
            Fault::Journal => self.damage(),
            Fault::Disk { hard } => {
                self.free_bytes.store(0, Relaxed);
                self.seen.disk_free_bytes = Some(0);
                if let Some(life) = self.life.as_ref().filter(|_| hard) {
                    life.looper.journal.fill_disk(true);
                }
            }
            Fault::Memory { free_mib } => self.memory(free_mib),
            Fault::Death => self.die(),
        }
    }

    fn ends(&mut self, fault: Fault) {
        match fault {
            Fault::Stuck { source, channel } => {
                self.stuck.remove(&(source, channel));
            }
            Fault::Clock { by_ms } => self.world.set_wall_back_ms(by_ms),
            Fault::Network => sabotage::set("bearing", false),
            Fault::Detector => sabotage::set("habits", false),
            Fault::NetworkFile => {
                sabotage::set("bearing", false);
                fs::write(self.folder.path().join("bearing.onnx"), network()).unwrap();
            }
            Fault::Disk { .. } => {
                self.free_bytes.store(1 << 40, Relaxed);
                self.seen.disk_free_bytes = Some(1 << 40);
                if let Some(life) = &self.life {
                    life.looper.journal.fill_disk(false);
                }
            }
            Fault::Memory { .. } => self.memory(600),
            Fault::Dead { .. }
            | Fault::Off { .. }
            | Fault::Lost { .. }
            | Fault::LearntFile
            | Fault::Journal
            | Fault::Death => {}
        }
    }

    fn memory(&mut self, free_mib: u64) {
        if let Some(memory) = &mut self.seen.memory {
            memory.free_bytes = Some(free_mib << 20);
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join(format!("life-{}", self.begun))
    }

    /// The process is gone from one instruction to the next: the next life has what the system had of its files.
    fn die(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        life.round.wait_for_keeping();
        let before = self.data();
        self.begun += 1;
        let after = self.data();
        copy(&before, &after);
        drop(life);
        self.tail.last_words(&after, &self.boots);
        let rest = if self.without == Without::Restarts { 600 } else { RESTART_S + LOAD_S };
        self.wakes_s = self.now_s + rest;
    }

    /// Pages of the journal are overwritten; the node finds out when it next looks at the file.
    fn damage(&mut self) {
        if self.life.is_none() {
            return;
        }
        // A hub would have these.
        self.read();
        let path = self.data().join("journal.sqlite");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(conn);
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len().min(64_096);
        bytes[4_096..end].fill(0xaa);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        // The pages in the node's cache are older than this one's transaction.
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA user_version = 1").unwrap();
    }

    /// Reads what the journal has that was not read before.
    fn read(&mut self) {
        self.tail.read(&self.data(), &self.boots);
    }

    /// What an onlooker sees: what each rule says, and when it was last judged.
    fn onlook(&self) -> Second {
        let rules = RULES.map(|(name, ..)| {
            let rules = self.life.as_ref()?.looper.pipeline.rules();
            let rule = rules.iter().find(|rule| rule.config().name.as_str() == name)?;
            Some((rule.firing()?, rule.last_ms()?))
        });
        Second { at_s: self.now_s, rules }
    }

    /// A process begins, as `start_supervised` does it.
    fn live(&mut self) -> Life {
        let data = self.data();
        let text = format!(
            "[node]\nname = \"gateway\"\ndata = \"life-{}\"\nflow = \"flow.toml\"\n\
             [journal]\nmax_bytes = \"4MiB\"\nmin_free_bytes = \"64MiB\"\n",
            self.begun
        );
        let file = self.folder.path().join("node.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        // Each life draws its own.
        let _ = self.world.unit();
        let mut boot = Boot { world: self.world.clone(), base_ns: self.world.mono_ns() };
        let (crumb, died_at) = Crumb::open(&data);
        let life = begin(&data, died_at.as_deref());
        let id = BootId::random(&mut boot);
        self.boots.insert(id, self.now_s);
        let free = Arc::clone(&self.free_bytes);
        let free = Box::new(move || Some(free.load(Relaxed)));
        let (mut pipeline, mut journal, first) = recall(&config, &life.left_out, free, &mut boot).unwrap();
        pipeline.note_at(crumb.clone());
        let stamp = Stamp { boot: id, mono_ns: 0, wall_ms: boot.wall_ms(), clock: ClockQuality::Unchecked };
        remember_start(&mut journal, &first, stamp);
        let outlet = Outlet::new(0);
        let shared = Arc::new(Shared::new(looper::first_status(&config), 0));
        let back_off = BackOff::default();
        let mut sources =
            Sources::new(config.name.clone(), data.clone(), outlet.intake(), clocks(&boot), back_off);
        for source in &config.flow.sources {
            let left_out = life.left_out.parts.get(&format!("source.{}", source.name));
            sources.start(source, left_out.map(String::as_str)).unwrap();
        }
        let tries = self.without != Without::Tries;
        let inlet = |place: usize| outlet.inlet(sources.numbers()[place], Box::new(boot.clone()));
        let (listener, poller) = (Listener::new(inlet(0), tries), Poller::new(inlet(1), tries));
        let brought = Arc::clone(&sources.posted().read().unwrap()["c"]);
        let (_, filed) = report::reports(outlet.messenger());
        let (ring, rung) = watch::channel(0);
        let sinks = Sinks::new(&config, &shared, outlet.messenger(), rung, clocks(&boot), back_off);
        let care = Care {
            root: self.folder.path().to_owned(),
            data: data.clone(),
            limits: Limits { disk_free_bytes: FREE_BYTES, has_spares: false },
            shared: Arc::clone(&shared),
            messenger: outlet.messenger(),
            relief: None,
            clock: Box::new(boot.clone()),
            manager: NotifySettings::default(),
            life: Some(life),
        };
        let looper = Looper {
            pipeline,
            journal,
            outlet,
            boot: id,
            data: data.clone(),
            policy: config.policy.clone(),
            clock: Box::new(boot.clone()),
            shared,
            states: SourceStates::new(&config.flow),
            reports: filed,
            reining: None,
            flow: config.flow.clone(),
            sources,
            sinks: Arc::new(sinks),
            ring,
            desk: Desk::of_nobody(),
            crumb,
        };
        let (round, care_round) = (looper::Round::new(0), care::Round::new(0));
        Life { boot, looper, round, care, care_round, listener, poller, brought }
    }
}

impl Life {
    /// Goes round until nothing waits.
    fn think(&mut self) {
        while let Some(arrival) = self.looper.outlet.next_now() {
            self.looper.crumb.at(None);
            self.looper.turn(Some(arrival), &mut self.round);
            self.round.wait_for_keeping();
        }
        self.looper.crumb.at(None);
        if self.looper.journal.durable_due().is_some_and(|due_ns| self.boot.mono_ns() >= due_ns) {
            self.looper.turn(None, &mut self.round);
        }
    }
}

/// A folder as the system has it now, but for what belongs to the process.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        match name.to_str().unwrap() {
            "journal.sqlite-shm" | "journal.lock" => {}
            _ if path.is_dir() => copy(&path, &to.join(name)),
            _ => {
                fs::copy(&path, to.join(name)).unwrap();
            }
        }
    }
}
