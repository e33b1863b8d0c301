//! From what somebody wants to a plan: the waves follow from the members that there are today, and from the salt, which
//! draws their lots.

use std::collections::BTreeSet;

use package::name::ModelName;
use package::trust::window::{When, parse_minute};
use wire::id::NodeId;
use wire::world::WallMs;

use crate::rollout::offer::place;
use crate::rollout::plan::{BadPlan, Disruption, Lane, Plan, Rate, Target};
use crate::rollout::policy::{Preset, waves};
use crate::rollout::text::salt;

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The releases that go about.
    pub what: Vec<Target>,
    /// What nodes go back to.
    pub revert: Vec<Target>,
    /// Which nodes are meant, in the language of [`wire::select`].
    pub group: String,
    /// Nodes that go first, by name.
    pub canary: Vec<NodeId>,
    /// How careful.
    pub preset: Preset,
    /// How long each gate looks, in seconds, if not as long as the preset says.
    pub soak_s: Option<u32>,
    /// The share that changes last.
    pub hold_out_percent: u8,
    /// How many nodes may be away at a time.
    pub budget: Vec<Disruption>,
    /// How fast documents go out.
    pub rate: Rate,
    /// When nodes may change.
    pub when: Option<When>,
    /// How long the documents hold, in seconds.
    pub valid_s: u32,
    /// How many others must approve it.
    pub approvals: u8,
    /// Whether the releases may be older than what nodes have committed.
    pub allow_rollback: bool,
    /// Whether a gate that stops also takes the release back.
    pub revert_on_stop: bool,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub note: String,
}

/// Makes the plan for these nodes: names of all members of the group. `now_ms` becomes the time at which it was made.
pub fn plan<'a>(
    draft: Draft,
    members: impl Iterator<Item = &'a str>,
    targets_version: u64,
    now_ms: WallMs,
) -> Result<Plan, BadPlan> {
    let lane = if draft.preset == Preset::Emergency { Lane::Emergency } else { Lane::Normal };
    let mut plan = Plan {
        what: draft.what,
        revert_on_stop: draft.revert_on_stop && !draft.revert.is_empty(),
        revert: draft.revert,
        group: draft.group,
        canary: draft.canary,
        waves: Vec::new(),
        hold_out_percent: draft.hold_out_percent,
        budget: draft.budget,
        rate: draft.rate,
        when: draft.when,
        lane,
        valid_s: draft.valid_s,
        approvals: draft.approvals,
        allow_rollback: draft.allow_rollback,
        created_by: draft.created_by,
        created_ms: now_ms - now_ms.rem_euclid(1000),
        note: draft.note,
        targets_version,
        salt: [0; 8],
    };
    plan.salt = salt(&plan);
    let mut places: Vec<u16> = members.map(|name| place(&plan, name)).collect();
    places.sort_unstable();
    plan.waves = waves(draft.preset, &places, draft.hold_out_percent);
    if let Some(soak_s) = draft.soak_s {
        plan.waves.iter_mut().for_each(|wave| wave.gate.soak_s = soak_s);
    }
    plan.check()?;
    Ok(plan)
}

/// A release as people name it: `smollm2:7`.
pub fn release(word: &str) -> Option<(ModelName, u64)> {
    let (model, release) = word.rsplit_once(':')?;
    Some((ModelName::new(model).ok()?, release.parse().ok()?))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A window as people write it: `mon-fri 22:00-05:00`, `sat,sun 00:00-23:59`, or hours alone for every day.
pub fn when(words: &str) -> Option<When> {
    let (days, hours) = match words.trim().rsplit_once(' ') {
        Some((days, hours)) => (days.trim(), hours),
        None => ("mon-sun", words.trim()),
    };
    let day = |word: &str| DAYS.iter().position(|day| *day == word).and_then(|at| u8::try_from(at + 1).ok());
    let mut found = BTreeSet::new();
    for part in days.split(',') {
        let (first, last) = match part.trim().split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part.trim())?, day(part.trim())?),
        };
        // fri-mon goes over the end of the week.
        let count = (last + 7 - first) % 7;
        found.extend((0..=count).map(|more| (first - 1 + more) % 7 + 1));
    }
    let minutes = |word: &str| match word.len() {
        4 => parse_minute(&format!("0{word}")),
        _ => parse_minute(word),
    };
    let (from, to) = hours.split_once('-')?;
    let from_min = minutes(from).filter(|minute| *minute < 1440)?;
    Some(When { days: found, from_min, to_min: minutes(to)?, by_ms: None })
}

#[cfg(test)]
mod tests {
    use wire::hash::Hash;

    use super::*;
    use crate::rollout::plan::RING;
    use crate::rollout::text;

    fn draft() -> Draft {
        let target = |release| Target {
            model: ModelName::new("smollm2").unwrap(),
            release,
            index: Hash::of(b"index"),
            size: 2310,
            variant: None,
        };
        Draft {
            what: vec![target(7)],
            revert: vec![target(6)],
            group: "site == \"oslo\"".to_owned(),
            canary: Vec::new(),
            preset: Preset::Usual,
            soak_s: None,
            hold_out_percent: 5,
            budget: Vec::new(),
            rate: Rate::default(),
            when: when("mon-fri 22:00-05:00"),
            valid_s: 30 * 86_400,
            approvals: 0,
            allow_rollback: false,
            revert_on_stop: true,
            created_by: "operator:ann".to_owned(),
            note: String::new(),
        }
    }

    #[test]
    fn a_draft_becomes_a_plan_that_reads() {
        let names: Vec<String> = (0..1000).map(|n| format!("node-{n}")).collect();
        let members = || names.iter().map(String::as_str);
        let made = plan(draft(), members(), 31, 1_795_000_000_123).unwrap();
        assert_eq!(text::read(&text::write(&made)).unwrap(), made);
        assert_eq!(made.created_ms, 1_795_000_000_000);
        let inside = |to: u16| members().filter(|name| place(&made, name) < to).count();
        assert!(inside(made.waves[0].to) >= 102);
        assert_eq!(made.waves.last().map(|wave| wave.to), Some(RING));
        let quick = plan(Draft { soak_s: Some(60), ..draft() }, members(), 31, 0).unwrap();
        assert!(quick.waves.iter().all(|wave| wave.gate.soak_s == 60));
        let odd = Draft { group: "state == \"up\"".to_owned(), ..draft() };
        assert!(matches!(plan(odd, members(), 31, 0), Err(BadPlan::HubFact { .. })));
    }

    #[test]
    fn what_people_write() {
        let days = |words: &str| {
            when(words).map(|when| (when.days.into_iter().collect::<Vec<_>>(), when.from_min, when.to_min))
        };
        assert_eq!(days("mon-fri 22:00-05:00"), Some((vec![1, 2, 3, 4, 5], 1320, 300)));
        assert_eq!(days("fri-mon 1:05-2:00"), Some((vec![1, 5, 6, 7], 65, 120)));
        assert_eq!(days("sat, sun,sun 00:00-23:59"), Some((vec![6, 7], 0, 1439)));
        assert_eq!(days("22:00-05:00").map(|it| it.0.len()), Some(7));
        for odd in ["", "mon", "mon 5", "moon 1:00-2:00", "mon 24:00-1:00", "mon 1:00", "-", "mon- 1:00-2:00"]
        {
            assert_eq!(when(odd), None, "{odd}");
        }
        assert_eq!(release("smollm2:7").map(|it| it.1), Some(7));
        assert!(release("smollm2").is_none() && release("Big:7").is_none() && release(":7").is_none());
    }
}
