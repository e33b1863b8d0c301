//! Features and the health of sensors inside a flow: what is refused, what is told, and what depends on them.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::path::Path;

use node::flow::Flow;
use node::pipeline::{Pipeline, Product};
use node::source::queue::Batch;
use wire::body::{RuleState, Summary};
use wire::world::Simulated;

fn flow(text: &str) -> Flow {
    Flow::parse(Path::new("flow.toml"), text.into()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is wrong with a flow, in words.
fn problems(text: &str) -> String {
    match Flow::parse(Path::new("flow.toml"), text.into()) {
        Ok(_) => panic!("nothing is wrong with {text}"),
        Err(errors) => format!("{errors:?} {errors}"),
    }
}

/// A number from −1 to 1 that looks like chance.
fn noise(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Plays readings of the first source, one each `step_ms`, and gives all that came of them.
fn play(flow: &Flow, channels: &[&str], step_ms: i64, rows: impl Iterator<Item = Vec<f64>>) -> Vec<Product> {
    let world = Simulated::new(0);
    let mut pipeline = Pipeline::new(flow);
    let mut out = Vec::new();
    let channels: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
    pipeline.open(0, &channels, &mut out).unwrap();
    for (i, values) in rows.enumerate() {
        let batch = Batch { t_ms: vec![1_000_000 + i as i64 * step_ms], values };
        pipeline.step(0, &batch, 0, &world, &mut out);
    }
    pipeline.flush(&mut out);
    out
}

fn told(products: &[Product], part: &str) -> Vec<(String, String)> {
    let of = |product: &Product| match product {
        Product::Part(change) if change.part == part => Some((change.state.clone(), change.reason.clone())),
        _ => None,
    };
    products.iter().filter_map(of).collect()
}

fn decisions(products: &[Product], rule: &str) -> Vec<(RuleState, i64)> {
    let of = |product: &Product| match product {
        Product::Decision(decision) if decision.rule.as_str() == rule => {
            Some((decision.state, (decision.at_ms - 1_000_000) / 1000))
        }
        _ => None,
    };
    products.iter().filter_map(of).collect()
}

/// Three channels of a pump that move together, and the pressure sticks from reading 1500 to 1800.
fn pump(i: u64, stuck: f64) -> Vec<f64> {
    let t = i as f64;
    let load = (t * 0.03).sin() + 0.4 * (t * 0.0071).cos();
    let pressure = if (1500..1800).contains(&i) { stuck } else { 4.0 + 0.8 * load + 0.05 * noise(3 * i) };
    vec![pressure, 60.0 + 12.0 * load + 0.5 * noise(3 * i + 1), 18.0 + 3.0 * load + 0.15 * noise(3 * i + 2)]
}

const PUMP: &str = r#"
[source.pump]
type = "http"
channels = ["pressure", "flow", "current"]
summary = "1m"
HEALTH
[model.on]
type = "subspace"
inputs = ["source.pump"]
[model.off]
type = "subspace"
inputs = ["source.pump"]
without = "skip"
[rule.high]
inputs = ["source.pump"]
when = "pump.pressure > 8.5"
for = "5s"
[rule.unusual]
inputs = ["model.on"]
when = "on.score > 1.0"
for = "60s"
"#;

#[test]
fn a_stuck_sensor_is_isolated_told_counted_and_comes_back() {
    let flow = flow(&PUMP.replace("HEALTH", ""));
    let products = play(&flow, &["pressure", "flow", "current"], 1000, (0..2400).map(|i| pump(i, 9.0)));
    let pressure = told(&products, "source.pump.pressure");
    let states: Vec<&str> = pressure.iter().map(|(state, _)| state.as_str()).collect();
    assert!(states.ends_with(&["faulty", "well"]), "{pressure:?}");
    assert!(
        pressure.iter().any(|(_, reason)| reason.starts_with("stuck: it has been 9 for ")),
        "{pressure:?}"
    );
    for other in ["flow", "current"] {
        let told = told(&products, &format!("source.pump.{other}"));
        assert!(told.iter().all(|(state, _)| state != "faulty"), "{other}: {told:?}");
    }
    let summaries: Vec<&Summary> = products
        .iter()
        .filter_map(|product| match product {
            Product::Summary(summary) => Some(summary),
            _ => None,
        })
        .collect();
    let isolated: u64 = summaries.iter().map(|summary| summary.channels[0].isolated).sum();
    let missing: u64 = summaries.iter().map(|summary| summary.channels[0].missing).sum();
    assert!((270..320).contains(&isolated) && missing == isolated, "{isolated} {missing}");
    assert!(summaries.iter().all(|summary| summary.channels[1].isolated == 0));
    // Raw records keep what the sensor said.
    let raw: usize = products
        .iter()
        .filter_map(|product| match product {
            Product::Readings(readings) => Some(readings.values[0].0.iter().filter(|x| **x == 9.0).count()),
            _ => None,
        })
        .sum();
    assert_eq!(raw, 300);
    // The rule fired on the first stuck values, as it should, and was not fed by them for five minutes.
    assert!(decisions(&products, "high").len() <= 2, "{:?}", decisions(&products, "high"));
    // Without the channel the plant is as it was: what is unusual is over soon after the isolation.
    let unusual = decisions(&products, "unusual");
    assert!(unusual.iter().all(|(_, at_s)| *at_s < 1650 || *at_s > 1800), "{unusual:?}");
}

#[test]
fn a_model_without_its_channel_judges_the_others_or_says_nothing() {
    let flow = flow(&PUMP.replace("HEALTH", ""));
    let world = Simulated::new(0);
    let mut pipeline = Pipeline::new(&flow);
    let mut out = Vec::new();
    let channels = ["pressure", "flow", "current"].map(str::to_owned);
    pipeline.open(0, &channels, &mut out).unwrap();
    let mut silent = (0, 0);
    for i in 0..2400u64 {
        let batch = Batch { t_ms: vec![i as i64 * 1000], values: pump(i, 4.0) };
        pipeline.step(0, &batch, 0, &world, &mut out);
        if (1600..1800).contains(&i) {
            silent.0 += u64::from(pipeline.verdict(0).score.is_nan());
            silent.1 += u64::from(pipeline.verdict(1).score.is_nan());
        }
    }
    assert_eq!(silent, (0, 200));
    assert!(!pipeline.verdict(1).score.is_nan(), "it speaks again");
}

#[test]
fn health_can_be_turned_off_and_set() {
    let off = flow(&PUMP.replace("HEALTH", "health = false"));
    let products = play(&off, &["pressure", "flow", "current"], 1000, (0..2400).map(|i| pump(i, 9.0)));
    assert!(told(&products, "source.pump.pressure").is_empty());

    let set = "[source.pump.health]\nrange = { pressure = [0, 8] }\nwatch = [\"range\"]\nrecover = 5";
    let set = flow(&PUMP.replace("HEALTH", set));
    let products = play(&set, &["pressure", "flow", "current"], 1000, (0..2400).map(|i| pump(i, 9.0)));
    let pressure = told(&products, "source.pump.pressure");
    assert_eq!(pressure[0], ("faulty".into(), "range: it was 9, outside 0 to 8".into()));
    assert_eq!((pressure.len(), pressure[1].0.as_str()), (2, "well"));
    assert!(decisions(&products, "high").is_empty(), "what cannot be is not judged");
    let keys: Vec<&str> = set.effective.iter().map(|value| value.key.as_str()).collect();
    assert!(keys.contains(&"source.pump.health.recover") && keys.contains(&"source.pump.health.learn"));
}

#[test]
fn rules_and_models_take_features() {
    let flow = flow(
        r#"
[source.acc]
type = "http"
channels = ["x", "y"]
summary = "10s"
[feature.vib]
type = "spectrum"
inputs = ["source.acc"]
channel = "x"
window = "1s"
hop = "0.5s"
bands = [[0, 20], [20, 50]]
[feature.shape]
type = "statistics"
inputs = ["source.acc"]
channel = "x"
rate_hz = 100
[model.odd]
type = "subspace"
inputs = ["feature.shape"]
lag = 2
learn = 100
[rule.shakes]
inputs = ["feature.vib", "source.acc"]
when = "vib.band_2 > 0.4 && acc.y < 5.0"
for = "2s"
"#,
    );
    let row = |i: u64| {
        let t = i as f64 / 100.0;
        let fault =
            if (12_000..13_000).contains(&i) { (std::f64::consts::TAU * 30.0 * t).sin() } else { 0.0 };
        vec![(std::f64::consts::TAU * 5.0 * t).sin() + fault + 0.1 * noise(i), 1.0 + 0.1 * noise(i + 7)]
    };
    let products = play(&flow, &["x", "y"], 10, (0..16_000).map(row));
    assert_eq!(told(&products, "feature.vib").len(), 2, "it measures, then it is ready");
    assert_eq!(told(&products, "feature.vib")[1].1, "100.000 samples a second were measured");
    assert_eq!(told(&products, "feature.shape")[0].0, "ready");
    let states: Vec<&str> = vec!["learning", "ready"];
    assert_eq!(
        told(&products, "model.odd").iter().map(|(state, _)| state.as_str()).collect::<Vec<_>>(),
        states
    );
    let shakes = decisions(&products, "shakes");
    assert_eq!(shakes.len(), 2, "{shakes:?}");
    assert!((122..=125).contains(&shakes[0].1) && (130..=133).contains(&shakes[1].1), "{shakes:?}");
    let inferences: Vec<_> = products
        .iter()
        .filter_map(|product| match product {
            Product::Inference(inference) => Some(inference),
            _ => None,
        })
        .collect();
    assert!(
        inferences.iter().any(|inference| {
            (120..125).contains(&((inference.at_ms - 1_000_000) / 1000))
                && inference.model.name.as_str() == "odd"
        }),
        "{inferences:?}"
    );
}

#[test]
fn what_cannot_be_is_refused_with_help() {
    let source = "[source.acc]\ntype = \"http\"\nchannels = [\"x\", \"y\"]\n";
    let feature = |rest: &str| format!("{source}[feature.vib]\ninputs = [\"source.acc\"]\n{rest}\n");
    for (text, expected) in [
        (feature("type = \"statistic\"\nchannel = \"x\""), "there is no feature of type"),
        (feature("type = \"statistics\""), "does not say which channel"),
        (feature("type = \"statistics\"\nchannel = \"z\""), "has no channel `z`"),
        (feature("type = \"envelope\"\nchannel = \"x\""), "has no `band`"),
        (feature("type = \"spectrum\"\nchannel = \"x\"\nrate_hz = 100\nbands = [[0, 80]]"), "at most 50 Hz"),
        (feature("type = \"heart\"\nchannel = \"x\"\nrate_hz = 10"), "100 to 2000 samples a second"),
        (feature("type = \"statistics\"\nchannel = \"x\"\nwindov = \"1s\""), "has no setting `windov`"),
        (
            feature("type = \"statistics\"\nchannel = \"x\"")
                + "[rule.r]\ninputs = [\"feature.vib\"]\nwhen = \"vib.rmz > 1\"",
            "gives no `rmz`",
        ),
        (
            format!(
                "{source}[feature.acc]\ntype = \"statistics\"\ninputs = [\"source.acc\"]\nchannel = \"x\""
            ),
            "there is a source `acc` already",
        ),
        (format!("{source}[source.acc.health]\nisolate = [\"stuk\"]"), "there is no fault"),
        (format!("{source}[source.acc.health]\nrange = {{ x = [5, 1] }}"), "goes up"),
        (format!("{source}[source.acc.health]\nlearn = 3"), "50 to"),
        (format!("{source}health = true"), "must be a table"),
        (
            format!("{source}[model.m]\ntype = \"subspace\"\ninputs = [\"source.acc\"]\nwithout = \"stop\""),
            "there is no \"stop\"",
        ),
    ] {
        let said = problems(&text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
}
