//! Checks what the parts of a flow say of one another: that inputs exist, that nothing feeds itself, that the channels
//! a rule speaks of are there.

use std::collections::BTreeMap;
use std::ops::Range;

use signal::detector::Detector;

use super::part::{ModelConfig, RuleConfig, SourceConfig, SourceKind, Target};
use super::read::{Drafts, ModelDraft, Named, RuleDraft};
use crate::config::problem::{Problems, did_you_mean};
use crate::source::csv::{CsvReader, is_read_once};
use crate::why::why;

/// The most sources, and the most models, of one flow.
const MAX_PARTS: usize = 64;
/// The most rules of one flow.
const MAX_RULES: usize = 1_000;

type Checked = (Vec<SourceConfig>, Vec<ModelConfig>, Vec<RuleConfig>);

/// What an input or a condition can speak of.
#[derive(Clone, Copy)]
enum Known {
    Source(usize),
    Model(usize),
    Broken,
}

/// Joins the parts; `None` after a problem.
pub(super) fn check(drafts: Drafts, problems: &mut Problems) -> Option<Checked> {
    let Drafts { sources, models, rules, broken } = drafts;
    if sources.is_empty() && broken.is_empty() {
        let help = "begin with `[source.pump]` and `type = \"replay\"`";
        problems.add_with_help(0..0, "the flow has no source: nothing would happen", help);
    }
    let counts = [
        ("sources", sources.len(), MAX_PARTS),
        ("models", models.len(), MAX_PARTS),
        ("rules", rules.len(), MAX_RULES),
    ];
    for (what, count, max) in counts {
        if count > max {
            problems.add(0..0, format!("the flow has {count} {what}, the most is {max}"));
            return None;
        }
    }

    // One name, one part: a condition names it without saying whether it is a source or a model.
    let mut known: BTreeMap<String, Known> =
        broken.iter().map(|path| (path.clone(), Known::Broken)).collect();
    known.extend(
        sources.iter().enumerate().map(|(at, source)| (format!("source.{}", source.name), Known::Source(at))),
    );
    for (at, model) in models.iter().enumerate() {
        if known.contains_key(&format!("source.{}", model.name)) {
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
        known.insert(format!("model.{}", model.name), Known::Model(at));
    }
    refuse_loops(&models, problems);

    let models: Vec<Option<ModelConfig>> =
        models.into_iter().map(|model| check_model(model, &known, &sources, problems)).collect();
    let rules: Vec<Option<RuleConfig>> =
        rules.into_iter().map(|rule| check_rule(rule, &known, &sources, problems)).collect();
    let sources = sources.into_iter().map(|named| named.part).collect();
    Some((sources, models.into_iter().collect::<Option<_>>()?, rules.into_iter().collect::<Option<_>>()?))
}

fn dangling(input: &str, span: &Range<usize>, known: &BTreeMap<String, Known>, problems: &mut Problems) {
    let bare = ["source.", "model."]
        .iter()
        .map(|kind| format!("{kind}{input}"))
        .find(|path| known.contains_key(path));
    let help = match bare {
        Some(path) => format!("write \"{path}\""),
        None => did_you_mean(input, known.keys().map(String::as_str)),
    };
    problems.add_with_help(span.clone(), format!("there is no `{input}` to take as input"), help);
}

fn check_model(
    model: Named<ModelDraft>,
    known: &BTreeMap<String, Known>,
    sources: &[Named<SourceConfig>],
    problems: &mut Problems,
) -> Option<ModelConfig> {
    let Named { part: draft, name, span } = model;
    let mut watched = None;
    for input in &draft.inputs {
        match known.get(&input.value) {
            Some(Known::Source(source)) if watched.is_none() => watched = Some(*source),
            Some(Known::Source(_)) => {
                let message = format!("`model.{name}` has more than one source");
                let help = "a detector watches one source: give each source a model, or send both through one source";
                problems.add_with_help(input.span.clone(), message, help);
                return None;
            }
            Some(Known::Model(_)) => {
                let message = format!("`model.{name}` cannot watch `{}`", input.value);
                problems.add_with_help(input.span.clone(), message, "a detector watches a source");
                return None;
            }
            Some(Known::Broken) => return None,
            None => {
                dangling(&input.value, &input.span, known, problems);
                return None;
            }
        }
    }
    let source = watched?;
    let config = ModelConfig {
        name,
        source,
        lag: draft.lag,
        learn: draft.learn,
        refractory: draft.refractory,
        calm: draft.calm,
        lag_span: if draft.lag_span.is_empty() { span } else { draft.lag_span },
    };
    if let Some(channels) = &sources[source].part.channels {
        check_size(&config, channels.len(), problems);
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

fn check_rule(
    rule: Named<RuleDraft>,
    known: &BTreeMap<String, Known>,
    sources: &[Named<SourceConfig>],
    problems: &mut Problems,
) -> Option<RuleConfig> {
    let Named { part: draft, name, .. } = rule;
    let mut sound = !draft.inputs.is_empty();
    for input in &draft.inputs {
        if !known.contains_key(&input.value) {
            dangling(&input.value, &input.span, known, problems);
            sound = false;
        }
    }
    if !sound {
        return None;
    }
    let condition = draft.condition;
    let field = draft.field_span.clone();
    let Some(input) = draft
        .inputs
        .iter()
        .find(|input| input.value.split_once('.').is_some_and(|(_, part)| part == condition.part))
    else {
        let parts = draft.inputs.iter().filter_map(|input| Some(input.value.split_once('.')?.1));
        let message = format!("the condition speaks of `{}`, which is not among the inputs", condition.part);
        problems.add_with_help(draft.when.span, message, did_you_mean(&condition.part, parts));
        return None;
    };
    let target = match known.get(&input.value)? {
        Known::Broken => return None,
        Known::Source(source) => {
            let channel = condition.field.clone();
            if let Some(channels) = &sources[*source].part.channels {
                check_channel(&channel, &input.value, channels, &field, problems);
            }
            Target::Channel { source: *source, channel }
        }
        Known::Model(model) => match condition.field.as_str() {
            "p" => Target::Probability { model: *model },
            "score" => Target::Score { model: *model },
            other => {
                let message = format!("`{}` gives no `{other}`", input.value);
                let help = format!("a model gives `{0}.p` and `{0}.score`", condition.part);
                problems.add_with_help(field, message, help);
                return None;
            }
        },
    };
    Some(RuleConfig {
        name,
        when: draft.when.value,
        condition,
        target,
        for_ms: draft.for_ms,
        clear_after_ms: draft.clear_after_ms,
        severity: draft.severity,
        field_span: field,
    })
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
    models: &[ModelConfig],
    rules: &[RuleConfig],
    problems: &mut Problems,
) {
    for (at, source) in sources.iter().enumerate() {
        let SourceKind::Replay(replay) = &source.kind else { continue };
        if is_read_once(&replay.file) {
            continue;
        }
        let reader = match CsvReader::open(&replay.file, &replay.csv) {
            Ok(reader) => reader,
            Err(error) => {
                problems.add(source.span.clone(), format!("`source.{}`: {}", source.name, why(&error)));
                continue;
            }
        };
        for rule in rules {
            if let Target::Channel { source: wanted, channel } = &rule.target
                && *wanted == at
            {
                let path = format!("source.{}", source.name);
                check_channel(channel, &path, reader.channels(), &rule.field_span, problems);
            }
        }
        for model in models.iter().filter(|model| model.source == at) {
            check_size(model, reader.channels().len(), problems);
        }
    }
}
