//! Small graphs for tests and benches, written field by field as ONNX has them
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

/// A field of bytes.
pub fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field of a number.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The size of a dimension.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// A number.
    Is(u64),
    /// A name.
    Called(&'static str),
}

/// An input or an output of the graph; the kind as ONNX numbers it: 1 is `float32`, 7 is `int64`.
pub fn value(name: &str, kind: u64, sizes: &[Size]) -> Vec<u8> {
    let dims = sizes.iter().flat_map(|size| {
        bytes(
            1,
            match size {
                Size::Is(size) => number(1, *size),
                Size::Called(name) => bytes(2, name),
            },
        )
    });
    let dims: Vec<u8> = dims.collect();
    let tensor = [number(1, kind), bytes(2, dims)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// A constant of the graph.
pub fn constant(name: &str, dims: &[u64], list: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = list.iter().flat_map(|number| number.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
    bytes(5, [dims, number(2, 1), bytes(8, name), bytes(9, raw)].concat())
}

/// A constant of whole numbers.
pub fn whole(name: &str, dims: &[u64], list: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = list.iter().flat_map(|number| number.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
    bytes(5, [dims, number(2, 7), bytes(8, name), bytes(9, raw)].concat())
}

/// A node of the graph.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|name| bytes(2, name)).collect();
    bytes(1, [inputs, outputs, bytes(4, operator), attributes.concat()].concat())
}

/// An attribute of a node: a whole number.
pub fn int(name: &str, value: u64) -> Vec<u8> {
    bytes(5, [bytes(1, name), number(3, value), number(20, 2)].concat())
}

/// An attribute of a node: whole numbers.
pub fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    bytes(5, [bytes(1, name), list, number(20, 7)].concat())
}

/// A file of these nodes and constants, with these inputs and outputs.
pub fn model(parts: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().map(|value| bytes(11, value));
    let outputs = outputs.iter().map(|value| bytes(12, value));
    let head = [parts.concat(), bytes(2, "g")];
    file(&head.into_iter().chain(inputs).chain(outputs).collect::<Vec<_>>())
}

/// A file with these fields of its graph.
pub fn file(graph: &[Vec<u8>]) -> Vec<u8> {
    let opset = [bytes(1, ""), number(2, 17)].concat();
    [number(1, 8), bytes(7, graph.concat()), bytes(8, opset)].concat()
}

/// The fields of a graph `y = x w` of any number of rows, its constant listed among its inputs, with an operator of nobody in a branch.
/// To be read, not to be run.
pub fn linear() -> Vec<Vec<u8>> {
    let inner = bytes(1, [bytes(4, "Relu"), bytes(7, "com.example")].concat());
    let branch = bytes(5, [bytes(1, "then_branch"), bytes(6, inner)].concat());
    let batch = Size::Called("batch");
    vec![
        node("MatMul", &[], &[], &[]),
        node("If", &[], &[], &[branch]),
        constant("w", &[3, 2], &[0.0; 6]),
        bytes(11, value("x", 1, &[batch, Size::Is(3)])),
        bytes(11, value("w", 1, &[Size::Is(3), Size::Is(2)])),
        bytes(12, value("y", 1, &[batch, Size::Is(2)])),
    ]
}
