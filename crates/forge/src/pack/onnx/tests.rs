//! A graph that is written here, field by field; and real ones, where they are.

use std::path::Path;

use net::graph::read;
use net::specimen::{bytes, number};
use package::media::Role;
use package::requirement::{Kind, Runtime};

use super::*;

/// A value with a name: floats of these sizes.
fn value(name: &str, dims: &[Vec<u8>]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| bytes(1, dim)).collect();
    let tensor = [number(1, 1), bytes(2, dims)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// A constant of floats.
fn constant(name: &str, dims: &[u64], raw: usize) -> Vec<u8> {
    let dims = dims.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, 1), bytes(8, name), bytes(9, vec![0; raw])].concat()
}

fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let opset = [bytes(1, ""), number(2, 17)].concat();
    [number(1, 8), bytes(7, graph.concat()), bytes(8, opset)].concat()
}

/// `y = x w`, with a branch in a branch.
fn linear() -> Vec<Vec<u8>> {
    let inner = bytes(1, [bytes(4, "Relu"), bytes(7, "com.example")].concat());
    let branch = bytes(5, [bytes(1, "then_branch"), bytes(6, inner)].concat());
    let shape = [bytes(2, "batch"), number(1, 3)];
    vec![
        bytes(1, bytes(4, "MatMul")),
        bytes(1, [bytes(4, "If"), branch].concat()),
        bytes(5, constant("w", &[3, 2], 24)),
        bytes(11, value("x", &shape)),
        bytes(11, value("w", &[number(1, 3), number(1, 2)])),
        bytes(12, value("y", &[bytes(2, "batch"), number(1, 2)])),
    ]
}

#[test]
fn a_graph_says_what_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.onnx");
    std::fs::write(&path, model(&linear())).unwrap();
    let found = facts(&path, None, None, Version(0, 1, 0)).unwrap();
    let variant = &found.variant;
    assert_eq!((variant.name.as_str(), &variant.kind, &variant.runtime), ("f32", &Kind::Net, &Runtime::Onnx));
    let (role, contract) = &variant.files[0];
    let said = Contract::parse(contract).unwrap().to_string();
    assert_eq!(said, "x float32[batch×3] → y float32[batch×2]; 3 operators of ai.onnx 17");
    assert_eq!(*role, Role::Input);
    let graph = read(&model(&linear())).unwrap();
    assert_eq!((graph.parameters, graph.constant_bytes, graph.value_bytes), (6, 24, 12 + 24 + 8));
    assert_eq!(graph.net.operators, ["If", "MatMul", "com.example.Relu"]);
    assert_eq!(variant.requires.ram_bytes, found.bytes + 24 + 44 + BESIDE_BYTES);
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
