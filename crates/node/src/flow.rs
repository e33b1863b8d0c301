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
//! [params]                 # other values for a node stand in its node.toml
//! limit = 80.0
//!
//! [rule.overheat]
//! inputs = ["source.pump"]
//! when = "pump.temperature > ${params.limit}"
//! for = "30s"
//! ```

pub mod actuator;
mod broker;
mod bus;
mod check;
mod ends;
mod feature;
mod health;
pub mod model;
pub mod names;
mod network;
mod pairs;
pub mod params;
mod part;
mod report;
pub mod rule;
mod rules;
mod sink;
pub mod source;
pub mod test;
mod within;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::hash::Hash;

use crate::act::reins::Then;
use crate::config::part::{Effective, Part, in_text_order, parse_document};
use crate::config::problem::{ConfigErrors, Problems, did_you_mean, read_text};
use crate::feature::FeatureConfig;
use crate::network::{NetworkConfig, NetworkError};
use crate::report::ReportConfig;
use crate::sink::SinkConfig;
pub use actuator::ActuatorConfig;
use check::Checked;
pub use check::Link;
pub use model::ModelConfig;
pub use names::{Field, PartAt};
use params::Params;
pub use rule::RuleConfig;
pub use source::{ReplayConfig, SimulatedConfig, SourceConfig, SourceKind, Speed};
use test::TestConfig;

/// The kinds of parts, each read in the file of its name.
const KINDS: [&str; 7] = ["source", "feature", "model", "rule", "sink", "actuator", "report"];

/// A checked flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The file it was read from.
    pub file: PathBuf,
    /// The digest of the file's text, and of the values that this node has in it.
    pub digest: Hash,
    /// In the order of the file.
    pub sources: Vec<SourceConfig>,
    /// In the order of the file.
    pub features: Vec<FeatureConfig>,
    /// In the order of the file.
    pub models: Vec<ModelConfig>,
    /// In the order of the file.
    pub networks: Vec<NetworkConfig>,
    /// In the order of the file.
    pub rules: Vec<RuleConfig>,
    /// In the order of the file.
    pub sinks: Vec<SinkConfig>,
    /// In the order of the file.
    pub actuators: Vec<ActuatorConfig>,
    /// In the order of the file.
    pub reports: Vec<ReportConfig>,
    /// What rules ask of actuators.
    pub thens: Vec<Then>,
    /// The rules' places, in the order in which they are judged: each after those it speaks of.
    pub order: Vec<usize>,
    /// The fields that conditions speak of, by their slot on the board.
    pub fields: Vec<Field>,
    /// What feeds what, and what holds back what.
    pub links: Vec<Link>,
    /// The parameters, with the values they have on this node.
    pub params: Params,
    /// What its rules must say of given values.
    pub tests: Vec<TestConfig>,
    /// Every value in force, with where it came from.
    pub effective: Vec<Effective>,
    text: Arc<str>,
}

impl Flow {
    /// Reads and checks a flow. Relative paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Flow, ConfigErrors> {
        let flow = Flow::load_with(file, &Params::new());
        flow.map_err(|errors| errors.if_unread("`selvedge flow new` writes one to begin with"))
    }

    /// The same, with other values for some of its parameters; those that it does not have change nothing.
    pub fn load_with(file: &Path, others: &Params) -> Result<Flow, ConfigErrors> {
        Flow::parse_with(file, read_text(file)?, others)
    }

    /// A flow of which only the file is known: it has no parts.
    pub(crate) fn unread(file: &Path) -> Flow {
        Flow {
            file: file.to_path_buf(),
            digest: Hash::of(b""),
            sources: Vec::new(),
            features: Vec::new(),
            models: Vec::new(),
            networks: Vec::new(),
            rules: Vec::new(),
            sinks: Vec::new(),
            actuators: Vec::new(),
            reports: Vec::new(),
            thens: Vec::new(),
            order: Vec::new(),
            fields: Vec::new(),
            links: Vec::new(),
            params: Params::new(),
            tests: Vec::new(),
            effective: Vec::new(),
            text: Arc::from(""),
        }
    }

    /// Checks the text of a flow.
    pub fn parse(file: &Path, text: Arc<str>) -> Result<Flow, ConfigErrors> {
        Flow::parse_with(file, text, &Params::new())
    }

    /// The same, with other values for some of its parameters.
    pub fn parse_with(file: &Path, text: Arc<str>, others: &Params) -> Result<Flow, ConfigErrors> {
        let mut problems = Problems::new(file, Arc::clone(&text));
        let mut effective = Vec::new();
        let mut tables = Vec::new();
        let mut document = parse_document(&text, &mut problems);
        if !problems.is_empty() {
            // Half a document would only give problems that are none.
            return problems.or(None);
        }
        let params = match document.remove("params") {
            Some(table) => params::read(table, others, &mut problems, &mut effective),
            None => Params::new(),
        };
        params::expand(&mut document, &params, &mut problems);
        let tests = document.remove("test");
        for (kind, span, value) in in_text_order(document) {
            if !KINDS.contains(&kind.as_str()) {
                let help = did_you_mean(&kind, KINDS);
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
        let mut drafts = check::Drafts::default();
        let (mut sinks, mut reports) = (Vec::new(), Vec::new());
        for (kind, name, span, value) in tables {
            let Some(name) = part::part_name(&name, &span, &mut problems) else { continue };
            let path = format!("{kind}.{name}");
            let Some(table) = Part::new(path, span, value, &mut problems, &mut effective) else { continue };
            let path = table.path.clone();
            let before = drafts.len();
            match kind.as_str() {
                "source" => drafts.sources.extend(source::read(name, folder, table)),
                "feature" => drafts.features.extend(feature::read(name, table)),
                "model" if table.peek("type") == Some("network") => {
                    drafts.networks.extend(network::read(name, folder, table));
                }
                "model" => drafts.models.extend(model::read(name, table)),
                "sink" => {
                    sinks.extend(sink::read(name, folder, table));
                    continue;
                }
                "report" => {
                    reports.extend(report::read(name, table));
                    continue;
                }
                "actuator" => drafts.actuators.extend(actuator::read(name, folder, table)),
                _ => drafts.rules.extend(rule::read(name, table)),
            }
            if drafts.len() == before {
                drafts.broken.push(path);
            }
        }
        for value in &mut effective {
            if let Some(shown) = params::shown(&value.value, &params) {
                value.value = shown;
            }
        }
        let rules = drafts.rules.iter().map(|rule| rule.name.to_string()).collect();
        let actuators = drafts.actuators.iter().map(|part| format!("actuator.{}", part.name));
        let mut parts: Vec<String> = drafts.paths().into_iter().chain(actuators).collect();
        let reports = report::join(reports, &parts, &mut problems);
        parts.extend(reports.iter().map(|part| format!("report.{}", part.name)));
        let sinks = sink::join(sinks, &sink::Known { parts, rules }, &mut problems);
        let checked = check::check(drafts, &mut problems);
        let tests = match (tests, &checked) {
            (Some(tests), Some(Checked { sources, features, models, networks, rules, .. })) => {
                test::read(tests, test::Parts { sources, features, models, networks, rules }, &mut problems)
            }
            // Of parts that could not be read there is nothing to test.
            _ => Vec::new(),
        };
        let flow = checked.filter(|_| problems.is_empty()).map(|checked| {
            let Checked {
                sources,
                features,
                models,
                networks,
                rules,
                actuators,
                thens,
                order,
                fields,
                links,
            } = checked;
            let (file, digest) = (file.to_path_buf(), digest(&text, &params, others));
            let mut flow = Flow {
                file,
                digest,
                sources,
                features,
                models,
                networks,
                rules,
                sinks,
                actuators,
                reports,
                thens,
                order,
                fields,
                links,
                params,
                tests,
                effective,
                text,
            };
            let parts: Vec<String> = flow.parts().collect();
            flow.links.extend(ends::links(&parts, &flow.sinks, &flow.reports, &flow.actuators));
            flow
        });
        problems.or(flow)
    }

    /// The paths of its parts: sources, features, models, rules, sinks, actuators, reports, each in the order of the file.
    pub fn parts(&self) -> impl Iterator<Item = String> {
        let sources = self.sources.iter().map(|part| format!("source.{}", part.name));
        let models = self.models.iter().map(|part| format!("model.{}", part.name));
        let features = self.features.iter().map(|part| format!("feature.{}", part.name));
        let networks = self.networks.iter().map(|part| format!("model.{}", part.name));
        let rules = self.rules.iter().map(|part| format!("rule.{}", part.name));
        let sinks = self.sinks.iter().map(|part| format!("sink.{}", part.name));
        let actuators = self.actuators.iter().map(|part| format!("actuator.{}", part.name));
        let reports = self.reports.iter().map(|part| format!("report.{}", part.name));
        let thinking = sources.chain(features).chain(models).chain(networks).chain(rules);
        thinking.chain(sinks).chain(actuators).chain(reports)
    }

    /// Whether a part says the same in another flow, whatever else does.
    pub fn same(&self, other: &Flow, path: &str) -> bool {
        let says = |flow: &Flow| -> Vec<(String, String)> {
            let of_part =
                |value: &&Effective| value.key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
            flow.effective.iter().filter(of_part).map(|it| (it.key.clone(), it.value.clone())).collect()
        };
        says(self) == says(other)
            && self.parts().any(|part| part == path)
            && other.parts().any(|part| part == path)
    }

    /// The text it was read from.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Collects what is wrong with this flow, once more is known than its text says.
    pub(crate) fn problems(&self) -> Problems {
        Problems::new(&self.file, Arc::clone(&self.text))
    }

    /// Opens the head of every file the flow names and checks the rules against the channels found there: what
    /// [`Flow::parse`], which reads no other file, cannot see.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let mut problems = self.problems();
        check::check_files(
            &self.sources,
            &self.features,
            &self.models,
            &self.networks,
            (&self.rules, &self.fields),
            &mut problems,
        );
        problems.or(Some(()))
    }

    /// What is wrong with the flow if one of its networks cannot be loaded for what it looks at.
    pub fn refuse_network(&self, network: &NetworkConfig, error: &NetworkError) -> ConfigErrors {
        let mut problems = self.problems();
        network::refuse(network, error, &mut problems);
        ConfigErrors(problems.found())
    }
}

/// Of the file's bytes alone, unless this node has values of its own in it.
fn digest(text: &str, params: &Params, others: &Params) -> Hash {
    let own = params.iter().filter(|(name, _)| others.contains_key(*name));
    let own: String = own.map(|(name, param)| format!("params.{name} = {}\n", param.written())).collect();
    if own.is_empty() { Hash::of(text.as_bytes()) } else { Hash::of(format!("{text}\n{own}").as_bytes()) }
}
