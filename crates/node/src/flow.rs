//! The flow of a node: which sources it reads, which models watch them, which rules decide. An explicit graph, read
//! from `flow.toml` and checked once, here; whoever holds a [`Flow`] need not check again.
//!
//! ```toml
//! [source.pump]
//! type = "replay"
//! file = "pump.csv"
//!
//! [model.pump_health]
//! type = "subspace"
//! inputs = ["source.pump"]
//!
//! [rule.overheat]
//! inputs = ["source.pump"]
//! when = "pump.temperature > 80.0"
//! for = "30s"
//! ```

mod broker;
mod check;
mod pairs;
pub mod part;
mod read;
mod sink;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::hash::Hash;

use crate::config::part::{Effective, Part, in_text_order, parse_document};
use crate::config::problem::{ConfigErrors, Problems, did_you_mean, read_text};
use crate::sink::SinkConfig;
pub use part::{
    ModelConfig, ReplayConfig, RuleConfig, SimulatedConfig, SourceConfig, SourceKind, Speed, Target,
};

/// A checked flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The file it was read from.
    pub file: PathBuf,
    /// The digest of the file's text.
    pub digest: Hash,
    /// In the order of the file.
    pub sources: Vec<SourceConfig>,
    /// In the order of the file.
    pub models: Vec<ModelConfig>,
    /// In the order of the file.
    pub rules: Vec<RuleConfig>,
    /// In the order of the file.
    pub sinks: Vec<SinkConfig>,
    /// Every value in force, with where it came from.
    pub effective: Vec<Effective>,
    text: Arc<str>,
}

impl Flow {
    /// Reads and checks a flow. Relative paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Flow, ConfigErrors> {
        Flow::parse(file, read_text(file)?)
    }

    /// Checks the text of a flow.
    pub fn parse(file: &Path, text: Arc<str>) -> Result<Flow, ConfigErrors> {
        let mut problems = Problems::new(file, Arc::clone(&text));
        let mut effective = Vec::new();
        let mut tables = Vec::new();
        let document = parse_document(&text, &mut problems);
        if !problems.is_empty() {
            // Half a document would only give problems that are none.
            return problems.or(None);
        }
        for (kind, span, value) in in_text_order(document) {
            if !["source", "model", "rule", "sink"].contains(&kind.as_str()) {
                let help = did_you_mean(&kind, ["source", "model", "rule", "sink"]);
                problems.add_with_help(span, format!("a flow has no `[{kind}]`"), help);
                continue;
            }
            let Some(table) = Part::new(kind.clone(), span, value, &mut problems, &mut effective) else {
                continue;
            };
            for (name, span, value) in table.entries() {
                tables.push((kind.clone(), name, span, value));
            }
        }
        tables.sort_by_key(|(_, _, span, _)| span.start);

        let folder = file.parent().unwrap_or(Path::new(""));
        let mut drafts = read::Drafts::default();
        let mut sinks = Vec::new();
        for (kind, name, span, value) in tables {
            let Some(name) = read::part_name(&name, &span, &mut problems) else { continue };
            let path = format!("{kind}.{name}");
            let Some(part) = Part::new(path, span, value, &mut problems, &mut effective) else { continue };
            let path = part.path.clone();
            let before = drafts.len();
            match kind.as_str() {
                "source" => drafts.sources.extend(read::source(name, folder, part)),
                "model" => drafts.models.extend(read::model(name, part)),
                "sink" => {
                    sinks.extend(sink::read(name, folder, part));
                    continue;
                }
                _ => drafts.rules.extend(read::rule(name, part)),
            }
            if drafts.len() == before {
                drafts.broken.push(path);
            }
        }
        let known = sink::Known {
            parts: drafts.paths(),
            rules: drafts.rules.iter().map(|rule| rule.name.to_string()).collect(),
        };
        let sinks = sink::join(sinks, &known, &mut problems);
        let checked = check::check(drafts, &mut problems);
        let flow = checked.filter(|_| problems.is_empty()).map(|(sources, models, rules)| {
            let (file, digest) = (file.to_path_buf(), Hash::of(text.as_bytes()));
            Flow { file, digest, sources, models, rules, sinks, effective, text }
        });
        problems.or(flow)
    }

    /// Opens the head of every file the flow names and checks the rules against the channels found there: what
    /// [`Flow::parse`], which reads no other file, cannot see.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::new(&self.file, Arc::clone(&self.text));
        check::check_files(&self.sources, &self.models, &self.rules, &mut problems);
        problems.or(Some(()))
    }
}
