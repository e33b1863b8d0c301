//! Graphs that are written here, field by field: whole ones, and such as nobody honest writes.

use super::*;
use crate::specimen::{bytes, number};

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
fn a_graph_says_what_it_holds() {
    let graph = read(&model(&linear())).unwrap();
    assert_eq!((graph.parameters, graph.constant_bytes, graph.value_bytes), (6, 24, 12 + 24 + 8));
    assert_eq!((graph.net.inputs.len(), graph.net.outputs.len(), graph.nodes), (1, 1, 3));
    assert_eq!(graph.net.operators, ["If", "MatMul", "com.example.Relu"]);
}

#[test]
fn what_is_no_graph_is_refused_where_it_breaks() {
    let whole = model(&linear());
    for end in 0..whole.len() {
        drop(read(&whole[..end])); // some prefixes are files without a graph or with half of one; none is a panic
    }
    fn refused(graph: Vec<Vec<u8>>, expected: &str) {
        let error = read(&model(&graph)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(read(b"").unwrap_err().why.contains("no graph"));
    refused(vec![bytes(5, constant("w", &[3, 2], 23))], "other bytes than its shape");
    refused(vec![bytes(5, constant("w", &[1 << 40, 1 << 40], 0))], "2^64 numbers");
    refused(vec![bytes(5, constant("w", &[u64::MAX], 0))], "2^64 numbers");
    refused(vec![bytes(5, [number(1, 1 << 50), number(2, 1)].concat())], "other bytes than its shape");
    refused(vec![bytes(5, [number(1, 1 << 50), number(2, 8), bytes(6, "a")].concat())], "other bytes");
    refused(vec![bytes(5, [number(1, 1), number(2, 99)].concat())], "no known type");
    let outside = [number(1, 1), number(2, 1), number(14, 1)].concat();
    refused(vec![bytes(5, outside)], "one file");
    refused(vec![bytes(11, bytes(1, "x".repeat(NAME_MAX_BYTES + 1)))], "longer than any honest one");
    let mut deep = Vec::new();
    for _ in 0..DEPTH_MAX + 2 {
        deep = bytes(1, bytes(5, bytes(6, &deep)));
    }
    refused(vec![deep], "graphs within graphs");
    let many: Vec<Vec<u8>> = (0..=ENTRIES_MAX).map(|at| bytes(1, bytes(4, format!("Op{at}")))).collect();
    refused(many, "more operators");
}
