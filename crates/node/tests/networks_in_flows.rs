//! Networks in a flow, from readings to decisions, with a small network that this test writes.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::path::Path;

use net::specimen::{Size, constant, model, node, value};
use node::flow::Flow;
use node::pipeline::{Pipeline, Product};
use node::source::queue::Batch;
use proptest::prelude::*;
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
fn a_network_that_does_not_fit_its_source_is_refused_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |bytes: &[u8]| std::fs::write(folder.path().join("net.onnx"), bytes).unwrap();
    let checked = |text: &str| flow(folder.path(), text).check_files();
    // Until there is a whole file, nothing is known of it.
    assert_eq!(checked(FLOW), Ok(()));
    write(b"half a download");
    assert_eq!(checked(FLOW), Ok(()));
    write(&network());
    assert_eq!(checked(FLOW), Ok(()));
    let refused = |text: &str| {
        let found = checked(text).unwrap_err();
        let [problem] = &found.0[..] else { panic!("{found}") };
        assert_eq!(&problem.text[problem.span.clone()], "\"source.s\"", "{found}");
        (problem.message.clone(), problem.help.clone().unwrap())
    };
    let pair = |message: &str, help: &str| (message.to_owned(), help.to_owned());
    assert_eq!(
        refused(&FLOW.replace("window = 2", "window = 3")),
        pair(
            "`model.net`: its input x float32[n×4] takes 4 numbers, and its source gives windows of 6 (3 readings of 2 channels)",
            "write `window = 2`",
        )
    );
    // It looks at pictures, which only its file says.
    let looks = model(
        &[
            node("Flatten", &["image"], &["flat"], &[]),
            node("MatMul", &["flat", "w"], &["y"], &[]),
            constant("w", &[192, 2], &[0.5; 384]),
        ],
        &[value("image", 1, &[Size::Is(1), Size::Is(3), Size::Is(8), Size::Is(8)])],
        &[value("y", 1, &[Size::Is(1), Size::Is(2)])],
    );
    write(&looks);
    assert_eq!(
        refused(FLOW),
        pair(
            "`model.net`: it looks at pictures (image float32[1×3×8×8]), and its source gives numbers",
            "give it a source of type \"images\", \"rtsp\" or \"camera\"",
        )
    );
    // And a node that loads it says the same.
    let (_, out) = opened(folder.path());
    let [Product::Part(failed)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(failed.state, "failed");
    assert!(
        failed.reason.ends_with(
            "its source gives numbers: give it a source of type \"images\", \"rtsp\" or \"camera\""
        ),
        "{failed:?}"
    );
    let pictures = FLOW
        .replace("type = \"http\"\nchannels = [\"a\", \"b\"]", "type = \"images\"\nfolder = \"uploads\"")
        .replace("window = 2\nhop = 2", "");
    assert_eq!(checked(&pictures), Ok(()));
    // One that reads the tokens of a text, on a source of pictures.
    let reads = model(
        &[node("Add", &["input_ids", "attention_mask"], &["y"], &[])],
        &[
            value("input_ids", 7, &[Size::Is(1), Size::Called("length")]),
            value("attention_mask", 7, &[Size::Is(1), Size::Called("length")]),
        ],
        &[value("y", 7, &[Size::Is(1), Size::Called("length")])],
    );
    write(&reads);
    let (message, help) = refused(&pictures);
    assert_eq!(
        message,
        "`model.net`: nothing fills its input input_ids int64[1×length], and its source gives pictures"
    );
    assert!(
        help.starts_with(
            "take a network that looks at pictures, or declare `inputs.input_ids` in the recipe"
        ),
        "{help}"
    );
    let given = "[model.net.recipe.inputs]\ninput_ids = { from = \"given\" }\nattention_mask = { from = \"given\" }\n\n[[model.net.recipe.answers]]";
    let text = pictures.replace("[[model.net.recipe.answers]]", given);
    let error = Flow::parse(Path::new("flow.toml"), text.into()).unwrap_err().to_string();
    assert!(error.contains("a program must hand over its input `attention_mask`, as tokens of a text are, and its source gives pictures"), "{error}");
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

/// What comes of readings that arrive in groups of these sizes, each record as it would be written. `ahead`: whether networks are told
/// what waits in a group.
fn records_of(
    folder: &Path,
    text: &str,
    readings: &[(i64, f64)],
    groups: &[usize],
    ahead: bool,
) -> Vec<String> {
    let mut pipeline = Pipeline::new(&flow(folder, text));
    let (mut out, world) = (Vec::new(), Simulated::new(0));
    pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
    let (mut rest, mut sizes) = (readings, groups.iter().cycle());
    while !rest.is_empty() {
        let (group, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let rows: Vec<(i64, [f64; 2])> = group.iter().map(|(t_ms, value)| (*t_ms, [*value, 0.5])).collect();
        for (at, (t_ms, values)) in rows.iter().enumerate() {
            if ahead {
                let coming = rows[at..].iter().map(|(t_ms, values)| (*t_ms, &values[..]));
                pipeline.foresee(0, 1, coming, &world, &mut out);
            }
            pipeline.step(0, &Batch { t_ms: vec![*t_ms], values: values.to_vec() }, 0, &world, &mut out);
        }
        rest = after;
    }
    pipeline.flush(&mut out);
    let drafts = out.iter().map(Product::draft);
    drafts.map(|draft| format!("{} {} {}", draft.stream, draft.kind, draft.body.get())).collect()
}

/// The network's flow, with other settings.
fn asked(hop: usize, batch: usize) -> String {
    let settings = format!("hop = {hop}\nrecord = \"each\"\nrecipe.batch = {batch}");
    FLOW.replace("hop = 2", &settings).replace("type = \"http\"", "type = \"http\"\nmax_gap = \"10s\"")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_grouping_gives_the_same_records(
        steps in prop::collection::vec((prop_oneof![8 => Just(1000i64), 1 => Just(20_000), 1 => Just(-500), 1 => Just(0)], -20i32..20), 1..90),
        missing in prop::collection::vec(0usize..90, 0..4),
        groups in prop::collection::vec(1usize..14, 1..12),
        (hop, batch) in (1usize..4, 2usize..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("net.onnx"), network()).unwrap();
        let mut t_ms = 1_000_000;
        let readings: Vec<(i64, f64)> = steps
            .iter()
            .enumerate()
            .map(|(at, (step_ms, value))| {
                t_ms += step_ms;
                (t_ms, if missing.contains(&at) { f64::NAN } else { f64::from(*value) })
            })
            .collect();
        let alone = records_of(folder.path(), &asked(hop, 1), &readings, &[1], false);
        let together = records_of(folder.path(), &asked(hop, batch), &readings, &groups, true);
        prop_assert_eq!(together, alone);
    }
}

#[test]
fn a_flow_says_why_looks_cannot_share_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        |text: &str| Flow::parse(&folder.path().join("flow.toml"), text.into()).unwrap_err().to_string();
    assert!(said(&asked(1, 0)).contains("`model.net`: `batch` is 0, and must be from 1 to 256"));
    let state = "\n[model.net.recipe.inputs.h]\nfrom = \"state\"\noutput = \"hn\"\nshape = [1, 2]\n[[model.net.recipe.answers]]";
    let text = asked(1, 4).replacen("\n[[model.net.recipe.answers]]", state, 1);
    assert!(said(&text).contains("the input `h` carries state"), "{}", said(&text));
    // What only the network knows is said when it is loaded.
    let fixed = model(
        &[node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[4, 2], &[1.0; 8])],
        &[value("x", 1, &[Size::Is(1), Size::Is(4)])],
        &[value("y", 1, &[Size::Is(1), Size::Is(2)])],
    );
    std::fs::write(folder.path().join("net.onnx"), fixed).unwrap();
    let mut pipeline = Pipeline::new(&flow(folder.path(), &asked(1, 4)));
    let mut out = Vec::new();
    pipeline.open(0, &["a".into(), "b".into()], &mut out).unwrap();
    let [Product::Part(failed)] = &out[..] else { panic!("{out:?}") };
    assert!(failed.state == "failed" && failed.reason.contains("has a first dimension of 1"), "{failed:?}");
}
