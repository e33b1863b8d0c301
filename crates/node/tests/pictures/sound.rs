//! Sound: a file as if it were played now, a program that prints samples, and a network that hears speech.

use std::fs;

use node::flow::Flow;
use node::pipeline::Product;
use node::play::play;
use wire::body::Said;

use crate::borrowed::data::data;
use crate::stand::{folder, records, run, source, until};

/// A second of a loud hum at 100 Hz, then one of a low one, at 8 kHz.
fn wav() -> Vec<u8> {
    let samples = (0..16_000).map(|at| {
        let loud = if at < 8_000 { 16_384.0 } else { 300.0 };
        (loud * (std::f64::consts::TAU * 100.0 * f64::from(at) / 8_000.0).sin()) as i16
    });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8_000u32.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

const LOUD: &str = r#"
rate_hz = 8000

[feature.level]
type = "statistics"
inputs = ["source.ear"]
rate_hz = 8000
window = "200ms"
hop = "100ms"

[rule.loud]
inputs = ["feature.level"]
when = "level.rms > 0.1"
"#;

#[test]
fn a_file_is_heard_and_its_samples_are_in_no_record() {
    let dir = folder(&format!("[source.ear]\ntype = \"sound\"\nfile = \"hum.wav\"\n{LOUD}"));
    fs::write(dir.path().join("hum.wav"), wav()).unwrap();
    let node = run(dir.path());
    until("the end of the file", || node.sources_ended());
    assert_eq!(source(&node).readings, 16_000);
    node.stop().unwrap();
    let decisions = records(dir.path(), "decisions");
    let told: Vec<_> = decisions.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(told, ["firing", "cleared"]);
    assert!(records(dir.path(), "readings.ear").is_empty(), "raw sound stays out of the journal");
    assert!(!records(dir.path(), "summary.ear").is_empty());
    // At the pace of a clock: two seconds of sound.
    let lasted_ms = decisions[1]["at_ms"].as_i64().unwrap() - decisions[0]["at_ms"].as_i64().unwrap();
    assert!((900..1_200).contains(&lasted_ms), "{lasted_ms}");
}

#[test]
fn a_program_prints_samples_and_is_started_again() {
    let text = format!(
        "[source.ear]\ntype = \"sound\"\ncommand = [\"sh\", \"-c\", \"cat hum.raw; sleep 1; echo unplugged >&2\"]\n{LOUD}"
    );
    let dir = folder(&text);
    fs::write(dir.path().join("hum.raw"), &wav()[44..]).unwrap();
    let node = run(dir.path());
    until("two lives", || source(&node).readings >= 32_000);
    node.stop().unwrap();
    let events = records(dir.path(), "events");
    assert!(
        events
            .iter()
            .any(|event| event["reason"].as_str().is_some_and(|why| why.contains("it said: unplugged"))),
        "{events:?}"
    );
}

#[test]
fn a_file_of_another_rate_is_told() {
    let dir = folder("[source.ear]\ntype = \"sound\"\nfile = \"hum.wav\"\n");
    fs::write(dir.path().join("hum.wav"), wav()).unwrap();
    let node = run(dir.path());
    until("the trouble", || source(&node).reason.contains("write `rate_hz = 8000`"));
    node.stop().unwrap();
}

/// Speech, found by a network of others in a recording of others.
#[test]
fn a_network_with_state_hears_speech() {
    let Some(data) = data("onnx-models/silero-vad") else { return };
    let (wav, net) = (data.join("test-2_16k_mono.wav"), data.join("silero_vad_16k_op15.onnx"));
    let text = format!(
        r#"
[source.ear]
type = "sound"
file = {wav:?}

[model.voice]
type = "network"
inputs = ["source.ear"]
file = {net:?}
window = 576
hop = 512

[model.voice.recipe.inputs.input]
from = "numbers"
[model.voice.recipe.inputs.state]
from = "state"
output = "stateN"
shape = [2, 1, 128]
[model.voice.recipe.inputs.sr]
from = "constant"
values = [16000]
[[model.voice.recipe.answers]]
as = "numbers"
output = "output"
names = ["speech"]

[rule.somebody_speaks]
inputs = ["model.voice"]
when = "voice.speech > 0.5"
for = "200ms"
clear_after = "500ms"
"#
    );
    let flow = Flow::parse("flow.toml".as_ref(), text.into()).unwrap_or_else(|errors| panic!("{errors}"));
    let (mut decisions, mut failed, mut begin_ms) = (Vec::new(), Vec::new(), None);
    let report = play(&flow, 0, |played, _, products| {
        begin_ms = begin_ms.or(played.map(|played| played.t_ms));
        for product in products {
            match product {
                Product::Decision(decision) => {
                    decisions.push((decision.state, decision.at_ms - begin_ms.unwrap()));
                }
                Product::Part(part) if part.state == "failed" => failed.push(part.reason.clone()),
                Product::Answer(answer) => assert!(matches!(answer.fields["speech"], Said::Number(_))),
                _ => {}
            }
        }
    })
    .unwrap();
    println!("{} samples: {decisions:?}", report.sources[0].1);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(!decisions.is_empty() && report.sources[0].1 > 200_000);
}
