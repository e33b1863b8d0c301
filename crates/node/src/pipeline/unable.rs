//! When a rule was judged last, and whether that is so long ago that it is unable: a rule that is quiet because nothing is known must
//! not look like one that is quiet because all is well.

use wire::id::PartName;
use wire::world::MonoNs;

use super::products::Product;
use crate::decide::Rule;

/// A rule that was not judged for so long, and for three times the longest of its last intervals, is unable.
const UNABLE_NS: MonoNs = 10_000_000_000;
/// The same of one that was not judged in this run, and three of its sources' intervals where they are declared.
const BEGIN_NS: MonoNs = 20_000_000_000;

/// When a rule was judged last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Judged {
    /// `None` before the first time.
    at_ns: Option<MonoNs>,
    /// Since when somebody waits for it.
    since_ns: Option<MonoNs>,
    unable: bool,
}

impl Judged {
    /// It was judged; what there is to tell of that.
    pub(super) fn note(&mut self, rule: &PartName, now_ns: MonoNs) -> Option<Product> {
        let was_unable = std::mem::take(&mut self.unable);
        let silent_ns = self.at_ns.or(self.since_ns).map_or(0, |at_ns| now_ns.saturating_sub(at_ns));
        self.at_ns = Some(now_ns);
        let reason = format!("judged again, after {} s", silent_ns / 1_000_000_000);
        was_unable.then(|| Product::part(&format!("rule.{rule}"), "ready", reason))
    }

    /// Whether it has just become unable; for how long it was not judged, then.
    pub(super) fn look(&mut self, rule: &Rule, interval_ms: f64, now_ns: MonoNs) -> Option<MonoNs> {
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        let limit_ns = match self.at_ns {
            Some(_) => UNABLE_NS.max(rule.usual_ms().unsigned_abs().saturating_mul(3_000_000)),
            None => BEGIN_NS.max((3e6 * interval_ms) as MonoNs),
        };
        let silent_ns = now_ns.saturating_sub(self.at_ns.unwrap_or(since_ns));
        let fell = silent_ns > limit_ns && !self.unable;
        self.unable |= fell;
        fell.then_some(silent_ns)
    }
}
