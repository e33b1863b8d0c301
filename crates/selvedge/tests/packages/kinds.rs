//! What is no language model travels as one does: an ONNX graph, an adapter, what a detector has learnt, a flow; packed, signed,
//! approved, pushed, pulled, verified, and refused by what cannot run it.

use kernels::format::Format;
use lm::gguf::metadata::Metadata;
use lm::gguf::write::Writer;
use signal::detector::{Config, Detector};

use crate::afar::House;
use crate::stage::Stage;

/// A field of bytes, shorter than 128, as protocol buffers have it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// `y = x w`, with six floats in `w`.
fn graph() -> Vec<u8> {
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"MatMul")].concat();
    let w = [&[0x08, 3, 0x08, 2, 0x10, 1][..], &field(8, b"w"), &field(9, &[0; 24])].concat();
    let floats = field(1, &[&[0x08, 1][..], &field(2, &field(1, &[]))].concat());
    let [x, y] = [b"x", b"y"].map(|name| [field(1, name), field(2, &floats)].concat());
    let graph = [field(1, &node), field(5, &w), field(11, &x), field(12, &y)].concat();
    [&[0x08, 8][..], &field(7, &graph), &field(8, &[0x10, 17])].concat()
}

const FLOW: &str = r#"
[source.pump]
type = "http"
channels = ["pressure_bar", "flow_m3h"]

[model.health]
type = "subspace"
inputs = ["source.pump"]

[rule.unusual]
inputs = ["model.health"]
when = "health.p > 0.9"
for = "2s"
"#;

fn stage() -> Stage {
    let stage = Stage::approved();
    std::fs::write(stage.path("net.onnx"), graph()).unwrap();
    stage.write("flow.toml", FLOW);
    let mut metadata = Metadata::new();
    let words = [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")];
    words.iter().for_each(|(key, word)| metadata.set(key, *word));
    metadata.set("adapter.lora.alpha", 8.0f32);
    metadata.set("general.base_model.0.name", "Tiny");
    let mut writer = Writer::new(metadata).unwrap();
    for (name, dims) in [("blk.0.attn_q.weight.lora_a", [256, 4]), ("blk.0.attn_q.weight.lora_b", [4, 256])] {
        writer.tensor(name, &dims, Format::F32).unwrap();
    }
    let mut zeros = |tensor: &lm::gguf::tensor::Tensor, sink: &mut dyn std::io::Write| {
        Ok(sink.write_all(&vec![0; 4 * tensor.len() as usize])?)
    };
    writer.write(&stage.path("lora.gguf"), &mut zeros).unwrap();
    let mut detector = Detector::new(Config::new(2)).unwrap();
    for at in 0..2_000 {
        let t = f64::from(at);
        detector.step(&[(0.3 * t).sin() + 0.02 * (7.7 * t).sin(), (0.3 * t).sin() + 0.02 * (9.1 * t).cos()]);
    }
    let state = serde_json::json!({
        "form": 2, "model": "health", "channels": ["pressure_bar", "flow_m3h"], "running": null, "detector": detector,
    });
    stage.write("health.json", &state.to_string());
    stage
}

#[test]
fn every_kind_travels_whole() {
    let house = House::empty(stage());
    let stage = &house.stage;
    stage.run(&["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"]).ok();
    let variants = stage.run(&["inspect", "tiny", "--json"]).json();
    let base = variants["releases"][0]["variants"][0]["manifest"].as_str().unwrap().to_owned();
    let kinds = [
        ("net", "net.onnx", "f32", "x float32[?] → y float32[?]; 1 operators of ai.onnx 17", "onnx"),
        ("adapter", "lora.gguf", "lora", "LoRA of rank 4 on 1 tensors of llama models, for Tiny", "lm"),
        (
            "detector",
            "health.json",
            "learnt",
            "2 channels (pressure_bar, flow_m3h), 10 readings at once; learnt",
            "signal",
        ),
        ("flow", "flow.toml", "flow", "sources pump (http); detectors health; rules unusual", "flow"),
    ];
    for (kind, file, ..) in kinds {
        let mut words = vec!["pack", file, "--model", kind, "--release", "1", "--licence", "MIT", "-o", kind];
        if kind == "adapter" {
            words.extend(["--base", &base]);
        }
        let told = stage.run(&words).ok();
        assert!(told.contains(&format!("{kind} release 1")), "{told}");
        let signed = stage.run(&["sign", kind, "--provenance", "maker.age"]).ok();
        assert!(signed.starts_with(&format!("signed 1 variant of {kind}:1")), "{signed}");
        stage.trust(&["add", "repo", kind], &["targets", "snapshot", "timestamp"]).ok();
        house.run(&["push", kind, &format!("hub:{kind}")]).ok();
    }
    house.publish("repo");
    for (kind, file, variant, said, runtime) in kinds {
        let (place, to) = (format!("hub:{kind}"), format!("{kind}-here"));
        house.run(&["pull", &place, "--to", &to]).ok();
        let trust = ["--root", "repo/metadata/1.root.json", "--repository", &house.metadata()];
        let maker = ["--provenance", "maker.pub.pem", "--token-file", "token"];
        let proven = stage.run(&[&["verify", &to][..], &trust, &maker].concat()).ok();
        assert!(proven.contains("is approved") && proven.contains("signed by this maker"), "{proven}");

        let text = stage.run(&["inspect", &to]).ok();
        assert!(text.contains(said) && text.contains(&format!("{variant}: {kind}")), "{text}");
        let found = stage.run(&["inspect", &to, "--json"]).json();
        let found = &found["releases"][0]["variants"][0];
        assert_eq!((&found["kind"], &found["runtime"]), (&kind.into(), &runtime.into()));
        assert_eq!(found["contract"]["kind"], kind);
        assert!(found["requires"]["ram_bytes"].as_u64().unwrap() > 0, "{found}");
        let roles = found["files"].as_array().unwrap().iter().map(|file| file["role"].as_str().unwrap());
        let roles: Vec<&str> = roles.collect();
        assert!(["weights", "input", "card", "bom"].iter().all(|role| roles.contains(role)), "{roles:?}");
        assert_eq!(roles.contains(&"calibration"), kind == "detector", "{roles:?}");
        assert_eq!(found["base"].as_str(), (kind == "adapter").then_some(base.as_str()));
        assert!(house.run(&["inspect", &place]).ok().contains(&format!("{variant}: {kind}")));

        let explained = stage.run(&["fit", "--explain", &to]).ok();
        let lack = format!("is of the kind {kind} for the runtime {runtime}, which is not run here");
        let runs = matches!(kind, "net" | "flow");
        assert_eq!(explained.contains(&lack), !runs, "{explained}");
        let plain = format!("{kind}-plain");
        stage.run(&["export", &to, "--files", &plain]).ok();
        let same = std::fs::read(stage.path(&format!("{plain}/{variant}/{file}"))).unwrap();
        assert!(same == std::fs::read(stage.path(file)).unwrap());
        // Without words for what to bring, what this machine would take is brought.
        if !runs {
            house.refused(&["pull", &place], 1, "no variant fits this machine");
        }
    }
}

#[test]
fn what_is_not_what_it_looks_like_is_refused() {
    let stage = stage();
    let pack = |file: &str, more: &[&str]| {
        stage.run(&[&["pack", file, "--model", "x", "--release", "1", "-o", "x"][..], more].concat())
    };
    #[track_caller]
    fn check(ran: crate::stage::Ran, code: i32, expected: &str) {
        assert!(ran.code == Some(code) && ran.err.contains(expected), "{:?} {}", ran.code, ran.err);
        assert!(!ran.err.contains("panicked"));
    }
    stage.write("letter.onnx", "dear");
    check(pack("letter.onnx", &[]), 1, "letter.onnx is no ONNX file");
    check(pack("text.txt", &["--kind", "net"]), 1, "is no ONNX file");
    check(pack("text.txt", &[]), 1, "cannot be opened as a model");
    stage.write("letter.json", "{}");
    check(pack("letter.json", &[]), 1, "holds nothing that a detector has learnt");
    stage.write("half.toml", &FLOW.replace("source.pump\"]", "source.pumps\"]"));
    check(pack("half.toml", &[]), 78, "pumps");
    check(pack("full.gguf", &["--kind", "adapter"]), 1, "which is no LoRA adapter");
    check(pack("flow.toml", &["--kind", "swarm"]), 2, "lm, adapter, net, detector, flow");
    check(
        pack("net.onnx", &["--golden-from", "prompts.txt"]),
        1,
        "prompts.txt, line 1: not an object of tensors",
    );
    check(pack("net.onnx", &["--base", "tiny"]), 2, "several variants");
    let digest = format!("sha256:{}", "0".repeat(64));
    check(pack("net.onnx", &["--base", &digest]), 2, "--base is for adapters");
    check(pack("lora.gguf", &["--base", "sha256:0"]), 1, "is no digest");
    assert!(!stage.path("x").exists());
}
