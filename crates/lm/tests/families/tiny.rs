//! A tiny model as a GGUF file in memory.
//!
//! Written here byte by byte rather than by `lm::gguf`, so that a mistake in its writer cannot undo one in its reader.

use std::collections::BTreeMap;

use kernels::format::Format;
use serde_json::Value;

use crate::formula;
use crate::golden::Golden;

/// Where tensors lie: GGUF's default alignment.
const ALIGNMENT: usize = 32;

/// A tiny model, to be written as a file.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
struct Tensor {
    /// Rows first.
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl Tensor {
    /// The linear layers and the embedding of tokens: what quantisers quantise.
    fn is_matrix(&self, name: &str) -> bool {
        self.shape.len() == 2 && !matches!(name, "position_embd.weight" | "token_types.weight")
    }

    fn cols(&self) -> usize {
        *self.shape.last().expect("a tensor has a dimension")
    }
}

impl Tiny {
    /// The model that the golden's engines were asked about.
    pub(crate) fn of(golden: &Golden) -> Tiny {
        let mut tiny = Tiny::with_weights(golden, &golden.metadata, &golden.tensors);
        for (name, numbers) in golden.literals() {
            tiny.tensors.insert(name.to_owned(), Tensor { shape: vec![numbers.len()], numbers });
        }
        tiny
    }

    /// The adapter that they applied to it.
    pub(crate) fn adapter_of(golden: &Golden) -> Option<Tiny> {
        let adapter = golden.adapter.as_ref()?;
        Some(Tiny::with_weights(golden, &adapter.metadata, &adapter.tensors))
    }

    fn with_weights(
        golden: &Golden,
        metadata: &BTreeMap<String, Value>,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Tiny {
        let tensors = shapes.iter().map(|(name, shape)| {
            let count = shape.iter().product();
            let numbers = formula::weights(&golden.name, golden.family(), name, count);
            (name.clone(), Tensor { shape: shape.clone(), numbers })
        });
        Tiny { metadata: metadata.clone(), tensors: tensors.collect() }
    }

    /// Whether every matrix comes in whole blocks of the format.
    pub(crate) fn fits(&self, format: Format) -> bool {
        let mut matrices = self.tensors.iter().filter(|(name, tensor)| tensor.is_matrix(name));
        matrices.all(|(_, tensor)| tensor.cols().is_multiple_of(format.block_len()))
    }

    /// The same model with the weights that remain of its matrices in `format`.
    pub(crate) fn rounded(&self, format: Format) -> Tiny {
        let mut rounded = self.clone();
        for (name, tensor) in &mut rounded.tensors {
            if tensor.is_matrix(name) {
                let bytes = encode(format, &tensor.numbers);
                format.decode(&bytes, &mut tensor.numbers);
            }
        }
        rounded
    }

    /// The same model with queries, keys and values of each block in one tensor, as some converters write them.
    pub(crate) fn fused(&self) -> Tiny {
        let mut fused = self.clone();
        for end in ["weight", "bias"] {
            for block in 0.. {
                let name = |part: &str| format!("blk.{block}.attn_{part}.{end}");
                let Some(mut whole) = fused.tensors.remove(&name("q")) else { break };
                for part in ["k", "v"] {
                    let part = fused.tensors.remove(&name(part)).expect("queries come with keys and values");
                    whole.shape[0] += part.shape[0];
                    whole.numbers.extend(part.numbers);
                }
                fused.tensors.insert(name("qkv"), whole);
            }
        }
        fused
    }

    /// The file, with matrices in `format` and everything else in f32.
    pub(crate) fn file(&self, format: Format) -> Vec<u8> {
        let mut infos = Vec::new();
        let mut data = Vec::new();
        for (name, tensor) in &self.tensors {
            let format = if tensor.is_matrix(name) { format } else { Format::F32 };
            text(&mut infos, name);
            infos.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|dim| infos.extend((*dim as u64).to_le_bytes()));
            infos.extend(number_of(format).to_le_bytes());
            infos.extend((data.len() as u64).to_le_bytes());
            data.extend(encode(format, &tensor.numbers));
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut file, key);
            entry(&mut file, value);
        }
        file.extend(infos);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(data);
        file
    }
}

fn encode(format: Format, numbers: &[f32]) -> Vec<u8> {
    let bytes = format.row_bytes(numbers.len()).expect("whole blocks: `fits` was asked");
    let mut out = vec![0; bytes];
    format.encode(numbers, None, &mut out).expect("a format that can be encoded");
    out
}

/// ggml's number of a format.
fn number_of(format: Format) -> u32 {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q4_1 => 3,
        Format::Q5_0 => 6,
        Format::Q5_1 => 7,
        Format::Q8_0 => 8,
        Format::Q2K => 10,
        Format::Q3K => 11,
        Format::Q4K => 12,
        Format::Q5K => 13,
        Format::Q6K => 14,
        Format::Q8K => 15,
        Format::IQ4NL => 20,
        Format::IQ4XS => 23,
        Format::BF16 => 30,
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value with its type before it. Whole numbers are u32 alone and i32 in arrays, others f32, as gguf-py has them.
fn entry(out: &mut Vec<u8>, value: &Value) {
    let mut tagged = |tag: u32, bytes: &[u8]| {
        out.extend(tag.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Bool(truth) => tagged(7, &[u8::from(*truth)]),
        Value::Number(number) => match number.as_u64() {
            Some(number) => tagged(4, &u32::try_from(number).expect("counts are small").to_le_bytes()),
            None => tagged(6, &(number.as_f64().expect("JSON") as f32).to_le_bytes()),
        },
        Value::String(string) => {
            tagged(8, &[]);
            text(out, string);
        }
        Value::Array(items) => {
            tagged(9, &[]);
            let tag: u32 = if items[0].is_string() {
                8
            } else if items[0].is_u64() {
                5
            } else {
                6
            };
            out.extend(tag.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                match tag {
                    8 => text(out, item.as_str().expect("an array of text")),
                    5 => {
                        out.extend(
                            i32::try_from(item.as_i64().expect("whole")).expect("small").to_le_bytes(),
                        );
                    }
                    _ => out.extend((item.as_f64().expect("a number") as f32).to_le_bytes()),
                }
            }
        }
        Value::Null | Value::Object(_) => panic!("GGUF has no {value}"),
    }
}
