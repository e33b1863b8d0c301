//! One flow from readings to products, without a journal and threads.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs;
use std::path::Path;

use node::flow::Flow;
use node::pipeline::{Pipeline, Product};
use node::play::{PlayError, play};
use node::source::queue::Batch;
use wire::body::{Episode, Ran, Readings, RuleState};
use wire::hash::Hash;
use wire::record::BODY_MAX_BYTES;
use wire::world::{Clock, Simulated};

fn flow(text: &str) -> Flow {
    Flow::parse(Path::new("flow.toml"), text.into()).unwrap_or_else(|errors| panic!("{errors}"))
}

const PUMP: &str = r#"
[source.pump]
type = "simulated"
seed = 3
[model.health]
type = "subspace"
inputs = ["source.pump"]
learn = 1500
[rule.leak]
inputs = ["source.pump"]
when = "pump.pressure_bar < 2.0"
for = "2s"
[rule.anomaly]
inputs = ["model.health"]
when = "health.score > 1"
for = "2s"
severity = "critical"
"#;

/// Everything that comes of some readings of the simulated station.
fn played(text: &str, readings: u64) -> Vec<Product> {
    let mut products = Vec::new();
    play(&flow(text), readings, |_, _, new| products.extend_from_slice(new)).unwrap();
    products
}

#[test]
fn a_night_at_the_pump_station() {
    let products = played(PUMP, 6_000);
    let count = |matches: fn(&Product) -> bool| products.iter().filter(|product| matches(product)).count();
    assert_eq!(count(|product| matches!(product, Product::Readings(_))), 6_000_usize.div_ceil(256));
    assert_eq!(count(|product| matches!(product, Product::Summary(_))), 1_200);
    let begins: Vec<_> = products
        .iter()
        .filter_map(|product| match product {
            Product::Inference(inference) if inference.state == Episode::Begins => Some(inference),
            _ => None,
        })
        .collect();
    assert!(!begins.is_empty(), "the station breaks several times in twenty minutes");
    for inference in &begins {
        let shares: f64 = inference.channels.iter().map(|share| share.share).sum();
        assert!((shares - 1.0).abs() < 0.01, "{inference:?}");
        assert!(inference.score >= 1.0 && inference.model.digest.is_some());
    }
    let fired = products.iter().find_map(|product| match product {
        Product::Decision(decision) if decision.rule.as_str() == "anomaly" => Some(decision),
        _ => None,
    });
    let fired = fired.expect("the rule on the model fires");
    assert_eq!((fired.state, fired.at_ms - fired.since_ms >= 2_000), (RuleState::Firing, true));
    assert!(fired.why.starts_with("health.score was "), "{}", fired.why);
    assert_eq!(fired.confidence, None, "nothing was calibrated");
}

#[test]
fn the_same_readings_give_the_same_products() {
    let bytes = |products: &[Product]| {
        products.iter().map(|product| product.draft().body.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&played(PUMP, 4_000)), bytes(&played(PUMP, 4_000)));
}

/// A source of channels `a` and `b` with a rule on `a`, opened.
fn small(rule: &str) -> (Pipeline, Vec<Product>) {
    let text = format!(
        "[source.s]\ntype = \"http\"\nchannels = [\"a\", \"b\"]\n[rule.r]\ninputs = [\"source.s\"]\nwhen = \"{rule}\"\n"
    );
    let mut pipeline = Pipeline::new(&flow(&text));
    let mut out = Vec::new();
    pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
    (pipeline, out)
}

#[test]
fn an_auditor_can_compute_the_input_digest() {
    let (mut pipeline, mut out) = small("s.a > 8");
    let world = Simulated::new(0);
    let batch = Batch { t_ms: vec![5, 6], values: vec![1.0, f64::NAN, 9.5, 2.0] };
    pipeline.step(0, &batch, 0, &world, &mut out);
    let [Product::Decision(decision)] = &out[..] else { panic!("{out:?}") };
    let input = r#"{"source":"s","channels":["a","b"],"t_ms":[6],"values":[[9.5],[2.0]]}"#;
    assert_eq!(decision.input, Hash::of(input.as_bytes()));
    assert_eq!(decision.why, "a was 9.5, above 8");
}

#[test]
fn latency_is_from_the_arrival() {
    let (mut pipeline, mut out) = small("s.a > 8");
    let world = Simulated::new(0);
    let arrived_ns = world.mono_ns();
    world.advance_ms(7);
    pipeline.step(0, &Batch { t_ms: vec![5], values: vec![9.0, 0.0] }, arrived_ns, &world, &mut out);
    let [Product::Decision(decision)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(decision.latency_us, 7_000);
}

#[test]
fn late_readings_are_refused_and_a_clock_set_back_is_not_the_end() {
    let (mut pipeline, mut out) = small("s.a > 8");
    let world = Simulated::new(0);
    let hour_ms = 3_600_000;
    for t_ms in [hour_ms, hour_ms - 30_000, hour_ms + 1, 0, 1_000] {
        pipeline.step(0, &Batch { t_ms: vec![t_ms], values: vec![1.0, 1.0] }, 0, &world, &mut out);
    }
    assert_eq!(pipeline.counts(0), (4, 1));
    pipeline.flush(&mut out);
    let blocks: Vec<_> = out
        .iter()
        .filter_map(|product| match product {
            Product::Readings(Readings { t_ms, .. }) => Some(t_ms.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(blocks, [vec![hour_ms, hour_ms + 1], vec![0, 1_000]], "a block does not span the step");
}

#[test]
fn what_waits_is_given_by_the_clock() {
    let (mut pipeline, mut out) = small("s.a > 8");
    let world = Simulated::new(0);
    pipeline.step(0, &Batch { t_ms: vec![5], values: vec![1.0, 1.0] }, world.mono_ns(), &world, &mut out);
    pipeline.tick(world.mono_ns(), &mut out);
    assert!(out.is_empty());
    world.advance_ms(1_000);
    pipeline.tick(world.mono_ns(), &mut out);
    assert!(matches!(out[..], [Product::Readings(_)]), "{out:?}");
    world.advance_ms(1_001);
    pipeline.tick(world.mono_ns(), &mut out);
    assert!(matches!(out[..], [Product::Readings(_), Product::Summary(_)]), "{out:?}");
}

#[test]
fn parts_that_do_not_fit_fail_alone() {
    let text = "[source.s]\ntype = \"http\"\n[model.m]\ntype = \"subspace\"\ninputs = [\"source.s\"]\nlag = 200\n\
                learn = 400\n[rule.known]\ninputs = [\"source.s\"]\nwhen = \"s.a > 1\"\n[rule.unknown]\n\
                inputs = [\"source.s\"]\nwhen = \"s.x > 1\"\n";
    let mut pipeline = Pipeline::new(&flow(text));
    let mut out = Vec::new();
    pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
    let failed: Vec<_> = out
        .drain(..)
        .map(|product| match product {
            Product::Part(change) => (change.part, change.state),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [("model.m", "failed"), ("rule.unknown", "failed")];
    assert_eq!(failed, expected.map(|(part, state)| (part.to_owned(), state.to_owned())));
    pipeline.step(0, &Batch { t_ms: vec![5], values: vec![2.0, 2.0] }, 0, &Simulated::new(0), &mut out);
    assert!(matches!(&out[..], [Product::Decision(decision)] if decision.rule.as_str() == "known"));
}

/// The widest source there can be, with the longest names and numbers.
#[test]
fn no_record_outgrows_the_journal() {
    let text = "[source.s]\ntype = \"http\"\n";
    let mut pipeline = Pipeline::new(&flow(text));
    let channels: Vec<String> = (0..1_024).map(|n| format!("{n:044}")).collect();
    let mut out = Vec::new();
    pipeline.open(0, &channels, &mut out).unwrap();
    let values = vec![-2.225_073_858_507_201e-308; 1_024 * 20];
    let batch = Batch { t_ms: (0..20).map(|n| 253_402_300_000_000 + n * 100).collect(), values };
    pipeline.step(0, &batch, 0, &Simulated::new(0), &mut out);
    pipeline.flush(&mut out);
    assert!(out.len() >= 5);
    for product in &out {
        let bytes = product.draft().body.get().len();
        assert!(bytes <= BODY_MAX_BYTES, "{bytes}");
    }
    let long: Vec<String> = (0..1_024).map(|n| format!("{n:045}")).collect();
    assert!(pipeline.open(0, &long, &mut out).unwrap_err().to_string().contains("49152"));
}

#[test]
fn files_are_merged_by_time() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), "t,x\n1,1\n3,1\n5,1\n").unwrap();
    fs::write(dir.path().join("b.csv"), "t,x,anomaly\n2,1,0\n3,1,1\n4,1,0\n").unwrap();
    fs::write(
        dir.path().join("flow.toml"),
        "[source.b]\ntype = \"replay\"\nfile = \"b.csv\"\ntruth = \"anomaly\"\n[source.a]\ntype = \"replay\"\nfile = \"a.csv\"\n",
    )
    .unwrap();
    let flow = Flow::load(&dir.path().join("flow.toml")).unwrap();
    let mut order = Vec::new();
    let report = play(&flow, 0, |played, _, _| {
        order.extend(played.map(|played| (played.t_ms / 1_000, played.source, played.truth)));
    })
    .unwrap();
    let (no, yes) = (Some(false), Some(true));
    assert_eq!(order, [(1, 1, None), (2, 0, no), (3, 0, yes), (3, 1, None), (4, 0, no), (5, 1, None)]);
    assert_eq!(report.sources.iter().map(|(_, readings, _)| *readings).sum::<u64>(), 6);
    assert!(matches!(
        play(&self::flow("[source.h]\ntype = \"http\"\n"), 0, |_, _, _| {}),
        Err(PlayError::NothingToPlay)
    ));
}

/// The decisions, as text, of a flow whose sources are given readings: (source, seconds, values).
fn decided(text: &str, channels: &[&[&str]], readings: &[(usize, i64, &[f64])]) -> Vec<String> {
    let mut pipeline = Pipeline::new(&flow(text));
    let mut out = Vec::new();
    for (source, channels) in channels.iter().enumerate() {
        let channels: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
        pipeline.open(source, &channels, &mut out).unwrap();
    }
    let world = Simulated::new(0);
    for (source, t_s, values) in readings {
        let batch = Batch { t_ms: vec![t_s * 1_000], values: values.to_vec() };
        pipeline.step(*source, &batch, 0, &world, &mut out);
    }
    let told = out.iter().filter_map(|product| match product {
        Product::Decision(it) => {
            let state = if it.state == RuleState::Firing { "fires" } else { "clears" };
            Some(format!("{} {} {state}: {}", it.at_ms / 1_000, it.rule, it.why))
        }
        _ => None,
    });
    told.collect()
}

const TWO: &str = "[source.a]\ntype = \"http\"\n[source.b]\ntype = \"http\"\n";

#[test]
fn a_rule_over_two_sources_and_a_rule_over_rules() {
    let text = format!(
        "{TWO}[rule.both]\ninputs = [\"rule.hot\", \"source.b\"]\nwhen = \"hot.firing && b.y > 1\"\n\
         [rule.hot]\ninputs = [\"source.a\"]\nwhen = \"a.x > 8\"\nfor = \"2s\"\n\
         [rule.apart]\ninputs = [\"source.a\", \"source.b\"]\nwhen = \"a.x - b.y > 7\"\n"
    );
    let told = decided(
        &text,
        &[&["x"], &["y"]],
        &[
            (0, 0, &[9.0]),
            (1, 0, &[2.0]),
            (0, 1, &[9.0]),
            (0, 2, &[9.0]),
            (1, 3, &[3.0]),
            (0, 3, &[5.0]),
            // The other source fell silent for longer than a minute: what it said does not count.
            (1, 100, &[-9.0]),
            (0, 101, &[5.0]),
        ],
    );
    assert_eq!(
        told,
        [
            "2 hot fires: x was 9, above 8, for 2 s",
            "2 both fires: hot was firing, and b.y was 2, above 1",
            "3 hot clears: x was 5, not above 8",
            "3 both clears: hot was not firing",
            "101 apart fires: a.x - b.y was 14, above 7",
        ]
    );
}

#[test]
fn clocks_that_are_a_little_apart_break_no_wait() {
    let text = format!(
        "{TWO}[rule.both]\ninputs = [\"source.a\", \"source.b\"]\nwhen = \"a.x > 1 && b.y > 1\"\nfor = \"3s\"\n"
    );
    let readings: [(usize, i64, &[f64]); 5] =
        [(0, 0, &[2.0]), (1, 0, &[2.0]), (0, 2, &[2.0]), (1, 1, &[2.0]), (0, 3, &[2.0])];
    assert_eq!(
        decided(&text, &[&["x"], &["y"]], &readings),
        ["3 both fires: a.x was 2, above 1, and b.y was 2, above 1, for 3 s"]
    );
}

#[test]
fn hysteresis_inhibition_and_dedup() {
    let text = "[source.a]\ntype = \"http\"\n[rule.low]\ninputs = [\"source.a\"]\nwhen = \"a.x > 8\"\n\
                clear_when = \"a.x < 4\"\ndedup = \"10s\"\ninhibit_by = [\"rule.high\"]\n\
                [rule.high]\ninputs = [\"source.a\"]\nwhen = \"a.x > 20\"\n";
    let values = [9.0, 6.0, 3.0, 9.0, 9.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 3.0, 30.0, 30.0, 9.0];
    let readings: Vec<(usize, i64, Vec<f64>)> =
        values.iter().enumerate().map(|(at, value)| (0, at as i64, vec![*value])).collect();
    let readings: Vec<(usize, i64, &[f64])> =
        readings.iter().map(|(source, t_s, values)| (*source, *t_s, values.as_slice())).collect();
    assert_eq!(
        decided(text, &[&["x"]], &readings),
        [
            "0 low fires: x was 9, above 8",
            "2 low clears: x was 3, below 4",
            // It fired at 3 and cleared at 5, untold; what began at 6 lasts, and is told when the 10 s are over.
            "10 low fires: x was 9, above 8, for 4 s",
            "12 low clears: x was 3, below 4",
            "13 high fires: x was 30, above 20",
            "15 high clears: x was 9, not above 20",
        ]
    );
}

#[test]
fn the_floor_answers_while_the_model_cannot() {
    let text = "[source.a]\ntype = \"http\"\n[model.m]\ntype = \"subspace\"\ninputs = [\"source.a\"]\nlag = 1\nlearn = 40\n\
                [rule.odd]\ninputs = [\"source.a\", \"model.m\"]\nwhen = \"m.score > 1000\"\nfloor = \"a.x > 20\"\n\
                labels = { team = \"night\" }\n";
    let mut pipeline = Pipeline::new(&flow(text));
    let mut out = Vec::new();
    pipeline.open(0, &["x".into(), "y".into()], &mut out).unwrap();
    let world = Simulated::new(0);
    for at in 0..60_i64 {
        let x = if at == 10 { 30.0 } else { (at as f64).sin() };
        let batch = Batch { t_ms: vec![at * 1_000], values: vec![x, (at as f64 * 1.7).sin()] };
        pipeline.step(0, &batch, 0, &world, &mut out);
    }
    let decisions: Vec<_> = out
        .iter()
        .filter_map(|product| match product {
            Product::Decision(decision) => Some(decision),
            _ => None,
        })
        .collect();
    let [fired, cleared] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((fired.ran, fired.model.is_none()), (Ran::Rule, true));
    assert_eq!(
        fired.why,
        "m had nothing to say, so the floor answers: a.x was 30, above 20".replace("a.x", "x")
    );
    assert_eq!((cleared.at_ms, fired.labels["team"].as_str()), (11_000, "night"));
}

#[test]
fn a_model_outlives_another_setting_of_its_source() {
    let text = "[source.s]\ntype = \"http\"\n[model.m]\ntype = \"subspace\"\ninputs = [\"source.s\"]\nlag = 1\nlearn = 40\n";
    let (before, after) = (
        flow(text),
        flow(&text.replace("\"http\"\n", "\"http\"\nsummary = \"2s\"\n[source.t]\ntype = \"http\"\n")),
    );
    let channels = ["a".to_owned(), "b".to_owned()];
    let mut pipeline = Pipeline::new(&before);
    let mut out = Vec::new();
    pipeline.open(0, &channels, &mut out).unwrap();
    let world = Simulated::new(0);
    for at in 0..60_i64 {
        let wave = (at as f64 * 1.3).sin();
        let batch = Batch { t_ms: vec![at * 1_000], values: vec![wave, 2.0 * wave] };
        pipeline.step(0, &batch, 0, &world, &mut out);
    }
    out.clear();
    let (mut pipeline, replaced) = pipeline.replaced(&before, &after, |_| None, &mut out);
    assert_eq!((replaced.sources, replaced.same), (vec![None, None], vec!["model.m".to_owned()]));
    assert_eq!((replaced.new, replaced.gone), (vec!["source.s".to_owned(), "source.t".to_owned()], vec![]));
    assert!(out.iter().any(|product| matches!(product, Product::Summary(_))), "what was going on is told");
    assert_eq!(pipeline.channels(0), None);
    pipeline.open(0, &channels, &mut out).unwrap();
    assert!(pipeline.models()[0].ready());
    assert_eq!(pipeline.models()[0].samples(), 60);
}
