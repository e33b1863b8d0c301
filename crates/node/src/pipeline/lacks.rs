//! Tells of rules that cannot be judged, and what they lack.

use std::collections::BTreeSet;

use wire::world::{MonoNs, WallMs};

use super::Pipeline;
use super::products::Product;
use crate::board::Slot;
use crate::decide::Rule;
use crate::flow::names::PartAt;

/// The most missing values that are named.
const NAMED_MAX: usize = 6;

impl Pipeline {
    /// Tells of rules that could not be judged for long.
    pub(super) fn look_for_unable(&mut self, now_ns: MonoNs, out: &mut Vec<Product>) {
        for at in 0..self.rules.len() {
            let rule = &self.rules[at];
            if rule.config().sources.iter().all(|source| self.lanes[*source].ended) {
                continue;
            }
            let interval_ms = |source: &usize| self.lanes[*source].config.interval_ms.unwrap_or(0.0);
            let interval_ms = rule.config().sources.iter().map(interval_ms).fold(0.0, f64::max);
            if let Some(silent_ns) = self.judged[at].look(rule, interval_ms, now_ns) {
                let reason = format!(
                    "not judged for {} s: {}; it stays as it is until it can be",
                    silent_ns / 1_000_000_000,
                    self.lacks(rule)
                );
                out.push(Product::part(&format!("rule.{}", rule.config().name), "unable", reason));
            }
        }
    }

    /// Why a rule cannot be judged.
    fn lacks(&self, rule: &Rule) -> String {
        let config = rule.config();
        let last = |source: &usize| self.lanes[*source].open.as_ref().and_then(|open| open.last_ms);
        let Some(t_ms) = config.sources.iter().filter_map(last).max() else {
            return "none of its sources has given a reading".to_owned();
        };
        let missing = self.missing(rule, t_ms);
        if missing.is_empty() {
            let names: Vec<String> = config
                .sources
                .iter()
                .map(|source| format!("`{}`", self.lanes[*source].config.name))
                .collect();
            return format!("no reading comes of {}", names.join(", "));
        }
        let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
        format!("missing {}{more}", missing[..missing.len().min(NAMED_MAX)].join(", "))
    }

    /// What of a rule's values is not there at a time.
    fn missing(&self, rule: &Rule, t_ms: WallMs) -> Vec<String> {
        let view = self.board.at(t_ms, rule.config().stale_after_ms);
        let slots: BTreeSet<Slot> = rule.config().slots().collect();
        let missing = slots.into_iter().filter(|slot| !view.has(*slot));
        missing.map(|slot| self.field_name(slot)).collect()
    }

    fn field_name(&self, slot: Slot) -> String {
        let field = &self.fields[slot.0 as usize];
        let part = match field.part {
            PartAt::Source(at) => &self.lanes[at].config.name,
            PartAt::Feature(at) => &self.features[at].name,
            PartAt::Model(at) => &self.models[at].config().name,
            PartAt::Network(at) => &self.networks.get(at).config().name,
            PartAt::Rule(at) => &self.rules[at].config().name,
        };
        format!("`{part}.{}`", field.name)
    }
}
