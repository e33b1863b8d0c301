//! What an ONNX file says of itself: what goes in and comes out, its operators, how many numbers it holds.
//!
//! A reader of our own for the few fields that must be known before a runtime sees the file
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>). It follows each byte once for each level of graphs in graphs,
//! keeps only names, and takes nothing on trust: a tensor counts as many numbers as its bytes can hold. Whether the graph can
//! run is for the runtime to say.

use std::collections::{BTreeMap, BTreeSet};

use package::contract::{ENTRIES_MAX, Extent, NAME_MAX_BYTES, Net, Port};

use crate::protobuf::{Message, Value, WireError, numbers};

/// Nodes of a graph with those of the graphs within it.
pub const NODES_MAX: u64 = 1 << 17;
/// Graphs within graphs, as `If` and `Loop` have them.
const DEPTH_MAX: usize = 16;
/// Inputs of a graph with those that are constants, as old files list them.
const LISTED_MAX: usize = 1 << 16;
/// The operators that have no set's name.
const STANDARD: &str = "ai.onnx";

/// What a graph holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// What goes in and comes out.
    pub net: Net,
    /// Numbers of all constants.
    pub parameters: u64,
    /// Bytes of all constants.
    pub constant_bytes: u64,
    /// Bytes of all values whose size the file tells, a free dimension counted once.
    pub value_bytes: u64,
    /// Its nodes, with those of graphs within it.
    pub nodes: u64,
    /// What most bytes of constants are: `float32`.
    pub precision: Option<&'static str>,
}

/// Reads a model.
pub fn read(bytes: &[u8]) -> Result<Graph, WireError> {
    let file = Message::new(bytes);
    let mut look = Look::default();
    let mut graph = None;
    for field in file.fields() {
        match field? {
            (7, Value::Bytes(message)) => graph = Some(message),
            (8, Value::Bytes(message)) => look.opset(message)?,
            (25, Value::Bytes(message)) => look.function(message)?,
            _ => {}
        }
    }
    let graph = graph.ok_or_else(|| file.wrong("it has no graph"))?;
    look.graph(graph, 0)?;
    let (inputs, outputs) = ports(graph)?;
    let most = look.kinds.iter().max_by_key(|(word, bytes)| (**bytes, **word)).map(|(word, _)| *word);
    Ok(Graph {
        net: Net { inputs, outputs, opsets: look.opsets, operators: look.operators.into_iter().collect() },
        parameters: look.parameters,
        constant_bytes: look.constant_bytes,
        value_bytes: look.value_bytes,
        nodes: look.nodes,
        precision: most,
    })
}

/// What is added up on the way through a file.
#[derive(Default)]
struct Look {
    opsets: BTreeMap<String, u64>,
    operators: BTreeSet<String>,
    parameters: u64,
    constant_bytes: u64,
    value_bytes: u64,
    nodes: u64,
    /// Bytes of constants by what they are.
    kinds: BTreeMap<&'static str, u64>,
}

impl Look {
    fn opset(&mut self, message: Message) -> Result<(), WireError> {
        let (mut set, mut version) = ("", 0);
        for field in message.fields() {
            match field? {
                (1, Value::Bytes(name)) => set = name.text(NAME_MAX_BYTES)?,
                (2, Value::Varint(number)) => version = number,
                _ => {}
            }
        }
        let set = if set.is_empty() { STANDARD } else { set };
        self.opsets.insert(set.to_owned(), version);
        match self.opsets.len() > ENTRIES_MAX {
            true => Err(message.wrong("more sets of operators than any honest file has")),
            false => Ok(()),
        }
    }

    fn function(&mut self, message: Message) -> Result<(), WireError> {
        for field in message.fields() {
            if let (7, Value::Bytes(node)) = field? {
                self.node(node, 1)?;
            }
        }
        Ok(())
    }

    fn graph(&mut self, message: Message, depth: usize) -> Result<(), WireError> {
        if depth > DEPTH_MAX {
            return Err(message.wrong("graphs within graphs, deeper than any honest file has"));
        }
        for field in message.fields() {
            match field? {
                (1, Value::Bytes(node)) => self.node(node, depth)?,
                (5, Value::Bytes(tensor)) => self.tensor(tensor)?,
                (11..=13, Value::Bytes(value)) => {
                    let (_, kind) = value_info(value)?;
                    let bytes = kind.and_then(Tensor::bytes).unwrap_or(0);
                    self.value_bytes = self.value_bytes.saturating_add(bytes);
                }
                (15, Value::Bytes(sparse)) => self.sparse(sparse)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, message: Message, depth: usize) -> Result<(), WireError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(message.wrong("more nodes than any honest graph has"));
        }
        let (mut name, mut set) = ("", "");
        for field in message.fields() {
            match field? {
                (4, Value::Bytes(text)) => name = text.text(NAME_MAX_BYTES / 2)?,
                (7, Value::Bytes(text)) => set = text.text(NAME_MAX_BYTES / 2 - 1)?,
                (5, Value::Bytes(attribute)) => {
                    for field in attribute.fields() {
                        match field? {
                            (5 | 10, Value::Bytes(tensor)) => self.tensor(tensor)?,
                            (6 | 11, Value::Bytes(graph)) => self.graph(graph, depth + 1)?,
                            (22 | 23, Value::Bytes(sparse)) => self.sparse(sparse)?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let is_standard = set.is_empty() || set == STANDARD;
        self.operators.insert(if is_standard { name.to_owned() } else { format!("{set}.{name}") });
        match self.operators.len() > ENTRIES_MAX {
            true => Err(message.wrong("more operators than any honest file has")),
            false => Ok(()),
        }
    }

    fn sparse(&mut self, message: Message) -> Result<(), WireError> {
        for field in message.fields() {
            if let (1 | 2, Value::Bytes(tensor)) = field? {
                self.tensor(tensor)?;
            }
        }
        Ok(())
    }

    /// A constant.
    fn tensor(&mut self, message: Message) -> Result<(), WireError> {
        let (mut count, mut element, mut raw) = (1u64, 0, None);
        let (mut stored, mut texts, mut is_outside) = (0u64, 0u64, false);
        for field in message.fields() {
            match field? {
                (1, dims) => {
                    for size in numbers(dims) {
                        let grown = i64::try_from(size?).ok().and_then(|size| count.checked_mul(size as u64));
                        count = grown.ok_or_else(|| message.wrong("a tensor of more than 2^64 numbers"))?;
                    }
                }
                (2, Value::Varint(number)) => element = number,
                (6, _) => texts += 1,
                (4 | 5 | 7 | 10 | 11, value) => {
                    stored += match value {
                        Value::Bytes(packed) => packed.bytes().len() as u64,
                        Value::Varint(_) => 1,
                        Value::Fixed(bytes) => bytes.len() as u64,
                    };
                }
                (9, Value::Bytes(bytes)) => raw = Some(bytes.bytes().len() as u64),
                (14, Value::Varint(1)) | (13, _) => is_outside = true,
                _ => {}
            }
        }
        if is_outside {
            return Err(message.wrong("its numbers lie in another file: save the model as one file"));
        }
        let kind = Element::of(element).ok_or_else(|| message.wrong("a tensor of no known type"))?;
        let bytes = kind.bytes(count).ok_or_else(|| message.wrong("a tensor of more than 2^64 bytes"))?;
        let holds = match raw {
            _ if kind.bits == 0 => count == texts,
            Some(raw) => raw == bytes,
            None => count.div_ceil(2) <= stored, // int4 packs two numbers
        };
        if !holds {
            return Err(message.wrong("a tensor has other bytes than its shape says"));
        }
        self.parameters = self.parameters.saturating_add(count);
        self.constant_bytes = self.constant_bytes.saturating_add(bytes);
        let of_kind = self.kinds.entry(kind.word).or_default();
        *of_kind = of_kind.saturating_add(bytes);
        Ok(())
    }
}

/// The graph's inputs that are no constants, and its outputs.
fn ports(graph: Message) -> Result<(Vec<Port>, Vec<Port>), WireError> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for field in graph.fields() {
        let (list, value) = match field? {
            (11, Value::Bytes(value)) => (&mut inputs, value),
            (12, Value::Bytes(value)) => (&mut outputs, value),
            _ => continue,
        };
        if list.len() >= LISTED_MAX {
            return Err(value.wrong("more inputs or outputs than any honest file has"));
        }
        let (name, tensor) = value_info(value)?;
        let element = tensor.as_ref().map_or("other", |tensor| tensor.element.word).to_owned();
        let shape = tensor.and_then(|tensor| tensor.shape);
        list.push(Port { name: name.to_owned(), element, shape });
    }
    let mut constants = BTreeSet::new();
    for field in graph.fields() {
        if let (5, Value::Bytes(tensor)) = field? {
            for field in tensor.fields() {
                if let (8, Value::Bytes(name)) = field? {
                    constants.insert(name.bytes());
                }
            }
        }
    }
    inputs.retain(|port| !constants.contains(port.name.as_bytes()));
    Ok((inputs, outputs))
}

/// A tensor that is not there yet.
struct Tensor {
    element: Element,
    shape: Option<Vec<Extent>>,
}

impl Tensor {
    /// Its bytes, a free dimension counted once; `None` if even their number is free.
    fn bytes(self) -> Option<u64> {
        let sizes = self.shape?.into_iter().map(|extent| match extent {
            Extent::Fixed(size) => size,
            Extent::Named(_) | Extent::Free => 1,
        });
        self.element.bytes(sizes.fold(1, u64::saturating_mul))
    }
}

/// A name, and what stands behind it if that is a tensor.
fn value_info(message: Message<'_>) -> Result<(&str, Option<Tensor>), WireError> {
    let (mut name, mut tensor) = ("", None);
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => name = text.text(NAME_MAX_BYTES)?,
            (2, Value::Bytes(kind)) => {
                for field in kind.fields() {
                    if let (1, Value::Bytes(message)) = field? {
                        tensor = Some(tensor_type(message)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, tensor))
}

fn tensor_type(message: Message) -> Result<Tensor, WireError> {
    let (mut element, mut shape) = (0, None);
    for field in message.fields() {
        match field? {
            (1, Value::Varint(number)) => element = number,
            (2, Value::Bytes(dims)) => {
                let mut extents = Vec::new();
                for field in dims.fields() {
                    let (1, Value::Bytes(dim)) = field? else { continue };
                    if extents.len() >= ENTRIES_MAX {
                        return Err(dim.wrong("more dimensions than any honest tensor has"));
                    }
                    extents.push(extent(dim)?);
                }
                shape = Some(extents);
            }
            _ => {}
        }
    }
    let element = Element::of(element).ok_or_else(|| message.wrong("a tensor of no known type"))?;
    Ok(Tensor { element, shape })
}

fn extent(message: Message) -> Result<Extent, WireError> {
    let mut extent = Extent::Free;
    for field in message.fields() {
        match field? {
            // Some exporters say -1, or 0, of what is free.
            (1, Value::Varint(size)) if (1..=i64::MAX as u64).contains(&size) => extent = Extent::Fixed(size),
            (2, Value::Bytes(name)) => {
                let name = name.text(NAME_MAX_BYTES)?;
                extent = if name.is_empty() { Extent::Free } else { Extent::Named(name.to_owned()) };
            }
            _ => {}
        }
    }
    Ok(extent)
}

/// What one number of a tensor is.
#[derive(Clone, Copy)]
struct Element {
    word: &'static str,
    /// 0: text, of any length.
    bits: u64,
}

impl Element {
    /// By the number that ONNX gives it.
    fn of(number: u64) -> Option<Element> {
        let (word, bits) = match number {
            1 => ("float32", 32),
            2 => ("uint8", 8),
            3 => ("int8", 8),
            4 => ("uint16", 16),
            5 => ("int16", 16),
            6 => ("int32", 32),
            7 => ("int64", 64),
            8 => ("string", 0),
            9 => ("bool", 8),
            10 => ("float16", 16),
            11 => ("float64", 64),
            12 => ("uint32", 32),
            13 => ("uint64", 64),
            14 => ("complex64", 64),
            15 => ("complex128", 128),
            16 => ("bfloat16", 16),
            17..=20 | 24 => ("float8", 8),
            21 => ("uint4", 4),
            22 => ("int4", 4),
            23 => ("float4", 4),
            _ => return None,
        };
        Some(Element { word, bits })
    }

    /// Bytes of so many.
    fn bytes(self, count: u64) -> Option<u64> {
        Some(count.checked_mul(self.bits)?.div_ceil(8))
    }
}

#[cfg(test)]
mod tests;
