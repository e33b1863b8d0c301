//! Networks that others trained, against what ONNX Runtime made of the same inputs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop at any fault, and says what it saw"
)]

mod shared;

use std::path::Path;
use std::process::Command;

use net::after::{Answer, Field, shared as overlap};
use net::before::Window;
use net::network::Network;
use net::picture::Picture;
use net::recipe::Recipe;
use net::runtime::Kind;
use net::stage::{Material, Stage};
use net::tensor::{Data, Tensor};
use shared::cases::near;
use shared::data::data;
use shared::proto::read_tensor;
use shared::recipes::FACES;
use shared::runtimes::{kinds, options};

fn load(bytes: &[u8], kind: Kind) -> Network {
    Network::load(bytes, &options(kind)).unwrap_or_else(|error| panic!("{}: {error}", kind.word()))
}

fn stage(bytes: &[u8], kind: Kind, recipe: &str) -> Stage {
    Stage::new(load(bytes, kind), toml::from_str(recipe).unwrap()).unwrap()
}

fn tensors(folder: &Path, side: &str) -> Vec<Tensor> {
    let file = |at: usize| std::fs::read(folder.join(format!("{side}_{at}.pb"))).ok();
    (0..).map_while(file).map(|bytes| read_tensor(&bytes).unwrap().1).collect()
}

/// Runs a network on its golden inputs; how far the outputs are off.
fn golden(model: &str, case: &str, absolute: f64) {
    let Some(folder) = data("onnx-models") else { return };
    let bytes = std::fs::read(folder.join(model)).unwrap();
    for kind in kinds() {
        let mut network = load(&bytes, kind);
        let sets = (0..).map(|set| folder.join(format!("goldens/{case}/test_data_set_{set}")));
        let sets: Vec<_> = sets.take_while(|folder| folder.is_dir()).collect();
        assert!(!sets.is_empty());
        for set in sets {
            let found = network.run(&tensors(&set, "input")).unwrap();
            for (at, (found, expected)) in found.iter().zip(&tensors(&set, "output")).enumerate() {
                let came = near(found, expected, 1e-4, absolute);
                assert_eq!(came, Ok(()), "{} {} output {at}", kind.word(), set.display());
            }
        }
    }
}

#[test]
fn digits_are_read() {
    golden("mnist/opt-mnist.onnx", "mnist-opt", 1e-2); // logits of thousands
}

#[test]
fn a_frame_of_speech_is_heard() {
    golden("silero-vad/silero_vad_16k_op15.onnx", "silero-silero_vad_16k_op15", 1e-5);
}

#[test]
fn scores_of_faces_are_those_of_the_peer() {
    golden("ultraface/version-RFB-320.onnx", "ultraface-version-RFB-320", 1e-5);
}

#[test]
fn faces_are_found_in_photographs() {
    let Some(folder) = data("onnx-models") else { return };
    let bytes = std::fs::read(folder.join("ultraface/version-RFB-320.onnx")).unwrap();
    for kind in kinds() {
        let mut stage = stage(&bytes, kind, FACES);
        for (set, file) in ["13.jpg", "19.jpg"].iter().enumerate() {
            let picture =
                Picture::decode(&std::fs::read(folder.join("ultraface/images").join(file)).unwrap()).unwrap();
            let found = stage.step(&Material { picture: Some(&picture), ..Material::default() }).unwrap();
            // The peer's outputs on its own decoding of the same photograph, read by the same recipe.
            let golden = folder.join(format!("goldens/ultraface-version-RFB-320/test_data_set_{set}"));
            let expected = answer_of(&mut stage, &tensors(&golden, "input")[0]);
            println!(
                "{} {file}: {} faces, the best {:?}",
                kind.word(),
                found.boxes.len(),
                found.boxes.first()
            );
            assert!(
                !expected.boxes.is_empty() && found.boxes.len() == expected.boxes.len(),
                "{found:?}\n{expected:?}"
            );
            for face in &expected.boxes {
                let best = found.boxes.iter().map(|other| overlap(face, other)).fold(0.0, f32::max);
                assert!(best > 0.8, "{file}: {face:?} of {:?}", found.boxes);
            }
        }
    }
}

/// What the recipe makes of a tensor that was filled elsewhere.
fn answer_of(stage: &mut Stage, input: &Tensor) -> Answer {
    let recipe = Recipe {
        inputs: [("input".into(), net::before::Fill::Given {})].into(),
        answers: stage.recipe().answers.clone(),
        ..Recipe::default()
    };
    let kind = stage.network().kind();
    let bytes = std::fs::read(data("onnx-models").unwrap().join("ultraface/version-RFB-320.onnx")).unwrap();
    let mut given = Stage::new(load(&bytes, kind), recipe).unwrap();
    given.step(&Material { given: [("input".into(), input.clone())].into(), ..Material::default() }).unwrap()
}

const SPEECH: &str = r#"
    [inputs.input]
    from = "numbers"
    [inputs.state]
    from = "state"
    output = "stateN"
    shape = [2, 1, 128]
    [inputs.sr]
    from = "constant"
    values = [16000]
    [[answers]]
    as = "numbers"
    output = "output"
    names = ["speech"]
"#;

#[test]
fn speech_is_heard_frame_after_frame() {
    let Some(folder) = data("onnx-models") else { return };
    let folder = folder.join("silero-vad");
    let bytes = std::fs::read(folder.join("silero_vad_16k_op15.onnx")).unwrap();
    let stream = std::fs::read(folder.join("silero_vad_16k_op15.stream.json")).unwrap();
    let stream: serde_json::Value = serde_json::from_slice(&stream).unwrap();
    let expected: Vec<f64> =
        stream["probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    let (frame, context) =
        (stream["frame"].as_u64().unwrap() as usize, stream["context"].as_u64().unwrap() as usize);
    let sound = samples(&std::fs::read(folder.join("test-2_16k_mono.wav")).unwrap());
    // A window of `context + frame` samples that moves on by `frame`; before the first sample there is silence.
    let padded: Vec<f32> = std::iter::repeat_n(0.0, context).chain(sound).collect();
    for kind in kinds() {
        let mut stage = stage(&bytes, kind, SPEECH);
        let mut worst = 0.0f64;
        for (at, expected) in expected.iter().enumerate() {
            let mut values = padded
                [(at * frame).min(padded.len())..((at + 1) * frame + context).min(padded.len())]
                .to_vec();
            values.resize(frame + context, 0.0);
            let window = Window { values: &values, channels: 1 };
            let answer = stage.step(&Material { window: Some(window), ..Material::default() }).unwrap();
            let [(name, Field::Number(p))] = &answer.fields[..] else { panic!("{answer:?}") };
            assert_eq!(name, "speech");
            worst = worst.max((p - expected).abs());
        }
        println!("{}: {} frames, at most {worst:.1e} from the peer", kind.word(), expected.len());
        assert!(worst < 1e-4, "{}: {worst}", kind.word());
    }
}

/// 16 bits, one channel.
fn samples(wav: &[u8]) -> Vec<f32> {
    let mut at = 12;
    loop {
        let size = u32::from_le_bytes(wav[at + 4..at + 8].try_into().unwrap()) as usize;
        if &wav[at..at + 4] == b"data" {
            let data = &wav[at + 8..(at + 8 + size).min(wav.len())];
            return data
                .chunks_exact(2)
                .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0)
                .collect();
        }
        at += 8 + size + size % 2;
    }
}

/// As the network was trained: 1024 bytes of the begin and of the end, 256 where there are none.
fn magika_input(content: &[u8]) -> Tensor {
    let first = content.trim_ascii_start();
    let last = content.trim_ascii_end();
    let mut list = vec![256; 2048];
    for (to, byte) in list.iter_mut().zip(first.iter().take(1024)) {
        *to = i32::from(*byte);
    }
    let tail = &last[last.len().saturating_sub(1024)..];
    for (to, byte) in list[2048 - tail.len()..].iter_mut().zip(tail) {
        *to = i32::from(*byte);
    }
    Tensor::new(vec![1, 2048], Data::I32(list)).unwrap()
}

#[test]
fn kinds_of_files_are_told() {
    let Some(folder) = data("onnx-models") else { return };
    let folder = folder.join("magika");
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.min.json")).unwrap()).unwrap();
    let labels: Vec<String> = serde_json::from_value(config["target_labels_space"].clone()).unwrap();
    let python = "import os\nimport sys\n\n\ndef main(path):\n    for name in sorted(os.listdir(path)):\n        print(name)\n    return 0\n\n\nif __name__ == '__main__':\n    sys.exit(main(sys.argv[1]))\n";
    let json = serde_json::json!({"pumps": [{"name": "north", "bar": 2.5}, {"name": "south", "bar": 2.75}], "ok": true});
    let csv: String =
        (0..60).map(|at| format!("2026-01-{:02},{},{:.2}\n", at % 28 + 1, at, at as f32 * 0.37)).collect();
    let files = [
        ("python", python.repeat(3)),
        ("json", serde_json::to_string_pretty(&json).unwrap()),
        ("csv", format!("day,count,level\n{csv}")),
        ("rust", include_str!("../src/tensor.rs").to_owned()),
        ("markdown", include_str!("../../../ARCHITECTURE.md").to_owned()),
    ];
    let recipe = serde_json::json!({
        "inputs": {"bytes": {"from": "given"}},
        "answers": [{"as": "classes", "output": "target_label", "labels": labels}],
    });
    let inputs: Vec<Tensor> = files.iter().map(|(_, content)| magika_input(content.as_bytes())).collect();
    let peer = peer(&folder.join("model.onnx"), &inputs);
    for kind in kinds() {
        let mut network = load(&bytes, kind);
        for ((word, _), input) in files.iter().zip(&inputs) {
            let recipe: Recipe = serde_json::from_value(recipe.clone()).unwrap();
            let mut stage = Stage::new(load(&bytes, kind), recipe).unwrap();
            let given = [("bytes".to_owned(), input.clone())].into();
            let answer = stage.step(&Material { given, ..Material::default() }).unwrap();
            assert_eq!(answer.ranked[0].label, *word, "{}", kind.word());
        }
        for (input, expected) in inputs.iter().zip(peer.iter().flatten()) {
            let found = network.run(std::slice::from_ref(input)).unwrap();
            let expected = Tensor::of_f32(&[1, expected.len()], expected.clone()).unwrap();
            assert_eq!(near(&found[0], &expected, 1e-3, 1e-5), Ok(()), "{}", kind.word());
        }
    }
}

/// The first output of ONNX Runtime's Python package for each input of `int32`, if it is here.
fn peer(model: &Path, inputs: &[Tensor]) -> Option<Vec<Vec<f32>>> {
    let python = std::env::var("SELVEDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let raw: Vec<u8> = inputs
        .iter()
        .flat_map(|input| input.data().numbers().unwrap())
        .flat_map(|n| (n as i32).to_le_bytes())
        .collect();
    std::fs::write(folder.path().join("in"), raw).unwrap();
    let script = "import sys, numpy, onnxruntime as o\no.set_default_logger_severity(3)\n\
        s = o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n\
        x = numpy.fromfile(sys.argv[2] + '/in', dtype='<i4').reshape(int(sys.argv[3]), 1, -1)\n\
        name = s.get_inputs()[0].name\n\
        y = numpy.stack([s.run(None, {name: one})[0][0] for one in x])\n\
        y.astype('<f4').tofile(sys.argv[2] + '/out')\n";
    let ran = Command::new(python)
        .arg("-c")
        .arg(script)
        .arg(model)
        .arg(folder.path())
        .arg(inputs.len().to_string())
        .output();
    let out = std::fs::read(folder.path().join("out"));
    let (Ok(ran), Ok(out)) = (ran, out) else {
        println!("skipped: no Python with onnxruntime to compare with");
        return None;
    };
    assert!(ran.status.success());
    let list: Vec<f32> = out.chunks_exact(4).map(|one| f32::from_le_bytes(one.try_into().unwrap())).collect();
    Some(list.chunks_exact(list.len() / inputs.len()).map(<[f32]>::to_vec).collect())
}

const SENTENCE: &str = r#"
    [inputs.input_ids]
    from = "given"
    [inputs.attention_mask]
    from = "given"
    [inputs.token_type_ids]
    from = "given"
    [[answers]]
    as = "embedding"
    output = "last_hidden_state"
    mask = "attention_mask"
    unit_length = true
"#;

#[test]
fn sentences_become_vectors_or_are_refused_clearly() {
    let Some(folder) = data("minilm") else { return };
    let bytes = std::fs::read(folder.join("all-MiniLM-L6-v2-int8dyn.onnx")).unwrap();
    let expected = std::fs::read(folder.join("embeddings.expected.json")).unwrap();
    let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
    for kind in kinds() {
        let network = match Network::load(&bytes, &options(kind)) {
            Ok(network) => network,
            Err(error) => {
                println!("{}: {error}", kind.word());
                assert!(kind != Kind::OnnxRuntime && error.to_string().contains("onnxruntime"));
                continue;
            }
        };
        let mut stage = Stage::new(network, toml::from_str(SENTENCE).unwrap()).unwrap();
        let mut worst = 1.0f64;
        for sentence in expected.iter().take(8) {
            let ids: Vec<i64> = serde_json::from_value(sentence["ids"].clone()).unwrap();
            let vector: Vec<f64> = serde_json::from_value(sentence["embedding"].clone()).unwrap();
            let list = |list: Vec<i64>| Tensor::new(vec![1, ids.len()], Data::I64(list)).unwrap();
            let given = [
                ("attention_mask".to_owned(), list(vec![1; ids.len()])),
                ("token_type_ids".to_owned(), list(vec![0; ids.len()])),
                ("input_ids".to_owned(), list(ids.clone())),
            ];
            let answer = stage.step(&Material { given: given.into(), ..Material::default() });
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    println!("{}: {error}", kind.word());
                    assert!(kind != Kind::OnnxRuntime && error.to_string().contains("onnxruntime"));
                    return;
                }
            };
            let cosine: f64 = answer.vector.iter().zip(&vector).map(|(a, b)| f64::from(*a) * b).sum();
            worst = worst.min(cosine);
        }
        // The quantised network itself is that far off: ONNX Runtime gives 0.91 to 0.97.
        println!("{}: cosine to float64 at least {worst:.4}", kind.word());
        assert!(worst > 0.9, "{}: {worst}", kind.word());
    }
}
