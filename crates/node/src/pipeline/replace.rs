//! Goes on with another flow, without losing what did not change: windows, what models have learnt, rules that fire.

use wire::body::{Decision, Ran, RuleState};
use wire::hash::Hash;
use wire::world::WallMs;

use super::Pipeline;
use super::products::Product;
use super::watched::Watched;
use crate::board::Slot;
use crate::flow::Flow;
use crate::flow::names::{Field, PartAt};

/// What became of the parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Per source of the new flow: its place in the old one, if it goes on.
    pub sources: Vec<Option<usize>>,
    /// Paths of parts that go on as they were.
    pub same: Vec<String>,
    /// Paths of parts that are new, or say something else now.
    pub new: Vec<String>,
    /// Paths of parts that are gone.
    pub gone: Vec<String>,
}

impl Replaced {
    /// In words.
    pub fn words(&self) -> String {
        let mut words = vec![format!("{} parts go on as they were", self.same.len())];
        for (paths, what) in [(&self.new, "new or changed"), (&self.gone, "gone")] {
            if !paths.is_empty() {
                let shown: Vec<&str> = paths.iter().take(8).map(String::as_str).collect();
                let more = if paths.len() > 8 { ", …" } else { "" };
                words.push(format!("{what}: {}{more}", shown.join(", ")));
            }
        }
        words.join("; ")
    }
}

impl Pipeline {
    /// How many readings a source has brought.
    pub fn brought(&self, source: usize) -> u64 {
        self.lanes[source].brought
    }

    /// The pipeline of `after`, which goes on where this one, of `before`, stands. `stored`: what a model of `after` that is
    /// new had learnt in an earlier life. Appends what is to be told: the ends of what was going on and is no more.
    pub fn replaced(
        mut self,
        before: &Flow,
        after: &Flow,
        stored: impl Fn(&str) -> Option<Vec<u8>>,
        out: &mut Vec<Product>,
    ) -> (Pipeline, Replaced) {
        let mut new = Pipeline::new(after);
        new.join(self.networks.releases().clone());
        let mut replaced = Replaced::default();
        for path in after.parts() {
            let kept = if before.same(after, &path) { &mut replaced.same } else { &mut replaced.new };
            kept.push(path);
        }
        replaced.gone = before.parts().filter(|path| after.parts().all(|other| other != *path)).collect();

        for source in &after.sources {
            let path = format!("source.{}", source.name);
            let was = before.sources.iter().position(|other| other.name == source.name);
            replaced.sources.push(was.filter(|_| replaced.same.contains(&path)));
        }
        let mut features: Vec<Option<Watched>> =
            std::mem::take(&mut self.features).into_iter().map(Some).collect();
        let mut features_go_on = Vec::new();
        for (at, feature) in after.features.iter().enumerate() {
            let path = format!("feature.{}", feature.name);
            let was = before.features.iter().position(|other| other.name == feature.name);
            let goes_on = replaced.same.contains(&path) && replaced.sources[feature.source].is_some();
            let watched = was.filter(|_| goes_on).and_then(|was| features[was].take());
            features_go_on.push(watched.is_some());
            if let Some(watched) = watched {
                new.features[at].take_over(watched);
            }
        }
        for (at, model) in after.models.iter().enumerate() {
            let path = format!("model.{}", model.name);
            let was = before.models.iter().position(|other| other.name == model.name);
            let was = was.filter(|_| replaced.same.contains(&path));
            let is_fed = replaced.sources[model.source].is_some()
                && model.feature.is_none_or(|feature| features_go_on[feature]);
            match was {
                Some(was) if is_fed => {
                    new.models[at].take_over(self.models[was].clone());
                    new.bulkheads[at] = std::mem::take(&mut self.bulkheads[was]);
                    // Of one whose source has not opened yet.
                    new.stored[at] = self.stored[was].take();
                }
                // What feeds it is opened anew: what it has learnt stays, if the channels do.
                Some(was) => new.stored[at] = self.models[was].store().or_else(|| self.stored[was].take()),
                None => new.stored[at] = stored(model.name.as_str()),
            }
        }
        new.networks.follow(&self.networks);
        new.crumb = self.crumb.clone();
        for (at, network) in after.networks.iter().enumerate() {
            let was = before.networks.iter().position(|other| other.name == network.name);
            let goes_on = replaced.same.contains(&format!("model.{}", network.name));
            if let Some(was) = was.filter(|_| goes_on && replaced.sources[network.source].is_some()) {
                new.networks.take_over(at, &mut self.networks, was);
            }
        }
        new.take_board(&self, before, after, &replaced);
        for (at, was) in replaced.sources.iter().enumerate() {
            let Some(was) = was else { continue };
            let old = &mut self.lanes[*was];
            (new.lanes[at].taken, new.lanes[at].late) = (old.taken, old.late);
            (new.lanes[at].brought, new.lanes[at].seen) = (old.brought, old.seen);
            new.lanes[at].ended = old.ended;
            if let Some(open) = old.open.take() {
                new.go_on(at, open, out);
            }
        }
        // What was open and does not go on gives what it has.
        self.flush(out);
        for (was, rule) in self.rules.iter().enumerate() {
            let at = after.rules.iter().position(|other| other.name == rule.config().name);
            let gone = match at {
                Some(at) if after.rules[at].when.text() == rule.config().when.text() => {
                    new.rules[at].take_over(rule);
                    new.judged[at] = self.judged[was];
                    continue;
                }
                Some(_) => "the rule's condition was changed",
                None => "the rule is no longer in the flow",
            };
            if let Some(since_ms) = rule.told_since_ms() {
                let at_ms = rule.last_ms().unwrap_or(since_ms);
                out.push(Product::Decision(self.said_anew(was, RuleState::Cleared, at_ms, gone)));
            }
        }
        (new, replaced)
    }

    /// Takes over what stands on the board and still means the same.
    fn take_board(&mut self, old: &Pipeline, before: &Flow, after: &Flow, replaced: &Replaced) {
        let now_of = |was: usize| replaced.sources.iter().position(|source| *source == Some(was));
        for (at, was) in replaced.sources.iter().enumerate() {
            if let Some(was) = was {
                self.board.take_pace(at, &old.board, *was);
            }
        }
        let path_of = |flow: &Flow, part: PartAt| match part {
            PartAt::Source(at) => format!("source.{}", flow.sources[at].name),
            PartAt::Feature(at) => format!("feature.{}", flow.features[at].name),
            PartAt::Model(at) => format!("model.{}", flow.models[at].name),
            PartAt::Network(at) => format!("model.{}", flow.networks[at].name),
            PartAt::Rule(at) => format!("rule.{}", flow.rules[at].name),
        };
        for (field, slot) in after.fields.iter().zip((0..).map(Slot)) {
            let path = path_of(after, field.part);
            if !replaced.same.contains(&path) {
                continue;
            }
            let same = |other: &Field| other.name == field.name && path_of(before, other.part) == path;
            if let Some(was) = before.fields.iter().position(same) {
                self.board.take(slot, &old.board, Slot(was as u32), now_of);
            }
        }
    }

    /// What rules say that fire: for a journal that does not know.
    pub fn restated(&self, why: &str) -> Vec<Decision> {
        let firing = self.rules.iter().enumerate();
        let firing = firing.filter_map(|(at, rule)| Some((at, rule.told_since_ms()?)));
        firing.map(|(at, since_ms)| self.said_anew(at, RuleState::Firing, since_ms, why)).collect()
    }

    /// A decision that no reading brought about: of a rule that fired and is gone, for an alert does not stay for ever, or of one
    /// that goes on firing.
    fn said_anew(&self, at: usize, state: RuleState, since_ms: WallMs, why: &str) -> Decision {
        let rule = &self.rules[at];
        let config = rule.config();
        let source = config.sources.first().copied().unwrap_or(0);
        Decision {
            rule: config.name.clone(),
            state,
            severity: config.severity,
            source: self.lanes[source].config.name.clone(),
            since_ms,
            at_ms: rule.last_ms().unwrap_or(since_ms),
            when: config.when.text().to_owned(),
            value: self.rule_value(at),
            model: None,
            input: Hash::GENESIS,
            ran: Ran::Rule,
            why: why.to_owned(),
            confidence: None,
            latency_us: 0,
            joules: None,
            labels: config.labels.clone(),
        }
    }
}
