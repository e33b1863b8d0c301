//! Nights of power cuts: packages come, are approved, tried, refused and taken back, on a disk that loses power at every
//! step; and whatever it forgets, the node never stands without a model that ran, never believes an older word than it did,
//! never runs what nobody approved, and leaves nothing lying about.
//!
//! The night is played once without a cut, act by act, counting the disk's points. Then for every act, every point, both
//! ways in which a disk forgets and several seeds: the act begins as it did, the power goes at the point, mostly
//! once more while the node recovers (in one of ten the disk fails once instead), and what then opens is looked at, plays
//! on to the act's end, and is looked at again; one in 32 plays on to the end of the night. `SELVEDGE_CUTS=200000` makes the night longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use package::disk::simulated::{Cut, Simulated};
use wire::hash::Hash;
use wire::world::{self, Entropy};

use crate::house::House;
use crate::life::{End, live};
use crate::mutant::{EFFECTS_FIRST, Mutant, NO_FOLDERS, Over, RENAME_FIRST};
use crate::night::{Act, acts};
use crate::seen::{Seen, Violation};

mod house;
mod journal;
mod life;
mod mutant;
mod night;
mod seen;

/// So many cuts are played at least.
const CUTS: u64 = 10_000;

/// How things stand before an act, and how many points it has.
struct Before {
    disk: Simulated,
    seen: Seen,
    points: u64,
}

/// One way for an act to go wrong.
#[derive(Debug, Clone, Copy)]
struct Item {
    act: usize,
    point: u64,
    how: Cut,
    seed: u64,
}

/// What a disk does in a run.
enum Trouble {
    Dies(u64),
    /// One call fails.
    Fails(u64),
    None,
}

/// Who publishes, what happens, and how things stand before each act.
struct Night {
    house: House,
    acts: Vec<Act>,
    before: Vec<Before>,
}

impl Night {
    /// Plays the night without a cut.
    fn quiet<D: Over>() -> Result<Night, Violation> {
        let house = House::build();
        let acts = acts(&house);
        let (disk, mut seen, mut before) = (Simulated::new(), Seen::default(), Vec::new());
        for act in &acts {
            let (fork, seen_before) = (disk.fork(), seen.clone());
            let end;
            (seen, end) = live::<D>(&house, act, &disk, seen, false);
            let tell = |violation| format!("{}, without a cut: {violation}", act.name);
            let end = end.map_err(tell)?;
            assert_ne!(end, End::Died);
            act.check(&house, &seen, 0)?;
            before.push(Before { disk: fork, seen: seen_before, points: disk.points() });
            disk.end_process();
        }
        Ok(Night { house, acts, before })
    }

    fn items(&self, seed: u64) -> Vec<Item> {
        let mut items = Vec::new();
        for (act, before) in self.before.iter().enumerate() {
            for point in 0..before.points {
                items.extend([Cut::Ordered, Cut::Hostile].map(|how| Item { act, point, how, seed }));
            }
        }
        items
    }

    /// Plays one; gives how many cuts that were, and what must not have happened, with the disk's story.
    fn play<D: Over>(&self, item: Item) -> (u64, Result<(), String>) {
        let disk = self.before[item.act].disk.fork();
        let mut cuts = 0;
        let played = catch_unwind(AssertUnwindSafe(|| self.try_play::<D>(item, &disk, &mut cuts)));
        let played = played.unwrap_or_else(|_| Err("it panics, see above".into()));
        let told = |violation| {
            let story = disk.story().join("\n");
            format!("{violation}\n{item:?}, in the act {:?}:\n{story}", self.acts[item.act].name)
        };
        (cuts, played.map_err(told))
    }

    fn try_play<D: Over>(&self, item: Item, disk: &Simulated, cuts: &mut u64) -> Result<(), Violation> {
        let (act, before) = (&self.acts[item.act], &self.before[item.act]);
        let mut chance = world::Simulated::new(mixed(item));
        let mut seen = before.seen.clone();
        let mut ends = 0;
        let mut troubles = vec![Trouble::Dies(item.point)];
        let second = (chance.unit() * before.points as f64) as u64;
        match chance.unit() {
            ..0.85 => troubles.push(Trouble::Dies(second)),
            ..0.95 => troubles.push(Trouble::Fails(second)),
            _ => {}
        }
        troubles.push(Trouble::None);
        for trouble in troubles {
            let end;
            match trouble {
                Trouble::Dies(point) => disk.dies_at(point),
                Trouble::Fails(point) => disk.fails_at(point),
                Trouble::None => {}
            }
            let fails = matches!(trouble, Trouble::Fails(_));
            (seen, end) = live::<D>(&self.house, act, disk, seen, fails);
            match end? {
                End::Died => {
                    disk.cut(item.how, mixed(item).wrapping_add(*cuts));
                    *cuts += 1;
                    ends += 1;
                }
                End::Killed | End::Failed => {
                    disk.end_process();
                    ends += 1;
                }
                End::Quiet => disk.end_process(),
            }
        }
        act.check(&self.house, &seen, ends)?;
        if chance.unit() < 1.0 / 32.0 {
            for act in &self.acts[item.act + 1..] {
                let end;
                (seen, end) = live::<D>(&self.house, act, disk, seen, false);
                end?;
                disk.end_process();
            }
        }
        Ok(())
    }
}

/// A seed of its own for each item.
fn mixed(item: Item) -> u64 {
    let Item { act, point, how, seed } = item;
    let hash = Hash::of(format!("{act} {point} {how:?} {seed}").as_bytes());
    u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
}

#[test]
fn a_node_is_whole_after_every_cut() {
    let wanted = std::env::var("SELVEDGE_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS);
    let night = Night::quiet::<Simulated>().unwrap();
    let points: u64 = night.before.iter().map(|before| before.points).sum();
    let (cuts, wrong) = (AtomicU64::new(0), Mutex::new(None));
    for items in (0..).map(|seed| night.items(seed)) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (played, result) = night.play::<Simulated>(*item);
                cuts.fetch_add(played, Ordering::Relaxed);
                if let Err(story) = result {
                    wrong.lock().unwrap().get_or_insert(story);
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        if cuts.load(Ordering::Relaxed) >= wanted || wrong.lock().unwrap().is_some() {
            break;
        }
    }
    if let Some(story) = wrong.into_inner().unwrap() {
        panic!("{story}");
    }
    let cuts = cuts.into_inner();
    eprintln!("{cuts} power cuts at {points} points of {} acts", night.acts.len());
    assert!(cuts >= wanted, "{cuts} cuts of {wanted}");
}

/// A night on a disk that is used wrongly: somebody notices, `at_once` if a process that ends is enough.
fn is_noticed<D: Over>(at_once: bool, expected: &str) {
    let told = match Night::quiet::<D>() {
        Ok(night) => {
            let mut played = night.items(0).into_iter().filter_map(|item| night.play::<D>(item).1.err());
            played.next().expect("the night is blind")
        }
        Err(told) if at_once => told,
        Err(told) => panic!("{told}"),
    };
    assert!(told.contains(expected), "{told}");
}

#[test]
fn folders_that_are_never_synced_are_noticed() {
    is_noticed::<Mutant<NO_FOLDERS>>(false, "was used");
}

#[test]
fn files_that_are_moved_before_they_are_synced_are_noticed() {
    is_noticed::<Mutant<RENAME_FIRST>>(false, "is lost");
}

#[test]
fn effects_before_the_state_is_durable_are_noticed() {
    is_noticed::<Mutant<EFFECTS_FIRST>>(true, "is current");
}
