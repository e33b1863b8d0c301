//! How models that come as packages behave, counted: for the check-in since the process began, and as a record of each while;
//! and how a release that was ordered to answer beside one of them compares, of which each disagreement is a record, too.
//!
//! A hub that compares those who have a release with those who have not reads these records, so a while never spans two
//! manifests, nor a candidate's trial and the time after it, nor the times with and without another release beside it. While a release is young its records come every ten minutes,
//! later every hour; a while in which nobody asked gives none.

use std::time::Duration;

use package::digest::Digest;
use package::name::ModelName;
use serde_json::Map;
use wire::body::{Behaviour, Disagreement, Parted, Quantiles, Shadow};
use wire::checkin::ModelFigures;
use wire::world::{MonoNs, WallMs};

use crate::install::event::Now;
use crate::install::state::{Kept, Phase};
use crate::install::trial::Answer;
use crate::latency::Latency;

/// The stream of these records.
pub const STREAM: &str = "behaviour";

/// How long a while is, of a young release and of one that has settled.
const YOUNG: Duration = Duration::from_secs(600);
const SETTLED: Duration = Duration::from_secs(3600);

/// How long a release of a rollout is young.
const WEEK_MS: i64 = 7 * 86_400_000;

/// The stream of disagreements.
pub const DISAGREEMENTS: &str = "disagreements";

/// So many disagreements of a while are records; all are counted.
const DISAGREEMENTS_MAX: u64 = 100;

/// So many of a while stand in its own record.
const WORST: usize = 3;

/// A quantile of fewer answers says nothing.
const ANSWERS_MIN: u64 = 20;

/// What was counted.
#[derive(Debug, Clone, Default)]
struct Counts {
    answered: u64,
    failed: u64,
    restarts: u64,
    took: Latency,
}

impl Counts {
    fn note(&mut self, answer: Answer) {
        if answer.ok {
            self.answered += 1;
            self.took.note(u64::from(answer.ms) * 1_000_000);
        } else {
            self.failed += 1;
        }
    }

    fn quantile_ms(&self, share: f64) -> Option<u32> {
        let of_enough = (self.answered >= ANSWERS_MIN).then(|| self.took.quantile_us(share).div_ceil(1000));
        of_enough.and_then(|ms| u32::try_from(ms).ok())
    }
}

/// What became of answers of a release that answers beside the current one. What was asked is in it as digests alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The release's manifest.
    pub manifest: Digest,
    /// Whether one that was compared agrees; `None`: none was.
    pub agrees: Option<bool>,
    /// Where it parts, if it does.
    pub parted: Option<Parted>,
    /// So many were chosen and not compared.
    pub skipped: u64,
    /// How long it took.
    pub took: Duration,
    /// What the machine used meanwhile, in microjoules, if that can be measured.
    pub used_uj: Option<u64>,
}

/// The same, summed up over a while.
#[derive(Debug, Clone, Default)]
struct Compared {
    shadow: Shadow,
    busy: Duration,
    used_uj: Option<u64>,
}

impl Compared {
    fn note(&mut self, beside: &Beside, experiment: Option<&String>) {
        let shadow = &mut self.shadow;
        (shadow.experiment, shadow.manifest) = (experiment.cloned(), Some(beside.manifest.hash()));
        shadow.compared += u64::from(beside.agrees.is_some());
        shadow.agreed += u64::from(beside.agrees == Some(true));
        shadow.skipped += beside.skipped;
        shadow.worst.extend(beside.parted);
        shadow.worst.sort_by_key(|parted| parted.at);
        shadow.worst.truncate(WORST);
        self.busy += beside.took;
        self.used_uj = match (self.used_uj, beside.used_uj) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
    }

    /// `None`: nothing was chosen to be compared.
    fn told(self) -> Option<Shadow> {
        let Compared { shadow, busy, used_uj } = self;
        let busy_ms = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
        let is_any = shadow.compared + shadow.skipped > 0;
        is_any.then(|| Shadow { busy_ms, joules: used_uj.map(|uj| uj / 1_000_000), ..shadow })
    }
}

/// What a while is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct About {
    manifest: Digest,
    is_trial: bool,
    rollout: Option<String>,
    /// What answers beside it.
    beside: Option<Digest>,
}

/// One model, watched.
#[derive(Debug, Default)]
pub struct Watch {
    about: Option<About>,
    began_ms: WallMs,
    began_ns: MonoNs,
    /// In this while.
    counts: Counts,
    /// Since the process began.
    ever: Counts,
    /// What was compared in this while.
    compared: Compared,
    /// How many comparisons the slots have not heard of.
    untold: u64,
}

impl Watch {
    /// An answer, right or failed, of the model that serves.
    pub fn answered(&mut self, answer: Answer) {
        self.counts.note(answer);
        self.ever.note(answer);
    }

    /// It broke down.
    pub fn crashed(&mut self) {
        self.counts.restarts += 1;
        self.ever.restarts += 1;
    }

    /// Something became of an answer that was chosen to be compared; the record of it, if it parts.
    pub fn beside(&mut self, model: &ModelName, kept: &Kept, beside: &Beside) -> Option<Disagreement> {
        let (candidate, _) = kept.beside().filter(|(it, _)| it.slot.manifest == beside.manifest)?;
        let experiment = candidate.slot.rollout.clone();
        self.compared.note(beside, experiment.as_ref());
        self.untold += u64::from(beside.agrees.is_some());
        let Shadow { compared, agreed, .. } = self.compared.shadow;
        let parted = beside.parted.filter(|_| compared - agreed <= DISAGREEMENTS_MAX)?;
        Some(Disagreement {
            model: model.to_string(),
            manifest: kept.current.as_ref()?.manifest.hash(),
            candidate: beside.manifest.hash(),
            experiment,
            parted,
        })
    }

    /// How many comparisons the slots have not heard of.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// The same, and now they have.
    pub fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Time passed: the while that is over, if one is. `serving`: the manifest that answers now.
    pub fn tick(
        &mut self,
        model: &ModelName,
        kept: &Kept,
        serving: Option<Digest>,
        now: &Now,
        rss_bytes: impl FnOnce() -> Option<u64>,
    ) -> Option<Behaviour> {
        let about = serving.and_then(|manifest| about(kept, manifest));
        let lasts = Duration::from_nanos(now.mono_ns.saturating_sub(self.began_ns));
        let most = if is_young(kept, now.wall_ms) { YOUNG } else { SETTLED };
        if about == self.about && lasts < most {
            return None;
        }
        let counts = std::mem::take(&mut self.counts);
        let over = std::mem::replace(&mut self.about, about);
        let from_ms = std::mem::replace(&mut self.began_ms, now.wall_ms);
        self.began_ns = now.mono_ns;
        let About { manifest, rollout, .. } = over?;
        // What was compared before the first while began is told with it.
        let shadow = std::mem::take(&mut self.compared).told();
        let is_silent = counts.answered + counts.failed + counts.restarts == 0 && shadow.is_none();
        let (p50, p95) = (counts.quantile_ms(0.5), counts.quantile_ms(0.95));
        let latency_ms = p50.zip(p95).map(|(p50, p95)| Quantiles { p50, p95, n: counts.answered });
        (!is_silent).then(|| Behaviour {
            id: format!("{}-b-{}-{model}", now.boot, now.mono_ns / 1_000_000),
            model: model.to_string(),
            manifest: manifest.hash(),
            rollout,
            from_ms,
            to_ms: now.wall_ms,
            answered: counts.answered,
            failed: counts.failed,
            abstained: None,
            latency_ms,
            rss_bytes: rss_bytes(),
            joules: None,
            drift: None,
            restarts: counts.restarts,
            shadow,
        })
    }

    /// What the check-in says, but for the memory.
    pub fn figures(&self, model: &ModelName) -> ModelFigures {
        ModelFigures {
            model: model.to_string(),
            manifest: self.about.as_ref().map(|about| about.manifest.hash()),
            answered: self.ever.answered,
            failed: self.ever.failed,
            p95_ms: self.ever.quantile_ms(0.95),
            rss_bytes: None,
            extra: Map::new(),
        }
    }
}

fn about(kept: &Kept, manifest: Digest) -> Option<About> {
    let trial = kept.candidate.as_ref().map(|candidate| (true, &candidate.slot));
    let slots = trial.into_iter().chain(kept.current.as_ref().map(|slot| (false, slot)));
    let (is_trial, slot) = slots.into_iter().find(|(_, slot)| slot.manifest == manifest)?;
    let beside = kept.beside().filter(|(it, _)| it.phase == Phase::Shadow).map(|(it, _)| it.slot.manifest);
    Some(About { manifest, is_trial, rollout: slot.rollout.clone(), beside })
}

/// Whether somebody waits for figures: a candidate is here, or a rollout brought the current release within the week.
fn is_young(kept: &Kept, now_ms: WallMs) -> bool {
    let current = kept.current.as_ref().filter(|slot| slot.rollout.is_some());
    let committed_ms = current.and_then(|slot| slot.committed_ms);
    kept.candidate.is_some() || committed_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < WEEK_MS)
}

#[cfg(test)]
mod tests {
    use package::name::VariantName;
    use wire::id::BootId;
    use wire::world::Simulated;

    use super::*;
    use crate::install::state::Slot;

    const MINUTE_NS: u64 = 60_000_000_000;

    fn slot(release: u64, rollout: Option<&str>) -> Slot {
        let digest = Digest::of(&release.to_le_bytes());
        Slot {
            release,
            index: digest,
            manifest: digest,
            variant: VariantName::new("q4_0").unwrap(),
            weights: digest,
            golden: None,
            committed_ms: Some(0),
            rollout: rollout.map(str::to_owned),
        }
    }

    fn at(minutes: u64) -> Now {
        let boot = BootId::random(&mut Simulated::new(1));
        Now { mono_ns: minutes * MINUTE_NS, wall_ms: minutes as i64 * 60_000, boot, kernel: None }
    }

    #[test]
    fn a_while_is_an_hour_or_ten_minutes_and_of_one_manifest() {
        let model = ModelName::new("tiny").unwrap();
        let (mut kept, mut watch) =
            (Kept { current: Some(slot(6, None)), ..Kept::default() }, Watch::default());
        let tick = |watch: &mut Watch, kept: &Kept, release: u64, minutes| {
            watch.tick(&model, kept, Some(slot(release, None).manifest), &at(minutes), || Some(9))
        };
        assert_eq!(tick(&mut watch, &kept, 6, 1), None, "it begins");
        for ms in 1..=40 {
            watch.answered(Answer { ms, ok: true, golden: false });
        }
        watch.answered(Answer { ms: 0, ok: false, golden: false });
        assert_eq!(tick(&mut watch, &kept, 6, 59), None);
        let told = tick(&mut watch, &kept, 6, 61).unwrap();
        assert_eq!((told.answered, told.failed, told.from_ms, told.to_ms), (40, 1, 60_000, 3_660_000));
        let Quantiles { p50, p95, n } = told.latency_ms.unwrap();
        assert!((20..=24).contains(&p50) && (38..=46).contains(&p95) && n == 40, "{p50} {p95}");
        assert_eq!(tick(&mut watch, &kept, 6, 121), None, "nobody asked");
        // Another manifest answers: the while of the old one is over.
        watch.answered(Answer { ms: 5, ok: true, golden: false });
        kept.current = Some(slot(7, Some("9f3c")));
        let told = tick(&mut watch, &kept, 7, 122).unwrap();
        assert_eq!((told.answered, told.latency_ms, told.rollout), (1, None, None));
        watch.crashed();
        assert_eq!(tick(&mut watch, &kept, 7, 131), None);
        let told = tick(&mut watch, &kept, 7, 132).unwrap();
        assert_eq!((told.restarts, told.rollout.as_deref()), (1, Some("9f3c")), "it is young");
        let figures = watch.figures(&model);
        assert_eq!((figures.answered, figures.failed), (41, 1));
        assert!(figures.p95_ms.is_some());
    }
}
