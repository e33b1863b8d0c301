//! Language models that answer beside the current one, before their trial or because they were ordered to. Each comparison ends with
//! an event.
//!
//! A build without language models has `no_compare.rs` in the place of this file.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use package::name::ModelName;
use package::trust::shadow::Limits;
use wire::body::Parted;
use wire::hash::Hash;
use wire::world::World;

use super::errand::{Ends, Reach};
use super::word::Word;
use crate::behaviour::Beside;
use crate::config::packages::PackagesConfig;
use crate::install::event::{Agreement, Event, Stood};
use crate::install::prove::ChildProver;
use crate::install::shadow::{Compared, Comparison, One, every};
use crate::install::state::Slot;
use crate::install::trial::Extent;
use crate::transfer::blocking::blocking;

/// Lets a slot's model answer some of what is asked beside the current one. A machine that cannot do that goes on to the trial.
pub(super) async fn shadow<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    slot: Slot,
) -> Event {
    let PackagesConfig { ref rules, shadow: extent, leave, .. } = reach.packages;
    let (ends, budget) = (Ends(Arc::default()), rules.budget);
    let prover = ChildProver { ends: Arc::clone(&ends.0), ..reach.prover.clone() };
    let (cache, keep_bytes) = (reach.server.cache(), leave.memory_bytes);
    let comparison = Comparison { prover, extent, limits: None, cache, keep_bytes };
    let samples = reach.server.slots().sample(model, every(rules.shadow), Arc::default());
    let (manifest, release) = (slot.manifest, slot.release);
    let compared = blocking(move || comparison.compare(&slot, budget, &samples, &mut |_| ())).await;
    let (agreement, words) = match compared {
        Compared::Crashed(why) => return Event::Crashed(manifest, why),
        Compared::Whole(agreement @ Agreement { compared: 0, .. }) => {
            let words =
                "nobody asked what could be compared with the current model's answers; its trial begins";
            (agreement, words.to_owned())
        }
        Compared::Whole(agreement @ Agreement { compared, agreed }) => {
            (agreement, format!("{agreed} of {compared} answers were those of the current model"))
        }
        Compared::NotHere(why) | Compared::Never(why) => {
            let words = format!("it is not compared with the current model, its trial begins: {why}");
            (Agreement { compared: 0, agreed: 0 }, words)
        }
    };
    let words = format!("release {release}: {words}");
    tracing::info!(%model, words, "a release");
    reach.told(model, &words);
    Event::Shadowed(manifest, agreement)
}

/// Lets a slot's model answer beside the current one within these limits, as it was ordered to, and tells what comes of each
/// answer. Ends when it cannot go on; who does not want it any more drops it.
pub(super) async fn beside<W: World + Clone + 'static>(
    reach: &Reach<W>,
    model: &ModelName,
    slot: Slot,
    limits: Limits,
) -> Event {
    let PackagesConfig { ref rules, leave, .. } = reach.packages;
    let (ends, budget) = (Ends(Arc::default()), rules.budget);
    let prover = ChildProver { ends: Arc::clone(&ends.0), ..reach.prover.clone() };
    let extent = Extent { answers: u32::MAX, at_most: Duration::MAX };
    let (cache, keep_bytes) = (reach.server.cache(), leave.memory_bytes);
    let comparison = Comparison { prover, extent, limits: Some(limits), cache, keep_bytes };
    let dropped: Arc<AtomicU64> = Arc::default();
    let share = f64::from(limits.share_ppm) / 1e6;
    let samples = reach.server.slots().sample(model, every(share), Arc::clone(&dropped));
    let mut key = [0; 16];
    reach.world.clone().fill(&mut key);
    let (manifest, words, its) = (slot.manifest, reach.words.clone(), model.clone());
    tracing::info!(%model, release = slot.release, "a release answers beside the current one");
    let compare = move || {
        comparison.compare(&slot, budget, &samples, &mut |one: One| {
            let beside = Beside {
                manifest,
                agrees: one.agrees,
                parted: one.parted.map(|(sample, theirs)| {
                    let (input, ours) = (digest_of(&key, &sample.prompt), digest_of(&key, &sample.answer));
                    let same = sample.answer.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs);
                    let at = u32::try_from(same.count()).unwrap_or(u32::MAX);
                    Parted { input, ours, theirs: digest_of(&key, &theirs), at }
                }),
                skipped: u64::from(one.agrees.is_none()) + dropped.swap(0, Relaxed),
                took: one.took,
                used_uj: one.used_uj,
            };
            // The thread of the slots has ended: nobody counts any more.
            drop(words.send(Word::Beside(its.clone(), beside)));
        })
    };
    match blocking(compare).await {
        Compared::Crashed(why) => Event::Crashed(manifest, why),
        Compared::Never(why) => Event::Stood(manifest, Stood::Off(why)),
        Compared::NotHere(why) => Event::Stood(manifest, Stood::Aside(why)),
        Compared::Whole(_) => {
            let why = "another comparison took its place".to_owned();
            Event::Stood(manifest, Stood::Aside(why))
        }
    }
}

/// A digest of tokens that nobody finds by trying who has not the key.
fn digest_of(key: &[u8; 16], tokens: &[u32]) -> Hash {
    let tokens = tokens.iter().flat_map(|token| token.to_le_bytes());
    Hash::of(&key.iter().copied().chain(tokens).collect::<Vec<u8>>())
}
