//! What always holds, whatever happens in whatever order.

use proptest::prelude::*;

use super::*;
use crate::install::serving::UNPROVEN_STARTS_MAX;
use crate::install::state::SparePhase;

proptest! {
    /// Whatever happens in whatever order.
    #[test]
    fn what_always_holds(words in proptest::collection::vec((0usize..49, 6u64..10), 0..80)) {
        const WORDS: [&str; 49] = [
            "cut", "restart", "stop", "order", "order", "order-back", "chosen", "chosen", "unfit", "arrived", "arrived",
            "not-arrived", "verified", "verified", "damaged", "unusable", "proved", "disproved", "not-now", "loaded", "spoilt",
            "not-loaded", "answer", "fail", "crash", "roll-back", "leave-safe", "beside", "beside", "beside-too", "compared",
            "aside", "withdrawn", "quiet", "quiet", "busy", "s-chosen", "s-later", "s-arrived", "s-verified", "s-proved",
            "s-disproved", "s-loaded", "s-crash", "s-spoilt", "no-room", "forbidden", "allowed", "unserved",
        ];
        let mut play = Play::that_spares();
        play.rules.trial.least = Duration::ZERO;
        for (word, release) in words {
            let refused: Vec<Digest> = play.slots.kept.refused.iter().map(|it| it.manifest).collect();
            let was_beside = play.slots.kept.beside().map(|(it, _)| it.slot.manifest);
            let effects = play.hear(&format!("{} {release}", WORDS[word]));
            let kept = &play.slots.kept;
            prop_assert!(kept.current.is_some(), "a current model, once there was one");
            for effect in effects.split(' ') {
                let (effect, number) = effect.split_once(':').unwrap_or((effect, "0"));
                let manifest = match number.strip_prefix("spare-") {
                    Some(number) => digest("spare", number.parse().unwrap()),
                    None => digest("manifest", number.parse().unwrap()),
                };
                if ["transfer", "verify", "prove"].contains(&effect) {
                    prop_assert!(!refused.contains(&manifest), "{effect} of what was refused");
                }
                // What the journal does not have is told again at a start.
                if effect == "committed" && !["cut", "restart", "forbidden", "allowed", "unserved"].contains(&WORDS[word]) {
                    prop_assert!(was_beside != Some(manifest), "what answers beside never commits");
                }
            }
            if let Some(candidate) = &kept.candidate {
                prop_assert!(candidate.misses < MISSES_MAX);
                prop_assert!(kept.refusal(&candidate.slot.manifest).is_none());
                prop_assert!(candidate.beside.is_none() || candidate.phase != Phase::Trial);
                prop_assert!(kept.current.as_ref().is_none_or(|it| it.manifest != candidate.slot.manifest));
            }
            let is_wanted = kept.wanted.as_ref().is_some_and(|order| order.beside.is_some());
            prop_assert!(play.rules.beside.is_some() || kept.beside().is_none() && !is_wanted);
            prop_assert!(kept.unproven_starts <= UNPROVEN_STARTS_MAX);
            prop_assert!(!play.slots.run.unserved || play.slots.run.serving.is_none());
            if let Some(spare) = &kept.spare {
                let current = kept.current.as_ref().unwrap();
                prop_assert!(spare.slot.index == current.index && spare.slot.manifest != current.manifest);
                prop_assert!(spare.misses < MISSES_MAX);
                // Only what somebody is at work on, or will be, is in a phase that runs.
                prop_assert!(spare.phase != SparePhase::Proving || play.slots.run.spare.is_at_work);
            }
            let is_spares = |digest: &Digest| (6..10).any(|it| *digest == self::digest("spare", it));
            prop_assert!(!kept.reports.iter().any(|it| it.manifest.as_ref().is_some_and(is_spares)), "no report");
            if let Some(serving) = &play.slots.run.serving {
                let current = kept.current.as_ref().filter(|_| kept.safe.is_none());
                let trial = kept.candidate.as_ref().filter(|it| it.phase == Phase::Trial).map(|it| &it.slot);
                let may_serve = current.into_iter().chain(trial);
                prop_assert!(may_serve.into_iter().any(|slot| slot.manifest == serving.manifest));
            }
        }
    }
}
