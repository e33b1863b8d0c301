//! Plays the `[[test]]` blocks of a flow: given values go through the whole pipeline, and the rules must say what is
//! expected. Time is what the test says, so a test of a day takes a blink.

use std::collections::BTreeMap;

use wire::body::RuleState;
use wire::world::{Simulated, WallMs};

use crate::config::problem::{ConfigErrors, Problems};
use crate::config::quantity::show_duration;
use crate::flow::Flow;
use crate::flow::names::PartAt;
use crate::flow::rule::Standing;
use crate::flow::test::{Expect, Given, GivenPart, TestConfig};
use crate::model::Verdict;
use crate::pipeline::{Pipeline, Product};
use crate::source::queue::Batch;
use crate::why::why;

/// The time at which tests begin: a multiple of every interval that people write, so that summaries are cut alike.
const BEGIN_MS: WallMs = 1_700_006_400_000;
/// The most decisions that a failure shows.
const MOST_SHOWN: usize = 4;

/// Plays all tests of a flow; how many there were. A failure stands where the expectation stands, with what was seen.
pub fn rehearse(flow: &Flow) -> Result<usize, ConfigErrors> {
    let mut problems = flow.problems();
    for test in &flow.tests {
        play(flow, test, &mut problems);
    }
    problems.or(Some(flow.tests.len()))
}

/// A source that is being given.
#[derive(Default)]
struct Giver {
    channels: Vec<String>,
    values: Vec<f64>,
    speaks: bool,
}

/// What a rule was told to say: when, what, why.
type Told = Vec<(WallMs, RuleState, String)>;

fn play(flow: &Flow, test: &TestConfig, problems: &mut Problems) {
    let world = Simulated::new(0);
    let mut pipeline = Pipeline::new(flow);
    let mut out = Vec::new();
    let mut givers = givers(flow, test);
    for (source, giver) in givers.iter().enumerate() {
        if let Err(error) = pipeline.open(source, &giver.channels, &mut out) {
            problems.add(test.span.clone(), format!("{}: {}", test.name, why(&error)));
            return;
        }
    }
    let mut told: Vec<Told> = vec![Told::new(); flow.rules.len()];
    let mut coming = test.given.iter().peekable();
    let mut t_ms = 0;
    while t_ms <= test.after_ms {
        while let Some(given) = coming.next_if(|given| given.at_ms <= t_ms) {
            give(given, &mut givers, &mut pipeline);
        }
        for (source, giver) in givers.iter().enumerate().filter(|(_, giver)| giver.speaks) {
            let batch = Batch { t_ms: vec![BEGIN_MS + t_ms], values: giver.values.clone() };
            pipeline.step(source, &batch, 0, &world, &mut out);
        }
        for product in out.drain(..) {
            let Product::Decision(decision) = product else { continue };
            let rule = flow.rules.iter().position(|rule| rule.name == decision.rule);
            if let Some(rule) = rule {
                told[rule].push((decision.at_ms - BEGIN_MS, decision.state, decision.why));
            }
        }
        t_ms += test.every_ms;
    }
    for expect in &test.expect {
        let (rule, told) = (&pipeline.rules()[expect.rule], &told[expect.rule]);
        if let Some(wrong) = differs(expect, rule.standing(), told) {
            let name = &rule.config().name;
            let after = show_duration(test.after_ms);
            let message = format!("{}: after {after} `rule.{name}` {wrong}", test.name);
            problems.add_with_help(expect.span.clone(), message, seen(told));
        }
    }
}

/// The sources with the channels that they have, or that the test and the rules speak of.
fn givers(flow: &Flow, test: &TestConfig) -> Vec<Giver> {
    let mut givers = Vec::new();
    for (at, source) in flow.sources.iter().enumerate() {
        let mut channels = source.channels.clone().unwrap_or_default();
        if source.channels.is_none() {
            let given = test.given.iter().filter_map(|given| match &given.part {
                GivenPart::Source(source, values) if *source == at => Some(values),
                _ => None,
            });
            let spoken = flow.fields.iter().filter(|field| field.part == PartAt::Source(at));
            let names = given.flatten().map(|(name, _)| name).chain(spoken.map(|field| &field.name));
            let mut seen = BTreeMap::new();
            channels = names.filter(|name| seen.insert((*name).clone(), ()).is_none()).cloned().collect();
        }
        if channels.is_empty() {
            // Nobody speaks of it: one channel that is always missing.
            channels.push("value".to_owned());
        }
        let values = vec![f64::NAN; channels.len()];
        givers.push(Giver { channels, values, speaks: false });
    }
    givers
}

fn give(given: &Given, givers: &mut [Giver], pipeline: &mut Pipeline) {
    match &given.part {
        GivenPart::Silent(source) => givers[*source].speaks = false,
        GivenPart::Source(source, values) => {
            let giver = &mut givers[*source];
            giver.speaks = true;
            for (name, value) in values {
                if let Some(at) = giver.channels.iter().position(|channel| channel == name) {
                    giver.values[at] = *value;
                }
            }
        }
        GivenPart::Feature(feature, values) => pipeline.pretend_feature(*feature, values),
        GivenPart::Model(model, values) => {
            let of = |name: &str| {
                values.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, value)| *value)
            };
            pipeline.pretend(*model, Verdict { score: of("score"), probability: of("p") });
        }
        GivenPart::Network(network, fields) => pipeline.pretend_network(*network, fields),
    }
}

/// In words, what is not as expected.
fn differs(expect: &Expect, standing: Standing, told: &Told) -> Option<String> {
    if let Some(state) = expect.state.filter(|state| *state != standing) {
        return Some(format!("is {}, not {}", standing.as_str(), state.as_str()));
    }
    let fired = told.iter().filter(|(_, state, _)| *state == RuleState::Firing).count();
    if let Some(expected) = expect.fired.filter(|expected| *expected != fired) {
        return Some(format!("has fired {fired} times, not {expected}"));
    }
    let wanted = expect.why.as_ref()?;
    let last = told.last().map_or("nothing", |(_, _, why)| why.as_str());
    (!last.contains(wanted.as_str())).then(|| format!("says {last:?}, which has no {wanted:?} in it"))
}

fn seen(told: &Told) -> String {
    if told.is_empty() {
        return "it decided nothing".to_owned();
    }
    let last = told.len().saturating_sub(MOST_SHOWN);
    let shown = told[last..].iter().map(|(t_ms, state, why)| {
        let state = if *state == RuleState::Firing { "fired" } else { "cleared" };
        format!("it {state} at {}: {why}", show_duration(*t_ms))
    });
    let shown: Vec<String> = shown.collect();
    shown.join("; ")
}
