//! The thinking of one flow in a row: readings come in, and what is worth remembering comes out.
//!
//! Each reading passes window → health → features → models → rules, in this order, and is summarised. What a channel, a
//! feature, a model or a rule says and a condition speaks of is written on the board as it comes, and rules read it there:
//! so a condition may speak of several parts, of several sources too. Pure: time is what the readings say, or what the
//! clock handed in says; the same readings give the same products, with a journal or without.
//!
//! A digest of the input stands in every inference and decision. The input is the run of readings the verdict was made
//! from (the last `lag` for a model, the last one for a channel), written as the JSON of a `readings` body; of several
//! sources, as a JSON list of such bodies, in the order of the flow. Whoever has the raw readings can compute it again. Of a
//! model that looks at a feature it is the feature's rows, named as the feature. Of a source of pictures it is the picture: the
//! digest is that of its file, so whoever kept the file can compare; among several sources it stands in the list with its source and time.

mod ahead;
pub(crate) mod bulkhead;
mod input;
mod lacks;
mod lane;
mod late;
mod look;
mod networks;
mod open;
mod products;
mod recent;
pub mod replace;
mod summary;
mod unable;
mod watched;

use std::collections::BTreeMap;

use wire::body::{Decision, Ran, Said};
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{Clock, MonoNs, WallMs};

use crate::board::{Board, Slot};
use crate::decide::{Rule, Transition};
use crate::feature::FeatureConfig;
use crate::flow::Flow;
use crate::flow::names::{Field, PartAt};
use crate::flow::source::SourceConfig;
use crate::health::Health;
use crate::model::{Model, Verdict};
use crate::network::releases::Releases;
use crate::source::frame::Frame;
use crate::source::queue::Batch;
use crate::supervise::crumb::Crumb;
use bulkhead::Bulkhead;
use input::{Input, digest};
use lane::{BLOCK_NS, Lane};
use late::Late;
use look::{Consulted, Row, consult};
use networks::{At, Networks};
pub use open::OpenError;
pub use products::Product;
use unable::Judged;
use watched::{Reached, Watched};

/// The stations of one flow.
pub struct Pipeline {
    lanes: Vec<Lane>,
    features: Vec<Watched>,
    models: Vec<Model>,
    networks: Networks,
    rules: Vec<Rule>,
    board: Board,
    /// What stands on the board, by slot.
    fields: Vec<Field>,
    /// Per model: what of its verdict somebody speaks of, and where it stands.
    model_slots: Vec<Vec<(Gives, Slot)>>,
    /// Per rule: where it stands on the board, if somebody speaks of it.
    rule_slots: Vec<Option<Slot>>,
    /// What models are made to say, in rehearsals.
    pretended: Vec<Option<Verdict>>,
    /// Learnt states that wait for their source to open, by model.
    stored: Vec<Option<Vec<u8>>>,
    /// How each model has fared.
    bulkheads: Vec<Bulkhead>,
    /// When each rule was judged last.
    judged: Vec<Judged>,
    /// Where it notes which network it is busy with.
    crumb: Crumb,
}

/// A value of a detector's verdict.
#[derive(Debug, Clone, Copy)]
enum Gives {
    Probability,
    Score,
}

/// When a batch came in, and what time it is now.
struct Moment<'a> {
    arrived_ns: MonoNs,
    clock: &'a dyn Clock,
}

impl Moment<'_> {
    fn latency_us(&self) -> u64 {
        self.clock.mono_ns().saturating_sub(self.arrived_ns) / 1_000
    }
}

impl Pipeline {
    /// A pipeline whose sources are not open yet.
    pub fn new(flow: &Flow) -> Pipeline {
        let lane = |(at, config): (usize, &SourceConfig)| Lane {
            part: format!("source.{}", config.name),
            config: config.clone(),
            open: None,
            features: (0..flow.features.len())
                .filter(|feature| flow.features[*feature].source == at)
                .collect(),
            models: (0..flow.models.len())
                .filter(|model| flow.models[*model].source == at && flow.models[*model].feature.is_none())
                .collect(),
            rules: flow
                .order
                .iter()
                .copied()
                .filter(|rule| flow.rules[*rule].sources.contains(&at))
                .collect(),
            taken: 0,
            late: 0,
            brought: 0,
            seen: 0,
            ended: false,
            habits: None,
        };
        let slots = |part: PartAt| {
            let fields = flow.fields.iter().zip(0..).filter(move |(field, _)| field.part == part);
            fields.map(|(field, slot)| (field.name.as_str(), Slot(slot)))
        };
        let of_model = |at: usize| {
            let gives = slots(PartAt::Model(at)).filter_map(|(name, slot)| match name {
                "p" => Some((Gives::Probability, slot)),
                "score" => Some((Gives::Score, slot)),
                _ => None,
            });
            gives.collect()
        };
        let of_feature = |(at, config): (usize, &FeatureConfig)| {
            let models: Vec<usize> =
                (0..flow.models.len()).filter(|model| flow.models[*model].feature == Some(at)).collect();
            let lag = models.iter().map(|model| flow.models[*model].lag).max().unwrap_or(1);
            Watched::new(config, slots(PartAt::Feature(at)), models, lag)
        };
        let of_rule = |at: usize| slots(PartAt::Rule(at)).next().map(|(_, slot)| slot);
        Pipeline {
            lanes: flow.sources.iter().enumerate().map(lane).collect(),
            features: flow.features.iter().enumerate().map(of_feature).collect(),
            models: flow.models.iter().cloned().map(Model::new).collect(),
            networks: Networks::new(flow),
            rules: flow.rules.iter().cloned().map(Rule::new).collect(),
            board: Board::new(flow.fields.len(), flow.sources.len()),
            model_slots: (0..flow.models.len()).map(of_model).collect(),
            rule_slots: (0..flow.rules.len()).map(of_rule).collect(),
            fields: flow.fields.clone(),
            pretended: vec![None; flow.models.len()],
            stored: vec![None; flow.models.len()],
            bulkheads: (0..flow.models.len()).map(|_| Bulkhead::default()).collect(),
            judged: vec![Judged::default(); flow.rules.len()],
            crumb: Crumb::off(),
        }
    }

    /// Where networks that come as releases are taken from, from now on.
    pub fn join(&mut self, releases: Releases) {
        self.networks.join(releases);
    }

    /// From now on it notes here which network it is busy with.
    pub fn note_at(&mut self, crumb: Crumb) {
        self.crumb = crumb;
    }

    /// This run does without its networks.
    pub fn leave_out_networks(&mut self, why: &str) {
        self.networks.leave_out(why);
    }

    /// This run does without one of them, by its place in the flow.
    pub fn leave_out_network(&mut self, network: usize, why: &str) {
        self.networks.leave_out_one(network, why);
    }

    /// Models that have just panicked for the first time in a row: whoever kept what they had learnt gives it again.
    pub fn fallen(&self) -> impl Iterator<Item = usize> {
        let models = self.bulkheads.iter().zip(&self.stored).enumerate();
        let fallen = models.filter(|(_, (bulkhead, stored))| {
            bulkhead.is_down() && bulkhead.falls() == 1 && stored.is_none()
        });
        fallen.map(|(model, _)| model)
    }

    /// The models, in the order of the flow.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The models, to store what they have learnt.
    pub fn models_mut(&mut self) -> &mut [Model] {
        &mut self.models
    }

    /// The latest values that conditions speak of.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The rules, in the order of the flow.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules, to restore what they said before a restart.
    pub fn rules_mut(&mut self) -> &mut [Rule] {
        &mut self.rules
    }

    /// What stands on the left of a rule's first comparison; NaN if it is missing, or there is none.
    pub fn rule_value(&self, rule: usize) -> f64 {
        self.rules[rule].config().when.first_value(&self.board)
    }

    /// For rehearsals: whatever a model makes of its readings, this is what it says from now on.
    pub fn pretend(&mut self, model: usize, verdict: Verdict) {
        self.pretended[model] = Some(verdict);
    }

    /// For rehearsals: whatever the samples are, this is what a feature gives from now on; what is not named is missing.
    pub fn pretend_feature(&mut self, feature: usize, values: &[(String, f64)]) {
        self.features[feature].pretend(values);
    }

    /// Gives a model what it had learnt; it is looked at when its source opens.
    pub fn restore_model(&mut self, model: usize, stored: Vec<u8>) {
        self.stored[model] = Some(stored);
    }

    /// Gives a source what had been learnt of its sensors; it is looked at when it opens.
    pub fn restore_habits(&mut self, source: usize, stored: Vec<u8>) {
        self.lanes[source].habits = Some(stored);
    }

    /// What was learnt of the sensors of each source.
    pub fn habits(&self) -> impl Iterator<Item = (&PartName, Vec<u8>)> {
        let of_lane = |lane: &'_ Lane| lane.open.as_ref()?.health.as_ref()?.store();
        self.lanes.iter().filter_map(move |lane| Some((&lane.config.name, of_lane(lane)?)))
    }

    /// For rehearsals: whatever a network makes of what it sees, this is what it says from now on; what is not named is missing.
    pub fn pretend_network(&mut self, network: usize, fields: &[(String, Said)]) {
        self.networks.pretend(network, fields);
    }

    /// Readings taken from a source, and readings refused because they came late.
    pub fn counts(&self, source: usize) -> (u64, u64) {
        (self.lanes[source].taken, self.lanes[source].late)
    }

    /// How many of the readings that a source brought, the first ones, wait for nothing any more: what came of them was
    /// given out, or they were given up.
    pub fn settled(&self, source: usize) -> u64 {
        let lane = &self.lanes[source];
        match &lane.open {
            Some(open) if open.windows.held() > 0 => open.block_first.saturating_sub(1),
            _ => lane.brought,
        }
    }

    /// Gives the readings of a source that wait for their block to fill.
    pub fn settle(&mut self, source: usize, out: &mut Vec<Product>) {
        let lane = &mut self.lanes[source];
        if let Some(open) = &mut lane.open {
            open.close_block(&lane.config.name, out);
        }
    }

    /// The channels of a source, once it is open.
    pub fn channels(&self, source: usize) -> Option<&[String]> {
        Some(&self.lanes[source].open.as_ref()?.channels)
    }

    /// The last reading of a source: its time, and a value for each channel.
    pub fn latest(&self, source: usize) -> Option<(WallMs, &[f64])> {
        self.lanes[source].open.as_ref()?.recent.last()
    }

    /// Takes a batch of a source that is open; appends what comes of it.
    pub fn step(
        &mut self,
        source: usize,
        batch: &Batch,
        arrived_ns: MonoNs,
        clock: &dyn Clock,
        out: &mut Vec<Product>,
    ) {
        let moment = Moment { arrived_ns, clock };
        let lane = &mut self.lanes[source];
        // What a panic left unseen in the batch before was given up.
        lane.seen = lane.brought;
        lane.brought += batch.t_ms.len() as u64;
        lane.ended = false;
        let Some(channels) = self.channels(source).map(<[String]>::len) else { return };
        for (t_ms, values) in batch.t_ms.iter().zip(batch.values.chunks_exact(channels)) {
            if self.watch(source, *t_ms, values, None, &moment, out) {
                self.judge(source, *t_ms, &moment, out);
            }
        }
    }

    /// Takes a picture of a source that is open, and the numbers that were measured of it.
    pub fn see(&mut self, source: usize, frame: &Frame, clock: &dyn Clock, out: &mut Vec<Product>) {
        let moment = Moment { arrived_ns: frame.arrived_ns, clock };
        let lane = &mut self.lanes[source];
        lane.seen = lane.brought;
        lane.brought += 1;
        let row = frame.row();
        let fits = self.channels(source).is_some_and(|channels| channels.len() == row.len());
        if fits && self.watch(source, frame.t_ms, &row, Some(frame), &moment, out) {
            self.judge(source, frame.t_ms, &moment, out);
        }
    }

    /// Has everything but the rules look at a reading; false if it came late and is refused.
    fn watch(
        &mut self,
        source: usize,
        t_ms: WallMs,
        values: &[f64],
        frame: Option<&Frame>,
        moment: &Moment<'_>,
        out: &mut Vec<Product>,
    ) -> bool {
        let Pipeline {
            lanes,
            features,
            models,
            networks,
            rules,
            board,
            model_slots,
            pretended,
            stored,
            bulkheads,
            crumb,
            ..
        } = self;
        let lane = &mut lanes[source];
        lane.seen += 1;
        let Some(open) = &mut lane.open else { return false };
        let step_ms = open.last_ms.map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
        if (-lane.config.max_gap_ms..0).contains(&step_ms) && !open.late.is_time(t_ms, moment.arrived_ns) {
            lane.late += 1;
            return false;
        }
        if step_ms < 0 {
            lane.rules.iter().for_each(|rule| rules[*rule].clock_was_set_back());
        }
        open.late = Late::default();
        lane.taken += 1;
        open.last_ms = Some(t_ms);
        open.last_arrival_ns = moment.arrived_ns;
        let name = &lane.config.name;
        // What the sensors said is remembered; what can be believed of it is judged.
        open.recent.remember(t_ms, values);
        open.seen = frame.map(|frame| frame.digest);
        if lane.config.raw {
            open.window(t_ms, values, lane.seen, moment.arrived_ns, name, out);
        }
        open.summary.begin(t_ms, &lane.config, &open.channels, out);
        if let Some(health) = &mut open.health {
            health.step(t_ms, values);
            out.extend(health.changes().iter().cloned().map(Product::Part));
        }
        let health = open.health.as_ref();
        let believed = health.map_or(values, Health::believed);
        let doubtful = health.is_some_and(|health| health.isolated() > 0);
        board.step(source, t_ms);
        for (column, slot) in &open.columns {
            board.number(*slot, source, t_ms, believed[*column]);
        }
        let now_ns = moment.clock.mono_ns();
        let (names, recent) = (&open.channels, &open.recent);
        let row = Row { source: name, part: name, names, t_ms, values: believed, recent, doubtful };
        let mut consult = |at: usize, models: &mut [Model], row: &Row<'_>, out: &mut Vec<Product>| {
            let (model, bulkhead, stored) = (&mut models[at], &mut bulkheads[at], &mut stored[at]);
            consult(Consulted { model, bulkhead, stored }, row, now_ns, || moment.latency_us(), out);
        };
        for (place, at) in lane.models.iter().enumerate() {
            consult(*at, models, &row, out);
            let verdict = pretended[*at].unwrap_or(models[*at].verdict());
            open.summary.judge(place, &models[*at].config().name, verdict);
            post(board, &model_slots[*at], verdict, source, t_ms);
        }
        for at in &lane.features {
            let feature = &mut features[*at];
            let reached =
                Reached { source, source_name: name, channels: names, t_ms, values: believed, now_ns };
            if !feature.step(&reached, board, out) {
                continue;
            }
            let (part, names, recent) = (&feature.name, &feature.names[..], &feature.recent);
            let row = Row { source: name, part, names, t_ms, values: feature.row(), recent, doubtful };
            for at in &feature.models {
                consult(*at, models, &row, out);
                let verdict = pretended[*at].unwrap_or(models[*at].verdict());
                // Found by its name: not each reading has a row.
                open.summary.judge(usize::MAX, &models[*at].config().name, verdict);
                post(board, &model_slots[*at], verdict, source, t_ms);
            }
        }
        let looked = At {
            source,
            part: &lane.part,
            t_ms,
            values: believed,
            frame,
            clock: moment.clock,
            crumb: &*crumb,
        };
        for at in networks.step(&looked, board, out) {
            let input = match frame.filter(|_| networks.get(at).sees()) {
                Some(frame) => frame.digest,
                None => {
                    digest(&[Input::Readings(recent.body(networks.get(at).config().window, name, names))])
                }
            };
            let answer = networks.record(at, name, t_ms, input, moment.latency_us());
            out.push(Product::Answer(answer));
        }
        let isolated = |channel: usize| health.is_some_and(|health| health.is_isolated(channel));
        open.summary.take(t_ms, believed, isolated);
        true
    }

    /// Has the rules that follow a source look at the board after a reading.
    fn judge(&mut self, source: usize, t_ms: WallMs, moment: &Moment<'_>, out: &mut Vec<Product>) {
        for place in 0..self.lanes[source].rules.len() {
            let at = self.lanes[source].rules[place];
            let firing = |other: &usize| self.rules[*other].firing() == Some(true);
            let held_back = self.rules[at].config().inhibit_by.iter().any(firing);
            let (judged, transition) = self.rules[at].step(t_ms, &self.board, held_back);
            if judged {
                let name = &self.rules[at].config().name;
                out.extend(self.judged[at].note(name, moment.clock.mono_ns()));
            }
            if let (true, Some(slot)) = (judged, self.rule_slots[at]) {
                self.board.truth(slot, source, t_ms, self.rules[at].firing());
            }
            if let Some(transition) = transition {
                let decision = self.decision(at, source, transition, moment);
                out.push(Product::Decision(decision));
            }
        }
    }

    /// Gives what has waited long enough by the node's clock: raw readings whose block did not fill, summaries of
    /// sources that fell silent, and which rules could not be judged for long.
    pub fn tick(&mut self, now_ns: MonoNs, out: &mut Vec<Product>) {
        for lane in &mut self.lanes {
            let Some(open) = &mut lane.open else { continue };
            if open.block_since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) >= BLOCK_NS) {
                open.close_block(&lane.config.name, out);
            }
            let silent_ns = now_ns.saturating_sub(open.last_arrival_ns);
            if silent_ns > lane.config.summary_ms as u64 * 1_000_000 + BLOCK_NS {
                open.summary.close(&lane.config, &open.channels, out);
            }
        }
        self.look_for_unable(now_ns, out);
    }

    /// Gives all that waits of one source: it came to its end.
    pub fn flush_source(&mut self, source: usize, out: &mut Vec<Product>) {
        let lane = &mut self.lanes[source];
        lane.ended = true;
        if let Some(open) = &mut lane.open {
            open.close_block(&lane.config.name, out);
            open.summary.close(&lane.config, &open.channels, out);
        }
    }

    /// Gives all that waits: the node stops.
    pub fn flush(&mut self, out: &mut Vec<Product>) {
        for source in 0..self.lanes.len() {
            self.flush_source(source, out);
        }
    }

    /// What a model made of the last reading of its source.
    pub fn verdict(&self, model: usize) -> Verdict {
        self.models[model].verdict()
    }

    /// The digest of what a rule was judged on. `source`: whose reading had it judged; its last one is the input of a rule
    /// that speaks of rules alone.
    fn input(&self, rule: usize, source: usize) -> Hash {
        let alone = BTreeMap::from([(source, 1)]);
        let reads = &self.rules[rule].config().reads;
        let reads = if reads.is_empty() { &alone } else { reads };
        let of_lane = |(source, readings): (&usize, &usize)| {
            let lane = &self.lanes[*source];
            let open = lane.open.as_ref()?;
            let source = &lane.config.name;
            Some(match (open.seen, open.last_ms) {
                (Some(picture), Some(t_ms)) => Input::Picture { source: source.clone(), t_ms, picture },
                _ => Input::Readings(open.recent.body(*readings, source, &open.channels)),
            })
        };
        let inputs: Vec<Input> = reads.iter().filter_map(of_lane).collect();
        digest(&inputs)
    }

    fn decision(&self, rule: usize, source: usize, transition: Transition, moment: &Moment<'_>) -> Decision {
        let Transition { state, since_ms, at_ms, value, why, slots, floor, confidence } = transition;
        let model = slots.iter().find_map(|slot| match self.fields[slot.0 as usize].part {
            PartAt::Model(model) => Some(self.models[model].reference()),
            PartAt::Network(network) => Some(self.networks.get(network).model()),
            PartAt::Source(_) | PartAt::Feature(_) | PartAt::Rule(_) => None,
        });
        let model = model.filter(|_| !floor);
        let config = self.rules[rule].config();
        Decision {
            rule: config.name.clone(),
            state,
            severity: config.severity,
            source: self.lanes[source].config.name.clone(),
            since_ms,
            at_ms,
            when: config.when.text().to_owned(),
            value,
            ran: if model.is_some() { Ran::Local } else { Ran::Rule },
            model,
            input: self.input(rule, source),
            why,
            // A detector's probability says how rare the reading is, not how likely the decision is to be right.
            confidence,
            latency_us: moment.latency_us(),
            joules: None,
            labels: config.labels.clone(),
        }
    }
}

/// Writes what somebody speaks of in a verdict on the board.
fn post(board: &mut Board, slots: &[(Gives, Slot)], verdict: Verdict, source: usize, t_ms: WallMs) {
    for (gives, slot) in slots {
        let value = match gives {
            Gives::Probability => verdict.probability,
            Gives::Score => verdict.score,
        };
        board.number(*slot, source, t_ms, value);
    }
}
