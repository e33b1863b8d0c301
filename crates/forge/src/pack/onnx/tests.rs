//! A graph that is written field by field; and real ones, where they are.

use std::path::Path;

use net::graph::read;
use net::specimen::{file, linear};
use package::media::Role;
use package::requirement::{Kind, Runtime};

use super::*;

#[test]
fn a_graph_says_what_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.onnx");
    std::fs::write(&path, file(&linear())).unwrap();
    let found = facts(&path, None, None, Version(0, 1, 0)).unwrap();
    let variant = &found.variant;
    assert_eq!((variant.name.as_str(), &variant.kind, &variant.runtime), ("f32", &Kind::Net, &Runtime::Onnx));
    let (role, contract) = &variant.files[0];
    let said = Contract::parse(contract).unwrap().to_string();
    assert_eq!(said, "x float32[batch×3] → y float32[batch×2]; 3 operators of ai.onnx 17");
    assert_eq!(*role, Role::Input);
    let graph = read(&file(&linear())).unwrap();
    assert_eq!((graph.parameters, graph.constant_bytes, graph.value_bytes), (6, 24, 12 + 24 + 8));
    assert_eq!(graph.net.operators, ["If", "MatMul", "com.example.Relu"]);
    assert_eq!(variant.requires.ram_bytes, found.bytes + 24 + 44 + BESIDE_BYTES);
}

#[test]
fn a_recipe_travels_with_what_it_asks_for_and_one_that_does_not_fit_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.onnx");
    std::fs::write(&path, file(&linear())).unwrap();
    let packed = |recipe: &Recipe| facts(&path, None, Some(recipe), Version(0, 1, 0));
    let together = Recipe { batch: Some(8), ..Recipe::default() };
    let found = packed(&together).unwrap();
    let (role, layer) = &found.variant.files[1];
    assert_eq!((role, serde_json::from_slice::<Recipe>(layer).unwrap()), (&Role::Recipe, together));
    assert_eq!(found.variant.requires.ram_bytes, found.bytes + 2 * 24 + 8 * 44 + BESIDE_BYTES);
    let error = packed(&Recipe { batch: Some(1_000), ..Recipe::default() }).unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("`batch` is 1000"), "{why}");
}

#[test]
fn real_graphs_are_read() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|folder| {
        let data = folder.join("shared/data/onnx-models");
        data.is_dir().then_some(data)
    });
    let Some(data) = data else {
        println!("skipped: shared/data/onnx-models is not here");
        return;
    };
    let said = |file: &str| {
        let found = facts(&data.join(file), None, None, Version(0, 1, 0)).unwrap();
        let contract = Contract::parse(&found.variant.files[0].1).unwrap();
        (contract.to_string(), found.variant.shape.param_size.unwrap())
    };
    for (file, expected, size) in [
        ("ultraface/version-RFB-320.onnx", "input float32[1×3×240×320] → scores float32[1×4420×2]", "307.7k"),
        ("mnist/opt-mnist.onnx", "Input3 float32[1×1×28×28] → Plus214_Output_0 float32[1×10]", "6k"),
        ("silero-vad/silero_vad_16k_op15.onnx", "input float32[", "309.8k"),
        ("magika/model.onnx", "bytes int32[", "784.5k"),
    ] {
        let (told, parameters) = said(file);
        assert!(told.starts_with(expected) && parameters == size, "{file}: {told}; {parameters}");
    }
}
