//! What happens in a night, act by act; each is one run of the process that begins where the one before ended.

use std::collections::BTreeSet;

use node::install::state::Kept;
use package::name::ModelName;

use crate::house::{House, Name};
use crate::seen::{Seen, Violation, must};

/// What a run meets.
#[derive(Clone, Default)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    /// What the repository serves.
    pub(crate) stage: usize,
    /// An older stage that an attacker serves first.
    pub(crate) replays: Option<usize>,
    /// Targets that the node asks for.
    pub(crate) targets: Vec<String>,
    /// Assignments that it is offered, good and bad.
    pub(crate) offers: Vec<Vec<u8>>,
    /// All that was approved by now.
    pub(crate) approved: BTreeSet<Name>,
    /// Releases of `tiny` that answer their golden set wrongly.
    pub(crate) fails_golden: Vec<u64>,
    /// Releases of `tiny` whose answers fail.
    pub(crate) fails_trial: Vec<u64>,
    /// Releases of `tiny` that take the process down.
    pub(crate) kills: Vec<u64>,
    /// `tiny` does not load, whichever.
    pub(crate) breaks: bool,
    /// A person leaves safe mode.
    pub(crate) forgives: bool,
    /// Nothing lets models answer.
    pub(crate) unserved: bool,
    /// Releases of `tiny` that are to answer beside the current one.
    pub(crate) beside: Vec<u64>,
    /// The order to do so is taken back.
    is_withdrawn: bool,
    /// They were compared often enough.
    pub(crate) is_enough: bool,
    /// A transfer cannot end.
    pub(crate) waits: bool,
    /// Smaller variants are to stand by.
    pub(crate) spares: bool,
    /// They answer their golden set wrongly.
    pub(crate) spare_fails: bool,
    /// They take the process down.
    pub(crate) spare_kills: bool,
    /// The release of `pair` that is current at the end, and whether its spare stands by.
    pair: Option<(u64, bool)>,
    /// The release of `tiny` that is current at the end.
    current: u64,
    is_safe: bool,
}

/// The night.
pub(crate) fn acts(house: &House) -> Vec<Act> {
    let bad = Act { fails_golden: vec![3], fails_trial: vec![4], kills: vec![5], ..Act::default() };
    let mut approved = BTreeSet::new();
    let mut acts: Vec<Act> = Vec::new();
    let mut version = 0;
    let mut act =
        |name: &'static str, stage: usize, names: &[Name], current: u64, change: &dyn Fn(&mut Act, u64)| {
            version += 1;
            approved.extend(names.iter().copied());
            let mut act = Act { name, stage, current, approved: approved.clone(), ..bad.clone() };
            act.targets = names.iter().map(|(model, release)| format!("models/{model}/{release}")).collect();
            act.offers = vec![house.assign(version, names)];
            change(&mut act, version);
            acts.push(act);
        };
    let other = ("other", 1);
    let none: &dyn Fn(&mut Act, u64) = &|_, _| ();
    act("the first model", 0, &[("tiny", 1)], 1, none);
    act("an update that commits, among forged offers", 1, &[("tiny", 2)], 2, &|act, version| {
        let forged = house.forge(version + 5, &[("tiny", 9)]);
        act.offers.splice(0..0, [forged, house.assign(version + 5, &[("tiny", 9)])]);
    });
    act("a second model that shares a blob, among replays", 2, &[("tiny", 2), other], 2, &|act, _| {
        act.replays = Some(0);
        act.offers.push(house.assign(1, &[("tiny", 1)]));
    });
    act("an update that answers wrongly", 3, &[("tiny", 3), other], 2, none);
    act("new keys, and an update that fails its trial", 4, &[("tiny", 4), other], 2, none);
    act("an update that takes the node down", 5, &[("tiny", 5), other], 2, none);
    act("the same, again", 5, &[("tiny", 5), other], 2, none);
    act("the same, refused", 5, &[("tiny", 5), other], 2, none);
    act("an update that a team approves", 6, &[("tiny", 6), other], 6, none);
    act("an update that is too large", 7, &[("tiny", 7), other], 6, &|act, _| act.waits = true);
    act("an update instead of it", 8, &[("tiny", 8), other], 8, none);
    act("a release that is to answer beside", 9, &[("tiny", 9), other], 8, &|act, version| {
        act.beside = vec![9];
        act.offers = vec![house.assign(version, &[("tiny", 8), other]), house.assign_beside(1, 9)];
    });
    act("the same goes on", 9, &[("tiny", 8), other], 8, &|act, _| {
        act.beside = vec![9];
    });
    act("the same is enough", 9, &[("tiny", 8), other], 8, &|act, _| {
        act.beside = vec![9];
        act.is_enough = true;
    });
    act("another comparison of it", 9, &[("tiny", 8), other], 8, &|act, _| {
        act.beside = vec![9];
        act.offers.push(house.assign_beside(2, 9));
    });
    act("it is withdrawn", 9, &[("tiny", 8), other], 8, &|act, _| {
        act.beside = vec![9];
        act.offers.push(house.withdraw(3));
        act.is_withdrawn = true;
    });
    act("nothing loads any more", 9, &[("tiny", 8), other], 6, &|act, _| {
        act.breaks = true;
        act.is_safe = true;
    });
    act("a person leaves safe mode", 9, &[("tiny", 8), other], 6, &|act, _| act.forgives = true);
    act("nobody serves", 9, &[("tiny", 8), other], 6, &|act, _| act.unserved = true);
    let pair = |release, has_spare| {
        move |act: &mut Act, _: u64| {
            act.spares = true;
            act.pair = Some((release, has_spare));
        }
    };
    act("a model with a spare", 10, &[("pair", 1)], 6, &pair(1, true));
    act("nothing new", 10, &[("pair", 1)], 6, &pair(1, true));
    act("a release whose spare answers wrongly", 11, &[("pair", 2)], 6, &|act, version| {
        pair(2, false)(act, version);
        act.spare_fails = true;
    });
    act("nobody wants spares", 11, &[("pair", 2)], 6, &|act, _| act.pair = Some((2, false)));
    act("a spare after all", 11, &[("pair", 2)], 6, &pair(2, true));
    // Its own spare makes room for it.
    for name in ["a release whose spare takes the node down", "it does so again"] {
        act(name, 12, &[("pair", 3)], 6, &|act, version| {
            pair(3, false)(act, version);
            act.spare_kills = true;
        });
    }
    act("it is given up", 12, &[("pair", 3)], 6, &pair(3, false));
    acts
}

impl Act {
    /// Whether the run came to where it should, after the process ended `ends` times unasked. Two ends in the wrong moment may
    /// cost a good candidate its chances.
    pub(crate) fn check(&self, house: &House, seen: &Seen, ends: u32) -> Result<(), Violation> {
        let tiny = ModelName::new("tiny").unwrap();
        let nothing = Kept::default();
        let kept = seen.slots.get(&tiny).unwrap_or(&nothing);
        let current = kept.current.as_ref().map(|slot| slot.release);
        let manifest = &house.releases[&("tiny", self.current)].manifest;
        let is_refused = ends >= 2 && kept.refusal(manifest).is_some();
        let wanted = self.current;
        must!(current == Some(wanted) || is_refused, "{}: {current:?} is current, not {wanted}", self.name);
        let is_beside = kept.beside().is_some_and(|(it, _)| self.beside.contains(&it.slot.release));
        must!(kept.beside().is_none() || is_beside, "{}: it answers beside unasked", self.name);
        let shall = !self.beside.is_empty() && !self.is_withdrawn && !self.is_enough;
        must!(is_beside == shall || ends > 0 && !is_beside, "{}: beside is {is_beside}", self.name);
        let is_counted = self.unserved && kept.unproven_starts > 0;
        must!(!is_counted, "{}: starts were counted, and nothing was started", self.name);
        must!(kept.safe.is_some() == self.is_safe || is_refused, "{}: safe is {:?}", self.name, kept.safe);
        self.check_pair(house, seen, ends)
    }

    fn check_pair(&self, house: &House, seen: &Seen, ends: u32) -> Result<(), Violation> {
        let (pair, nothing) = (ModelName::new("pair").unwrap(), Kept::default());
        let kept = seen.slots.get(&pair).unwrap_or(&nothing);
        let Some((wanted, has_spare)) = self.pair else { return Ok(()) };
        let current = kept.current.as_ref().map(|slot| slot.release);
        let is_refused = ends >= 2 && kept.refusal(&house.releases[&("pair", wanted)].manifest).is_some();
        must!(current == Some(wanted) || is_refused, "{}: pair {current:?}, not {wanted}", self.name);
        for report in kept.reports.iter().filter_map(|report| report.manifest) {
            must!(house.releases.values().all(|it| it.spare != Some(report)), "a spare is in a report");
        }
        if is_refused {
            return Ok(());
        }
        let has = kept.spare_at_hand().is_some();
        let is_given_up = ends >= 2 && kept.spareless.is_some();
        must!(has == has_spare || is_given_up, "{}: a spare stands by: {has}", self.name);
        Ok(())
    }
}
