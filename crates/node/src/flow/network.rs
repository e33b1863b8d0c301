//! `[model.x]` of type `network`: an ONNX file, or a release of one, that looks at windows or pictures of a source, and what
//! stands before and after it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use net::after::Meaning;
use net::batch::check_alone;
use net::recipe::{Recipe, RecipeError};
use net::runtime::Kind as Runtime;
use package::name::ModelName;
use wire::id::PartName;

use super::names::{Book, Gives, Known, PartAt, dangling};
use super::part::{Named, inputs};
use super::source::SourceConfig;
use crate::board::Kind;
use crate::config::part::{Part, Placed};
use crate::config::problem::Problems;
use crate::crossing::{LINES_MAX, Line};
use crate::network::{NetworkConfig, NetworkError, Origin};
use crate::why::why;

/// The most readings that a network looks at together.
const WINDOW_MAX: usize = 1 << 20;

/// A network before it is known what it looks at.
pub(super) struct NetworkDraft {
    pub(super) inputs: Vec<Placed<String>>,
    config: NetworkConfig,
}

/// Reads one. `table` says `type = "network"`.
pub(super) fn read(name: PartName, folder: &Path, mut part: Part<'_, '_>) -> Option<Named<NetworkDraft>> {
    let span = part.span.clone();
    part.take::<String>("type");
    let inputs = inputs(&mut part);
    let file = part.take::<String>("file");
    let release = part.take_text("release", |text| ModelName::new(text).map_err(|error| error.to_string()));
    let from = match (file, release) {
        (Some(file), None) => Some(Origin::File(folder.join(file.value))),
        (None, Some(release)) => Some(Origin::Release(release.value)),
        (Some(file), Some(_)) => {
            let message = format!("`model.{name}` has a `file` and a `release`");
            part.problem(file.span, message, "leave one of them");
            None
        }
        (None, None) => {
            let message = format!("`model.{name}` has no network");
            part.problem(
                span.clone(),
                message,
                "add `file = \"model.onnx\"`, or `release = \"name\"` for one that the hub rolls out",
            );
            None
        }
    };
    let window = part.take_or("window", 1usize, "1");
    if window.value == 0 || window.value > WINDOW_MAX {
        let message = format!("`window` must be from 1 to {WINDOW_MAX} readings");
        part.problem(window.span.clone(), message, "write how many readings the network looks at together");
    }
    let hop = part.take_or("hop", window.value, &window.value.to_string());
    if hop.value == 0 {
        part.problem(hop.span, "`hop` must be at least 1", "write how many readings it moves on by");
    }
    let runtime = part.take::<Runtime>("runtime").map(|placed| placed.value);
    let recipe = part.take::<Recipe>("recipe").map(|placed| placed.value).unwrap_or_default();
    let lines = lines(&recipe, &mut part);
    let record = part.take_text_or("record", "changes", |word| match word {
        "changes" => Ok(false),
        "each" => Ok(true),
        other => Err(format!("there is no {other:?}: write \"changes\" or \"each\"")),
    });
    part.finish();
    let config = NetworkConfig {
        name: name.clone(),
        source: 0,
        from: from?,
        window: window.value,
        hop: hop.value,
        max_gap_ms: i64::MAX,
        recipe,
        runtime,
        pictures: false,
        lines,
        record_each: record.value,
        span: span.clone(),
    };
    Some(Named { part: NetworkDraft { inputs, config }, name, span })
}

/// Reads `lines`: where boxes are counted.
fn lines(recipe: &Recipe, part: &mut Part<'_, '_>) -> Vec<Line> {
    const EXAMPLE: &str = "write `lines = { gate = [0.0, 0.5, 1.0, 0.5] }`: from left and top to left and top, in parts of the picture";
    let Some(Placed { value, span }) = part.take::<BTreeMap<String, [f64; 4]>>("lines") else {
        return Vec::new();
    };
    let is_word = |name: &str| {
        name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let boxes = recipe.answers.iter().any(|answer| matches!(answer, Meaning::Boxes(_)));
    let wrong = match () {
        () if !boxes => Some("`lines` count boxes, and the recipe has no answer `as = \"boxes\"`".to_owned()),
        () if value.len() > LINES_MAX => Some(format!("a network has at most {LINES_MAX} lines")),
        () => value.iter().find_map(|(name, [left, top, right, bottom])| {
            let inside = [left, top, right, bottom].iter().all(|part| (0.0..=1.0).contains(*part));
            match () {
                () if !is_word(name) => Some(format!("the line {name:?} has a name that is no word")),
                () if !inside => Some(format!("the line `{name}` lies outside of the picture")),
                () if left == right && top == bottom => Some(format!("the line `{name}` is a point")),
                () => None,
            }
        }),
    };
    if let Some(message) = wrong {
        let help = if boxes { EXAMPLE } else { "write the answer into the recipe, or leave `lines` out" };
        part.problem(span, message, help);
    }
    value
        .into_iter()
        .map(|(name, [left, top, right, bottom])| Line { name, from: (left, top), to: (right, bottom) })
        .collect()
}

/// Joins networks with the sources they look at; `None` after a problem.
pub(super) fn check(
    drafts: Vec<Named<NetworkDraft>>,
    sources: &[Named<SourceConfig>],
    book: &mut Book,
    problems: &mut Problems,
) -> Option<Vec<NetworkConfig>> {
    let mut checked = Vec::new();
    for (at, Named { part: draft, name, span }) in drafts.into_iter().enumerate() {
        let path = format!("model.{name}");
        if book.parts.contains_key(&format!("source.{name}")) {
            let message =
                format!("there is a source `{name}` already: `{name}.x` in a condition would be either");
            problems.add_with_help(span.clone(), message, format!("name the network `{name}_net`"));
        }
        let Some((source, looks_at)) = looked_at(&path, &draft.inputs, book, problems) else {
            book.parts.insert(path, None);
            checked.push(None);
            continue;
        };
        let max_gap_ms = sources[source].part.max_gap_ms;
        let pictures = sources[source].part.kind.has_pictures();
        let config = NetworkConfig { source, max_gap_ms, pictures, span: looks_at, ..draft.config };
        if let Err(error) = check_declared(&config) {
            refuse(&config, &error, problems);
        }
        let known = Known {
            at: PartAt::Network(at),
            gives: gives(&config),
            steps: [source].into(),
            reads: [(source, config.window)].into(),
        };
        book.parts.insert(path, Some(known));
        checked.push(Some(config));
    }
    checked.into_iter().collect()
}

/// Whether the recipe that the flow declares asks for what its source does not give, or has looks share a run which cannot.
fn check_declared(config: &NetworkConfig) -> Result<(), NetworkError> {
    let Recipe { batch, inputs, .. } = &config.recipe;
    if let Some(batch) = batch {
        check_alone(*batch, inputs).map_err(RecipeError::from)?;
    }
    config.gives(None).fits_declared(inputs).map_err(NetworkError::Misfit)
}

/// Says why a network cannot look at its source, where the flow says that it does.
pub(super) fn refuse(config: &NetworkConfig, error: &NetworkError, problems: &mut Problems) {
    let (path, span) = (format!("model.{}", config.name), config.span.clone());
    match error {
        NetworkError::Misfit(misfit) => match misfit.mend() {
            Some(mend) => problems.add_with_help(span, format!("`{path}`: {misfit}"), mend),
            None => problems.add(span, format!("`{path}`: {misfit}")),
        },
        other => problems.add(span, format!("`{path}`: {}", why(other))),
    }
}

/// What conditions can speak of, as the flow says it; `None` without a declaration: numbers, whose names are known once the network is
/// loaded.
pub(super) fn fields(config: &NetworkConfig) -> Option<Vec<(String, Kind)>> {
    let answers = &config.recipe.answers;
    if answers.is_empty() {
        return None;
    }
    let fields = answers.iter().flat_map(Meaning::fields);
    let fields = fields.map(|(name, is_word)| (name, if is_word { Kind::Text } else { Kind::Number }));
    let counts = config.lines.iter().flat_map(Line::fields).map(|name| (name, Kind::Number));
    Some(fields.chain(counts).collect())
}

fn gives(config: &NetworkConfig) -> Gives {
    fields(config).map_or(Gives::Later, Gives::These)
}

/// The one source among the inputs, and where it is named.
fn looked_at(
    path: &str,
    inputs: &[Placed<String>],
    book: &Book,
    problems: &mut Problems,
) -> Option<(usize, Range<usize>)> {
    let mut found: Option<(usize, Range<usize>)> = None;
    for input in inputs {
        match book.parts.get(&input.value) {
            Some(Some(Known { at: PartAt::Source(source), .. })) if found.is_none() => {
                found = Some((*source, input.span.clone()));
            }
            Some(Some(_)) => {
                let message = format!("`{path}` looks at one source, and at nothing else");
                problems.add_with_help(input.span.clone(), message, "leave one source in `inputs`");
                return None;
            }
            Some(None) => return None,
            None => {
                dangling(input, &["source"], book, problems);
                return None;
            }
        }
    }
    found
}
