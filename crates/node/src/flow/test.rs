//! `[[test]]`: what the rules of a flow must say after given values. Read here; `play::rehearse` plays them.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;
use wire::body::Said;
use wire::world::WallMs;

use super::model::ModelConfig;
use super::network;
use super::part::positive;
use super::rule::{RuleConfig, Standing};
use super::source::SourceConfig;
use crate::board::Kind;
use crate::config::part::{Effective, Part, in_text_order};
use crate::config::problem::{Problems, did_you_mean};
use crate::config::quantity::duration_ms;
use crate::feature::FeatureConfig;
use crate::network::NetworkConfig;

/// The most tests of one flow.
const MAX_TESTS: usize = 256;
/// The most readings of one source in one test: a day of seconds.
const MAX_READINGS: i64 = 86_400;

/// One test.
#[derive(Debug, Clone)]
pub struct TestConfig {
    /// What people call it.
    pub name: String,
    /// What is given, in the order of time.
    pub given: Vec<Given>,
    /// Time between two readings of each source.
    pub every_ms: i64,
    /// How long it lasts.
    pub after_ms: i64,
    /// What must be so then.
    pub expect: Vec<Expect>,
    /// Where it stands.
    pub span: Range<usize>,
}

/// A value of a part from a time on, until another is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// From when on, from the begin of the test.
    pub at_ms: WallMs,
    /// Whose.
    pub part: GivenPart,
}

/// What is given of which part, by its place in the flow.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenPart {
    /// A source's channels; NaN is missing.
    Source(usize, Vec<(String, f64)>),
    /// A source falls silent.
    Silent(usize),
    /// What a feature gives, whatever the readings are.
    Feature(usize, Vec<(String, f64)>),
    /// What a model makes of the readings, whatever they are.
    Model(usize, Vec<(String, f64)>),
    /// What a network answers, whatever it sees.
    Network(usize, Vec<(String, Said)>),
}

/// What must be so at the end.
#[derive(Debug, Clone)]
pub struct Expect {
    /// The rule, by its place in the flow.
    pub rule: usize,
    /// Where it stands.
    pub state: Option<Standing>,
    /// How often it was told that it fires.
    pub fired: Option<usize>,
    /// What the words of its last decision have in them.
    pub why: Option<String>,
    /// Where this stands in the file.
    pub span: Range<usize>,
}

/// The parts that tests speak of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) sources: &'a [SourceConfig],
    pub(super) features: &'a [FeatureConfig],
    pub(super) models: &'a [ModelConfig],
    pub(super) networks: &'a [NetworkConfig],
    pub(super) rules: &'a [RuleConfig],
}

/// Reads all tests of a flow.
pub(super) fn read(
    value: Spanned<DeValue<'_>>,
    parts: Parts<'_>,
    problems: &mut Problems,
) -> Vec<TestConfig> {
    let span = value.span();
    let DeValue::Array(array) = value.into_inner() else {
        problems.add_with_help(span, "`test` must be a list of tables", "write `[[test]]`");
        return Vec::new();
    };
    if array.len() > MAX_TESTS {
        problems.add(span, format!("the flow has {} tests, the most is {MAX_TESTS}", array.len()));
        return Vec::new();
    }
    // What tests say is no setting that is in force.
    let mut effective = Vec::new();
    let tables = array.into_iter().enumerate();
    tables.filter_map(|(at, table)| one(at, table, parts, problems, &mut effective)).collect()
}

fn one(
    at: usize,
    table: Spanned<DeValue<'_>>,
    parts: Parts<'_>,
    problems: &mut Problems,
    effective: &mut Vec<Effective>,
) -> Option<TestConfig> {
    let span = table.span();
    let mut part = Part::new(format!("test {}", at + 1), span.clone(), table, problems, effective)?;
    let name = part.take::<String>("name").map_or_else(|| part.path.clone(), |placed| placed.value);
    part.require_key("given", "{ pump = { temperature = 85.0 } }");
    part.require_key("expect", "{ rule = \"overheat\", state = \"firing\" }");
    let every = part.take_text_or("every", "1s", |text| positive(duration_ms(text)?));
    let after = part.take_text_or("after", "0s", duration_ms);
    if after.value / every.value > MAX_READINGS {
        let message = format!("the test has more than {MAX_READINGS} readings of a source");
        part.problem(after.span, message, "give `every` a longer time");
        return None;
    }
    let (given, expect) = (part.take_raw("given"), part.take_raw("expect"));
    part.finish();
    let mut reader = Reader { parts, problems };
    let mut given = reader.given(given?)?;
    given.sort_by_key(|given| given.at_ms);
    let expect = reader.expect(expect?)?;
    Some(TestConfig { name, given, every_ms: every.value, after_ms: after.value, expect, span })
}

struct Reader<'a> {
    parts: Parts<'a>,
    problems: &'a mut Problems,
}

type Entries<'i> = Vec<(String, Range<usize>, Spanned<DeValue<'i>>)>;

impl Reader<'_> {
    fn fail<T>(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.problems.add_with_help(span, message, help);
        None
    }

    /// A table, or a list of tables.
    fn tables<'i>(
        &mut self,
        value: Spanned<DeValue<'i>>,
        example: &str,
    ) -> Option<Vec<(Range<usize>, Entries<'i>)>> {
        let span = value.span();
        let items = match value.into_inner() {
            DeValue::Array(array) => array.into_iter().collect(),
            table @ DeValue::Table(_) => vec![Spanned::new(span, table)],
            _ => return self.fail(span, "expected a table, or a list of tables", example),
        };
        let mut tables = Vec::new();
        for item in items {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => tables.push((span, in_text_order(table))),
                _ => return self.fail(span, "expected a table", example),
            }
        }
        Some(tables)
    }

    fn given(&mut self, value: Spanned<DeValue<'_>>) -> Option<Vec<Given>> {
        let mut given = Vec::new();
        for (_, entries) in self.tables(value, "write `given = { pump = { temperature = 85.0 } }`")? {
            let mut at_ms = 0;
            let mut found = Vec::new();
            for (key, span, value) in entries {
                if key != "at" {
                    found.push(self.given_part(&key, span, value)?);
                    continue;
                }
                let at = value.span();
                at_ms = match value.get_ref().as_str().map(duration_ms) {
                    Some(Ok(at_ms)) => at_ms,
                    Some(Err(message)) => return self.fail(at, message, "write `at = \"30s\"`"),
                    None => return self.fail(at, "`at` is a time", "write `at = \"30s\"`"),
                };
            }
            given.extend(found.into_iter().map(|part| Given { at_ms, part }));
        }
        Some(given)
    }

    fn given_part(
        &mut self,
        name: &str,
        span: Range<usize>,
        value: Spanned<DeValue<'_>>,
    ) -> Option<GivenPart> {
        let Parts { sources, features, models, networks, .. } = self.parts;
        let source = sources.iter().position(|source| source.name.as_str() == name);
        let model = models.iter().position(|model| model.name.as_str() == name);
        let at = value.span();
        let feature = features.iter().position(|feature| feature.name.as_str() == name);
        if let (None, None, Some(feature)) = (source, model, feature) {
            let known = features[feature].names();
            return match value.into_inner() {
                DeValue::Table(table) => {
                    let values = self.values(in_text_order(table), Some(&known))?;
                    Some(GivenPart::Feature(feature, values))
                }
                _ => self.fail(at, "a feature is given what it says", "write `{ rms = 1.5 }`"),
            };
        }
        let network = networks.iter().position(|network| network.name.as_str() == name);
        if let (None, None, Some(network)) = (source, model, network) {
            return match value.into_inner() {
                DeValue::Table(table) => {
                    let answers = self.answers(in_text_order(table), &networks[network])?;
                    Some(GivenPart::Network(network, answers))
                }
                _ => self.fail(
                    at,
                    "a network is given what it answers",
                    "write `{ count = 2, label = \"face\" }`",
                ),
            };
        }
        match (source, model, value.into_inner()) {
            (Some(source), _, DeValue::Table(table)) => {
                let known = sources[source].channels.as_deref();
                let values = self.values(in_text_order(table), known)?;
                Some(GivenPart::Source(source, values))
            }
            (Some(source), _, DeValue::String(word)) if word == "silent" => Some(GivenPart::Silent(source)),
            (Some(_), _, _) => {
                self.fail(at, "a source is given values, or is \"silent\"", "write `{ temperature = 85.0 }`")
            }
            (None, Some(model), DeValue::Table(table)) => {
                let known = ["p", "score"].map(str::to_owned);
                let values = self.values(in_text_order(table), Some(&known))?;
                Some(GivenPart::Model(model, values))
            }
            (None, Some(_), _) => self.fail(at, "a model is given what it says", "write `{ p = 0.99 }`"),
            (None, None, _) => {
                let names = sources.iter().map(|source| source.name.as_str());
                let names = names.chain(features.iter().map(|feature| feature.name.as_str()));
                let names = names.chain(networks.iter().map(|network| network.name.as_str()));
                let help = did_you_mean(name, names.chain(models.iter().map(|model| model.name.as_str())));
                self.fail(span, format!("there is no source, feature or model `{name}`"), help)
            }
        }
    }

    /// What a network answers: numbers and words, each under the name and of the kind that its recipe declares.
    fn answers(&mut self, entries: Entries<'_>, network: &NetworkConfig) -> Option<Vec<(String, Said)>> {
        let known = network::fields(network);
        let mut answers = Vec::new();
        for (name, span, value) in entries {
            let at = value.span();
            let word = value.get_ref().as_str().filter(|word| *word != "missing");
            let kind = known.as_ref().map(|known| known.iter().find(|(field, _)| *field == name));
            let is_word = match kind {
                Some(Some((_, kind))) => *kind == Kind::Text,
                // What nobody declared are numbers.
                None => false,
                Some(None) => {
                    let names = known.iter().flatten().map(|(field, _)| field.as_str());
                    return self.fail(
                        span,
                        format!("there is no `{name}` to give"),
                        did_you_mean(&name, names),
                    );
                }
            };
            match (is_word, word) {
                (true, Some(word)) => answers.push((name, Said::Word(word.to_owned()))),
                (true, None) => return self.fail(at, "expected a word", "write `\"face\"`"),
                (false, _) => {
                    let numbers = self.values(vec![(name, span, value)], None)?;
                    answers.extend(numbers.into_iter().map(|(name, number)| (name, Said::Number(number))));
                }
            }
        }
        Some(answers)
    }

    fn values(&mut self, entries: Entries<'_>, known: Option<&[String]>) -> Option<Vec<(String, f64)>> {
        let mut values = Vec::new();
        for (name, span, value) in entries {
            if let Some(known) = known
                && !known.contains(&name)
            {
                let help = did_you_mean(&name, known.iter().map(String::as_str));
                return self.fail(span, format!("there is no `{name}` to give"), help);
            }
            let at = value.span();
            let number = match value.get_ref() {
                DeValue::String(word) if word == "missing" => Some(f64::NAN),
                DeValue::Integer(number) => {
                    i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
                }
                DeValue::Float(number) => number.as_str().parse().ok(),
                _ => None,
            };
            match number {
                Some(number) => values.push((name, number)),
                None => return self.fail(at, "expected a number, or \"missing\"", "write `85.0`"),
            }
        }
        Some(values)
    }

    fn expect(&mut self, value: Spanned<DeValue<'_>>) -> Option<Vec<Expect>> {
        const EXAMPLE: &str = "write `expect = { rule = \"overheat\", state = \"firing\" }`";
        const STATES: [Standing; 3] = [Standing::Quiet, Standing::Pending, Standing::Firing];
        let mut expect = Vec::new();
        for (span, entries) in self.tables(value, EXAMPLE)? {
            let (mut rule, mut state, mut fired, mut why) = (None, None, None, None);
            for (key, key_at, value) in entries {
                let at = value.span();
                match (key.as_str(), value.get_ref()) {
                    ("rule", DeValue::String(name)) => {
                        let rules = self.parts.rules;
                        rule = rules.iter().position(|rule| rule.name.as_str() == &**name);
                        if rule.is_none() {
                            let help = did_you_mean(name, rules.iter().map(|rule| rule.name.as_str()));
                            return self.fail(at, format!("there is no rule `{name}`"), help);
                        }
                    }
                    ("state", DeValue::String(word)) => {
                        state = STATES.into_iter().find(|state| state.as_str() == &**word);
                        if state.is_none() {
                            let help = did_you_mean(word, STATES.map(Standing::as_str));
                            return self.fail(at, format!("a rule is never {word:?}"), help);
                        }
                    }
                    ("why", DeValue::String(words)) => why = Some(words.to_string()),
                    ("fired", DeValue::Integer(count)) => {
                        fired = count.as_str().parse().ok();
                        if fired.is_none() {
                            return self.fail(at, "`fired` is a count", "write `fired = 1`");
                        }
                    }
                    ("rule" | "state" | "why" | "fired", _) => {
                        return self.fail(at, format!("`{key}` cannot be this"), EXAMPLE);
                    }
                    _ => {
                        let help = did_you_mean(&key, ["rule", "state", "why", "fired"]);
                        return self.fail(key_at, format!("nothing is expected by `{key}`"), help);
                    }
                }
            }
            let Some(rule) = rule else { return self.fail(span, "no `rule` is named", EXAMPLE) };
            if state.is_none() && fired.is_none() && why.is_none() {
                return self.fail(span, "nothing is expected of the rule", EXAMPLE);
            }
            expect.push(Expect { rule, state, fired, why, span });
        }
        Some(expect)
    }
}
