//! Networks in a flow, from readings to decisions, with a small network that this test writes.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::path::Path;

use net::specimen::{Size, constant, model, node, value};
use node::flow::Flow;
use node::pipeline::{Pipeline, Product};
use node::source::queue::Batch;
use wire::body::{Answer, Said};
use wire::hash::Hash;
use wire::world::Simulated;

const FLOW: &str = r#"
[source.s]
type = "http"
channels = ["a", "b"]

[model.net]
type = "network"
inputs = ["source.s"]
file = "net.onnx"
window = 2
hop = 2

[[model.net.recipe.answers]]
as = "classes"
output = "y"
labels = ["falling", "rising"]
activation = "softmax"

[rule.rises]
inputs = ["model.net"]
when = 'net.label == "rising" && net.p > 0.9'
"#;

/// Scores of `falling` and `rising`: the first channel of the older reading against the newer one.
fn network() -> Vec<u8> {
    let parts = [
        node("MatMul", &["x", "w"], &["y"], &[]),
        constant("w", &[4, 2], &[1.0, -1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    let port = |name, wide| value(name, 1, &[Size::Called("n"), Size::Is(wide)]);
    model(&parts, &[port("x", 4)], &[port("y", 2)])
}

fn flow(folder: &Path, text: &str) -> Flow {
    Flow::parse(&folder.join("flow.toml"), text.into()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn opened(folder: &Path) -> (Pipeline, Vec<Product>) {
    let mut pipeline = Pipeline::new(&flow(folder, FLOW));
    let mut out = Vec::new();
    pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
    (pipeline, out)
}

/// One reading a second, of these values of the first channel; each `step` begins where the last one ended.
fn give(pipeline: &mut Pipeline, from_s: i64, values: &[f64], out: &mut Vec<Product>) {
    for (second, value) in (from_s..).zip(values) {
        let batch = Batch { t_ms: vec![second * 1000], values: vec![*value, 0.5] };
        pipeline.step(0, &batch, 0, &Simulated::new(0), out);
    }
}

fn answers(products: &[Product]) -> Vec<&Answer> {
    let answer = |product: &'_ Product| matches!(product, Product::Answer(_));
    products
        .iter()
        .filter(|product| answer(product))
        .map(|product| match product {
            Product::Answer(answer) => answer,
            _ => unreachable!("they are answers"),
        })
        .collect()
}

#[test]
fn what_a_network_says_is_on_the_board_and_in_records() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("net.onnx"), network()).unwrap();
    let (mut pipeline, mut out) = opened(folder.path());
    let [Product::Part(ready)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&*ready.part, &*ready.state), ("model.net", "ready"));
    assert_eq!(ready.reason, "network tract window=2 hop=2");
    // Down, down again, up, up again: a record when the word changes, a decision when the rule does.
    give(&mut pipeline, 0, &[9.0, 5.0, 4.0, 1.0, 5.0, 9.0, 9.5, 14.0], &mut out);
    let told: Vec<_> =
        answers(&out).iter().map(|answer| (answer.at_ms, answer.fields["label"].clone())).collect();
    let word = |word: &str| Said::Word(word.to_owned());
    assert_eq!(told, [(1000, word("falling")), (5000, word("rising"))]);
    let model = &answers(&out)[1].model;
    assert_eq!(model.digest, Some(Hash::of(&network())));
    let decisions: Vec<_> = out
        .iter()
        .filter_map(|product| match product {
            Product::Decision(decision) => Some(decision),
            _ => None,
        })
        .collect();
    let [decision] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((decision.at_ms, decision.model.as_ref()), (5000, Some(model)));
    assert_eq!(decision.input, answers(&out)[1].input, "both were made from the same window");
    let input = r#"{"source":"s","channels":["a","b"],"t_ms":[4000,5000],"values":[[5.0,9.0],[0.5,0.5]]}"#;
    assert_eq!(decision.input, Hash::of(input.as_bytes()));
}

#[test]
fn a_network_that_cannot_be_loaded_costs_itself_alone_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("net.onnx"), b"half a download").unwrap();
    let (mut pipeline, mut out) = opened(folder.path());
    let [Product::Part(failed)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&*failed.state, failed.reason.contains("no ONNX file")), ("failed", true), "{failed:?}");
    std::fs::write(folder.path().join("net.onnx"), network()).unwrap();
    let world = Simulated::new(0);
    world.advance_ms(1_500);
    out.clear();
    for (second, value) in [1.0, 2.0, 8.0].iter().enumerate() {
        let batch = Batch { t_ms: vec![second as i64 * 1000], values: vec![*value, 0.5] };
        pipeline.step(0, &batch, 0, &world, &mut out);
    }
    assert!(matches!(&out[0], Product::Part(part) if part.state == "ready"), "{out:?}");
    assert_eq!(answers(&out).len(), 1);
}

#[test]
fn a_flow_says_what_is_wrong_with_a_network() {
    for (change, to, why) in [
        ("label ==", "lable ==", "`model.net` gives no `lable`"),
        ("window = 2", "window = 0", "`window` must be from 1"),
        ("hop = 2", "hop = 0", "`hop` must be at least 1"),
        ("file = \"net.onnx\"", "", "`model.net` has no network"),
        ("activation = \"softmax\"", "activation = \"softmux\"", "softmux"),
        ("inputs = [\"source.s\"]\nfile", "inputs = [\"source.t\"]\nfile", "there is no `source.t`"),
        ("net.p > 0.9", "net.p > \"high\"", "number"),
    ] {
        let text = FLOW.replace(change, to);
        assert_ne!(text, FLOW, "{change}");
        let error = Flow::parse(Path::new("flow.toml"), text.into()).unwrap_err().to_string();
        assert!(error.contains(why), "{change}: {error}");
    }
}

#[test]
fn a_network_that_is_left_out_says_nothing_and_a_floor_answers_for_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("net.onnx"), network()).unwrap();
    let text = FLOW
        .replace("inputs = [\"model.net\"]", "inputs = [\"model.net\", \"source.s\"]\nfloor = \"s.a > 8\"");
    let flow = flow(folder.path(), &text);
    let leave: [fn(&mut Pipeline); 2] =
        [|pipeline| pipeline.leave_out_networks("why"), |pipeline| pipeline.leave_out_network(0, "why")];
    for leave in leave {
        let (mut pipeline, mut out) = (Pipeline::new(&flow), Vec::new());
        leave(&mut pipeline);
        pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
        let [Product::Part(left_out)] = &out[..] else { panic!("{out:?}") };
        assert_eq!((&*left_out.part, &*left_out.state, &*left_out.reason), ("model.net", "left_out", "why"));
        give(&mut pipeline, 0, &[1.0, 9.0], &mut out);
        assert!(answers(&out).is_empty());
        let floor = |product: &Product| matches!(product, Product::Decision(decision) if decision.ran == wire::body::Ran::Rule);
        assert!(out.iter().any(floor), "{out:?}");
        // Another flow with the same network is no way around it.
        let (mut pipeline, _) = pipeline.replaced(&flow, &flow, |_| None, &mut out);
        give(&mut pipeline, 2, &[1.0, 9.0, 9.5, 14.0], &mut out);
        assert!(answers(&out).is_empty());
    }
}
