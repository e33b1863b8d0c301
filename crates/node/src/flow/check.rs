//! Checks what the parts of a flow say of one another: that inputs exist, that nothing feeds itself, that what a condition
//! speaks of is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use signal::detector::Detector;

use super::actuator::{self, ACTUATORS_MAX, ActuatorConfig, ActuatorDraft, check_thens};
use super::feature::FeatureDraft;
use super::model::{self, ModelConfig, ModelDraft};
use super::names::{Book, Field, Gives, Known, PartAt, dangling};
use super::network::{self, NetworkDraft};
use super::part::Named;
use super::rule::{RuleConfig, RuleDraft};
use super::rules::check_rules;
use super::source::{SourceConfig, SourceKind};
use crate::act::reins::Then;
use crate::board::Kind;
use crate::config::part::Placed;
use crate::config::problem::{Problems, did_you_mean};
use crate::feature::FeatureConfig;
use crate::network::{NetworkConfig, NetworkError};
use crate::source::csv::is_read_once;
use crate::source::recording::RecordingReader;
use crate::why::why;

/// The most sources, and the most models, of one flow.
const MAX_PARTS: usize = 64;
/// The most rules of one flow.
const MAX_RULES: usize = 1_000;

/// The parts as read, before they know one another.
#[derive(Default)]
pub(super) struct Drafts {
    pub(super) sources: Vec<Named<SourceConfig>>,
    pub(super) features: Vec<Named<FeatureDraft>>,
    pub(super) models: Vec<Named<ModelDraft>>,
    pub(super) networks: Vec<Named<NetworkDraft>>,
    pub(super) rules: Vec<Named<RuleDraft>>,
    pub(super) actuators: Vec<Named<ActuatorDraft>>,
    /// Parts that stand in the file but could not be read: what speaks of them is not wrong for that.
    pub(super) broken: Vec<String>,
}

impl Drafts {
    /// What can be named as `source.pump`, those that could not be read too.
    pub(super) fn paths(&self) -> Vec<String> {
        let sources = self.sources.iter().map(|part| format!("source.{}", part.name));
        let models = self.models.iter().map(|part| format!("model.{}", part.name));
        let rules = self.rules.iter().map(|part| format!("rule.{}", part.name));
        sources.chain(models).chain(rules).chain(self.broken.iter().cloned()).collect()
    }

    /// Parts read.
    pub(super) fn len(&self) -> usize {
        let models = self.models.len() + self.networks.len();
        self.sources.len() + self.features.len() + models + self.rules.len() + self.actuators.len()
    }
}

/// The parts once they know one another.
pub(super) struct Checked {
    pub(super) sources: Vec<SourceConfig>,
    pub(super) features: Vec<FeatureConfig>,
    pub(super) models: Vec<ModelConfig>,
    pub(super) networks: Vec<NetworkConfig>,
    pub(super) rules: Vec<RuleConfig>,
    pub(super) actuators: Vec<ActuatorConfig>,
    /// What rules ask of actuators.
    pub(super) thens: Vec<Then>,
    /// The rules' places, each after those it speaks of.
    pub(super) order: Vec<usize>,
    /// The fields that have slots, by slot.
    pub(super) fields: Vec<Field>,
    /// What feeds what.
    pub(super) links: Vec<Link>,
}

/// One part feeds another, or holds it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// `source.pump`.
    pub from: String,
    /// `model.health`.
    pub to: String,
    /// Whether `from` only holds `to` back.
    pub holds_back: bool,
}

fn links(drafts: &Drafts) -> Vec<Link> {
    let mut links = Vec::new();
    let mut add = |to: String, inputs: &[Placed<String>], holds_back| {
        links.extend(inputs.iter().map(|input| Link {
            from: input.value.clone(),
            to: to.clone(),
            holds_back,
        }));
    };
    for feature in &drafts.features {
        add(format!("feature.{}", feature.name), &feature.part.inputs, false);
    }
    for model in &drafts.models {
        add(format!("model.{}", model.name), &model.part.inputs, false);
    }
    for network in &drafts.networks {
        add(format!("model.{}", network.name), &network.part.inputs, false);
    }
    for rule in &drafts.rules {
        add(format!("rule.{}", rule.name), &rule.part.inputs, false);
        add(format!("rule.{}", rule.name), &rule.part.inhibit_by, true);
        for then in &rule.part.then {
            add(then.path(), &[Placed { value: format!("rule.{}", rule.name), span: 0..0 }], false);
        }
    }
    links
}

/// Joins the parts; `None` after a problem.
pub(super) fn check(drafts: Drafts, problems: &mut Problems) -> Option<Checked> {
    let links = links(&drafts);
    let Drafts { sources, features, models, networks, mut rules, actuators, broken } = drafts;
    let thens = rules.iter_mut().flat_map(|rule| std::mem::take(&mut rule.part.then)).collect();
    if sources.is_empty() && broken.is_empty() {
        let help = "begin with `[source.pump]` and `type = \"replay\"`";
        problems.add_with_help(0..0, "the flow has no source: nothing would happen", help);
    }
    let counts = [
        ("sources", sources.len(), MAX_PARTS),
        ("features", features.len(), MAX_PARTS),
        ("models", models.len() + networks.len(), MAX_PARTS),
        ("rules", rules.len(), MAX_RULES),
        ("actuators", actuators.len(), ACTUATORS_MAX),
    ];
    for (what, count, max) in counts {
        if count > max {
            problems.add(0..0, format!("the flow has {count} {what}, the most is {max}"));
            return None;
        }
    }

    let mut book = Book::default();
    book.parts.extend(broken.into_iter().map(|path| (path, None)));
    for (at, Named { part, name, .. }) in sources.iter().enumerate() {
        let gives = match &part.channels {
            Some(channels) => {
                Gives::These(channels.iter().map(|name| (name.clone(), Kind::Number)).collect())
            }
            None => Gives::Later,
        };
        let known = Known {
            at: PartAt::Source(at),
            gives,
            steps: BTreeSet::from([at]),
            reads: BTreeMap::from([(at, 1)]),
        };
        book.parts.insert(format!("source.{name}"), Some(known));
    }
    let features = check_features(features, &mut book, &sources, problems);
    // One name, one part: a condition names it without saying whether it is a source or a model.
    for model in &models {
        if book.parts.contains_key(&format!("source.{}", model.name)) {
            let message = format!(
                "there is a source `{0}` already: `{0}.x` in a condition would be either",
                model.name
            );
            problems.add_with_help(
                model.span.clone(),
                message,
                format!("name the model `{}_health`", model.name),
            );
        }
    }
    refuse_loops(&models, problems);
    // What watches a model that stands further down is told that it cannot, not that there is none.
    for model in &models {
        book.parts.insert(format!("model.{}", model.name), None);
    }
    let mut checked = Vec::new();
    for (at, model) in models.into_iter().enumerate() {
        let path = format!("model.{}", model.name);
        let Some(config) = check_model(model, &book, &sources, &features, problems) else {
            checked.push(None);
            continue;
        };
        let known = Known {
            at: PartAt::Model(at),
            gives: Gives::These(model::GIVES.map(|(name, kind)| (name.to_owned(), kind)).to_vec()),
            steps: BTreeSet::from([config.source]),
            // What a feature makes of a source is no reading of it.
            reads: BTreeMap::from([(config.source, if config.feature.is_some() { 1 } else { config.lag })]),
        };
        book.parts.insert(path, Some(known));
        checked.push(Some(config));
    }
    let networks = network::check(networks, &sources, &mut book, problems);
    let (rules, order) = check_rules(rules, &mut book, problems)?;
    actuator::refuse_shared_lines(&actuators, &sources, problems);
    let actuators = actuator::check(actuators, &book, problems)?;
    let thens = check_thens(thens, &actuators, problems);
    let sources = sources.into_iter().map(|named| named.part).collect();
    let features = features.into_iter().collect::<Option<_>>()?;
    let models = checked.into_iter().collect::<Option<_>>()?;
    let networks = networks?;
    let fields = book.into_fields();
    Some(Checked { sources, features, models, networks, rules, actuators, thens, order, fields, links })
}

/// Joins features to their sources, and says what they give. `None` for those that cannot be.
fn check_features(
    drafts: Vec<Named<FeatureDraft>>,
    book: &mut Book,
    sources: &[Named<SourceConfig>],
    problems: &mut Problems,
) -> Vec<Option<FeatureConfig>> {
    let mut features = Vec::new();
    for (at, Named { part: draft, name, span }) in drafts.into_iter().enumerate() {
        if book.parts.contains_key(&format!("source.{name}")) {
            let message =
                format!("there is a source `{name}` already: `{name}.x` in a condition would be either");
            problems.add_with_help(span, message, format!("name the feature `{name}_shape`"));
        }
        let path = format!("feature.{name}");
        book.parts.insert(path.clone(), None);
        let config = check_feature(draft, &path, book, sources, problems);
        if let Some(config) = &config {
            let names = config.names().into_iter().map(|name| (name, Kind::Number));
            let known = Known {
                at: PartAt::Feature(at),
                gives: Gives::These(names.collect()),
                steps: BTreeSet::from([config.source]),
                reads: BTreeMap::from([(config.source, 1)]),
            };
            book.parts.insert(path, Some(known));
        }
        features.push(config);
    }
    features
}

fn check_feature(
    draft: FeatureDraft,
    path: &str,
    book: &Book,
    sources: &[Named<SourceConfig>],
    problems: &mut Problems,
) -> Option<FeatureConfig> {
    let FeatureDraft { inputs, config, channel_span } = draft;
    let [input] = &inputs[..] else {
        if let Some(second) = inputs.get(1) {
            let message = format!("`{path}` has more than one input");
            problems.add_with_help(second.span.clone(), message, "give each channel a feature of its own");
        }
        return None;
    };
    let source = match book.parts.get(&input.value) {
        Some(Some(Known { at: PartAt::Source(source), .. })) => *source,
        Some(Some(_)) => {
            let message = format!("`{path}` cannot take `{}`", input.value);
            problems.add_with_help(input.span.clone(), message, "a feature takes a channel of a source");
            return None;
        }
        Some(None) => return None,
        None => {
            dangling(input, &["source"], book, problems);
            return None;
        }
    };
    let config = FeatureConfig { source, ..config };
    if let Some(channels) = &sources[source].part.channels {
        check_column(&config, &input.value, channels, &channel_span, problems);
    }
    Some(config)
}

/// A feature takes a channel that is there, or the only one.
fn check_column(
    feature: &FeatureConfig,
    source: &str,
    channels: &[String],
    at: &Range<usize>,
    problems: &mut Problems,
) {
    match &feature.channel {
        Some(channel) => check_channel(channel, source, channels, at, problems),
        None if channels.len() == 1 => {}
        None => {
            let message =
                format!("`feature.{}` does not say which channel of `{source}` it takes", feature.name);
            let help = format!("add `channel = {:?}`", channels.first().map_or("", String::as_str));
            problems.add_with_help(at.clone(), message, help);
        }
    }
}

fn check_model(
    model: Named<ModelDraft>,
    book: &Book,
    sources: &[Named<SourceConfig>],
    features: &[Option<FeatureConfig>],
    problems: &mut Problems,
) -> Option<ModelConfig> {
    let Named { part: draft, name, span } = model;
    let mut watched = None;
    for input in &draft.inputs {
        let known = book.parts.get(&input.value);
        match known {
            Some(Some(Known { at: PartAt::Source(source), .. })) if watched.is_none() => {
                watched = Some((*source, None));
            }
            Some(Some(Known { at: PartAt::Feature(feature), .. })) if watched.is_none() => {
                watched = Some((features.get(*feature)?.as_ref()?.source, Some(*feature)));
            }
            Some(Some(Known { at: PartAt::Source(_) | PartAt::Feature(_), .. })) => {
                let message = format!("`model.{name}` has more than one source");
                let help = "a detector watches one source: give each source a model, or send both through one source";
                problems.add_with_help(input.span.clone(), message, help);
                return None;
            }
            Some(_) if input.value.starts_with("model.") => {
                let message = format!("`model.{name}` cannot watch `{}`", input.value);
                problems.add_with_help(input.span.clone(), message, "a detector watches a source");
                return None;
            }
            Some(_) => return None,
            None => {
                dangling(input, &["source", "feature", "model"], book, problems);
                return None;
            }
        }
    }
    let (source, feature) = watched?;
    let config = ModelConfig {
        name,
        source,
        feature,
        without: draft.without,
        lag: draft.lag,
        learn: draft.learn,
        refractory: draft.refractory,
        calm: draft.calm,
        lag_span: if draft.lag_span.is_empty() { span } else { draft.lag_span },
    };
    match feature.and_then(|feature| features.get(feature)?.as_ref()) {
        Some(feature) => check_size(&config, feature.names().len(), problems),
        None => {
            if let Some(channels) = &sources[source].part.channels {
                check_size(&config, channels.len(), problems);
            }
        }
    }
    Some(config)
}

/// A detector has room for so many numbers; how many it needs is known with the channels.
fn check_size(model: &ModelConfig, channels: usize, problems: &mut Problems) {
    if let Err(error) = Detector::new(model.detector(channels)) {
        let help = "watch fewer channels (`channels` of the source), or lower `lag`";
        problems.add_with_help(model.lag_span.clone(), format!("`model.{}`: {error}", model.name), help);
    }
}

fn check_channel(
    channel: &str,
    source: &str,
    channels: &[String],
    at: &Range<usize>,
    problems: &mut Problems,
) {
    if !channels.iter().any(|known| known == channel) {
        let help = did_you_mean(channel, channels.iter().map(String::as_str));
        problems.add_with_help(at.clone(), format!("`{source}` has no channel `{channel}`"), help);
    }
}

/// Says so when models feed one another in a circle; that models cannot feed models at all is said elsewhere.
fn refuse_loops(models: &[Named<ModelDraft>], problems: &mut Problems) {
    let feeds = |model: &Named<ModelDraft>| -> Option<usize> {
        model.part.inputs.iter().find_map(|input| {
            let name = input.value.strip_prefix("model.")?;
            models.iter().position(|other| other.name.as_str() == name)
        })
    };
    for (start, model) in models.iter().enumerate() {
        let (mut path, mut at) = (vec![model.name.to_string()], feeds(model));
        while let Some(next) = at {
            path.push(models[next].name.to_string());
            // Told once, where the circle's first model stands.
            if next <= start || path.len() > models.len() {
                break;
            }
            at = feeds(&models[next]);
        }
        if at == Some(start) {
            let message = format!("`model.{}` feeds itself: {}", model.name, path.join(" ← "));
            problems.add_with_help(model.span.clone(), message, "a detector watches a source");
        }
    }
}

/// Checks the parts against the heads of the files they name. What can be read only once is left to the source.
pub(super) fn check_files(
    sources: &[SourceConfig],
    features: &[FeatureConfig],
    models: &[ModelConfig],
    networks: &[NetworkConfig],
    (rules, fields): (&[RuleConfig], &[Field]),
    problems: &mut Problems,
) {
    // Channels of each source, as far as they are known before it opens.
    let mut channels: Vec<Option<usize>> =
        sources.iter().map(|source| source.channels.as_ref().map(Vec::len)).collect();
    for (at, source) in sources.iter().enumerate() {
        let SourceKind::Replay(replay) = &source.kind else { continue };
        if is_read_once(&replay.file) {
            continue;
        }
        let reader = match RecordingReader::open(&replay.file, &replay.csv) {
            Ok(reader) => reader,
            Err(error) => {
                problems.add(source.span.clone(), format!("`source.{}`: {}", source.name, why(&error)));
                continue;
            }
        };
        channels[at] = Some(reader.channels().len());
        for (slot, place) in rules.iter().flat_map(|rule| &rule.places) {
            let field = &fields[slot.0 as usize];
            if field.part == PartAt::Source(at) {
                let path = format!("source.{}", source.name);
                check_channel(&field.name, &path, reader.channels(), place, problems);
            }
        }
        for feature in features.iter().filter(|feature| feature.source == at) {
            check_column(
                feature,
                &format!("source.{}", source.name),
                reader.channels(),
                &source.span,
                problems,
            );
        }
        for model in models.iter().filter(|model| model.source == at && model.feature.is_none()) {
            check_size(model, reader.channels().len(), problems);
        }
    }
    for network in networks {
        let checked = network.check_file(channels[network.source]);
        // A file that is not there, or not whole yet, is told when it is loaded, which is tried again.
        if let Err(error @ (NetworkError::Misfit(_) | NetworkError::Recipe(_))) = checked {
            network::refuse(network, &error, problems);
        }
    }
}
