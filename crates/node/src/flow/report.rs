//! `[report.x]`: what happened in a shift, in plain words.

use std::time::Duration;

use wire::id::PartName;

use super::pairs::{Pair, pairs};
use super::part::inputs;
use super::within::within;
use crate::config::part::{Nested, Part, Placed};
use crate::config::problem::{Problems, did_you_mean};
use crate::report::ReportConfig;
use crate::report::shift::Shifts;
use crate::report::writer::WriterSettings;

/// The most reports of one flow.
const MAX_REPORTS: usize = 16;
/// The longest title, and the longest name for people, in bytes.
const NAME_MAX_BYTES: usize = 128;
/// Parts that can be told of.
const KINDS: [&str; 4] = ["source.", "model.", "rule.", "actuator."];

/// A report before it is known which parts there are.
pub(super) struct ReportDraft {
    pub(super) config: ReportConfig,
    inputs: Vec<Placed<String>>,
}

/// Reads one.
pub(super) fn read(name: PartName, mut part: Part<'_, '_>) -> Option<ReportDraft> {
    let plain =
        |text: &str| match (1..=NAME_MAX_BYTES).contains(&text.len()) && !text.contains(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err(format!("has 1 to {NAME_MAX_BYTES} bytes of plain text")),
        };
    let title = part.take_text_or("title", &format!("Report {name}"), plain).value;
    let every_ms = part.take_text_or("every", "8h", |text| within(text, 1_000, 31 * 86_400_000)).value as i64;
    let (begins_ms, offset_s) = part.take_text_or("begins", "00:00", Shifts::read_begin).value;
    let inputs = if part.has("inputs") { inputs(&mut part) } else { Vec::new() };
    let mut names = Vec::new();
    for Pair { name: path, text, span } in
        pairs(&mut part, "names", "{ \"farm.north\" = \"soil moisture in the north (%)\" }")
    {
        match plain(&text) {
            Ok(text) => names.push((path, text)),
            Err(message) => {
                let message = format!("the name of `{path}` {message}");
                part.problem(span, message, "write what people call it, with its unit");
            }
        }
    }
    let writer = match part.nested("writer") {
        Nested::Table(writer) => read_writer(writer),
        Nested::Absent | Nested::Off | Nested::Wrong => None,
    };
    part.finish();
    let shifts = Shifts { every_ms, begins_ms, offset_s };
    let wanted = inputs.iter().map(|input| input.value.clone()).collect();
    let config = ReportConfig { name, title, shifts, inputs: wanted, names, writer };
    Some(ReportDraft { config, inputs })
}

fn read_writer(mut part: Part<'_, '_>) -> Option<WriterSettings> {
    let url = part.require::<String>("url", "\"http://127.0.0.1:8384/v1\"");
    let model = part.require::<String>("model", "\"smollm2:135m\"");
    let timeout = part.take_text_or("timeout", "2m", |text| within(text, 1_000, 3_600_000)).value;
    let url = url.filter(|url| {
        // Figures that were not let out by the policy must not get out by this door.
        let is_here = reqwest::Url::parse(&url.value).is_ok_and(|url| {
            url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
        });
        if !is_here {
            let message = format!("`url` of `{}` is not on this machine", part.path);
            part.problem(
                url.span.clone(),
                message,
                "write \"http://127.0.0.1:8384/v1\": figures do not leave for a report",
            );
        }
        is_here
    });
    part.finish();
    Some(WriterSettings { url: url?.value, model: model?.value, timeout: Duration::from_millis(timeout) })
}

/// Joins the reports with the parts that they speak of. `known`: the paths of parts.
pub(super) fn join(drafts: Vec<ReportDraft>, known: &[String], problems: &mut Problems) -> Vec<ReportConfig> {
    if drafts.len() > MAX_REPORTS {
        problems.add(0..0, format!("the flow has {} reports, the most is {MAX_REPORTS}", drafts.len()));
    }
    let mut joined = Vec::new();
    for ReportDraft { config, inputs } in drafts {
        for Placed { value: input, span } in inputs {
            let found = match input.strip_suffix('*') {
                Some(begin) => KINDS.iter().any(|kind| begin.starts_with(kind)),
                None => known.contains(&input),
            };
            if !found {
                let help = did_you_mean(&input, known.iter().map(String::as_str));
                problems.add_with_help(span, format!("there is no `{input}` to tell of"), help);
            }
        }
        joined.push(config);
    }
    joined
}
