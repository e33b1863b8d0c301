//! Graphs that are written here, field by field: whole ones, and such as nobody honest writes.

use super::*;
use crate::specimen::{bytes, file, linear, number};

/// A constant of floats with so many bytes, whatever its shape says.
fn constant(name: &str, dims: &[u64], raw: usize) -> Vec<u8> {
    let dims = dims.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, 1), bytes(8, name), bytes(9, vec![0; raw])].concat()
}

#[test]
fn a_graph_says_what_it_holds() {
    let graph = read(&file(&linear())).unwrap();
    assert_eq!((graph.parameters, graph.constant_bytes, graph.value_bytes), (6, 24, 12 + 24 + 8));
    assert_eq!((graph.net.inputs.len(), graph.net.outputs.len(), graph.nodes), (1, 1, 3));
    assert_eq!(graph.net.operators, ["If", "MatMul", "com.example.Relu"]);
}

#[test]
fn what_is_no_graph_is_refused_where_it_breaks() {
    let whole = file(&linear());
    for end in 0..whole.len() {
        drop(read(&whole[..end])); // some prefixes are files without a graph or with half of one; none is a panic
    }
    fn refused(graph: Vec<Vec<u8>>, expected: &str) {
        let error = read(&file(&graph)).unwrap_err();
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
