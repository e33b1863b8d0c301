//! Compression against llama.cpp's own quantiser: every mix, with and without importance, on models of many shapes.
//!
//! `goldens/mixes.txt` is what llama.cpp made of the models in `goldens/models.json`; `peers/compress.py` wrote it. Both
//! sides compute the models' weights from one formula. Always: each tensor gets the same format, and the same bytes.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use forge::compress::{Options, compress};
use forge::importance::Importance;
use forge::mix::{MIXES, Mix};
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use lm::gguf::Gguf;
use lm::gguf::metadata::Metadata;
use lm::gguf::value::Array;
use lm::gguf::value::Strings;
use lm::gguf::write::Writer;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A model as `models.json` describes it.
struct Model {
    name: String,
    arch: String,
    layers: u32,
    heads: (u32, u32),
    cols: u32,
    down: u32,
    parts: String,
    output: bool,
}

/// Rows of every matrix: formats and mixes do not ask for them.
const ROWS: u64 = 2;

impl Model {
    fn all() -> Vec<Model> {
        let text = std::fs::read_to_string(golden("models.json")).expect("the goldens are in the repository");
        let models: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let number =
            |value: &Value| u32::try_from(value.as_u64().expect("a number")).expect("a small number");
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        let read = models.iter().map(|model| Model {
            name: word(&model["name"]),
            arch: word(&model["arch"]),
            layers: number(&model["layers"]),
            heads: (number(&model["heads"][0]), number(&model["heads"][1])),
            cols: number(&model["cols"]),
            down: number(&model["down"]),
            parts: word(&model["parts"]),
            output: model["output"].as_bool().expect("yes or no"),
        });
        read.collect()
    }

    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let (cols, down) = (u64::from(self.cols), u64::from(self.down));
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![cols, ROWS])];
        let mut add = |name: &str, dims: &[u64]| tensors.push((name.to_owned(), dims.to_vec()));
        if self.arch == "bert" {
            add("position_embd.weight", &[cols, ROWS]);
            add("token_types.weight", &[cols, ROWS]);
            add("token_embd_norm.weight", &[cols]);
            add("token_embd_norm.bias", &[cols]);
        } else {
            add("output_norm.weight", &[cols]);
        }
        if self.output {
            add("output.weight", &[cols, ROWS]);
        }
        let mut parts = vec![("attn_output", cols), ("ffn_down", down), ("ffn_up", cols)];
        match self.parts.as_str() {
            "fused" => parts.push(("attn_qkv", cols)),
            _ => parts.extend([("attn_q", cols), ("attn_k", cols), ("attn_v", cols)]),
        }
        if matches!(self.parts.as_str(), "split" | "biases") {
            parts.push(("ffn_gate", cols));
        }
        let biases = matches!(self.parts.as_str(), "biases" | "plain");
        for layer in 0..self.layers {
            for (part, columns) in &parts {
                add(&format!("blk.{layer}.{part}.weight"), &[*columns, ROWS]);
                if biases {
                    add(&format!("blk.{layer}.{part}.bias"), &[ROWS]);
                }
            }
            add(&format!("blk.{layer}.attn_norm.weight"), &[cols]);
        }
        tensors
    }

    fn write(&self, path: &Path) {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", self.arch.as_str());
        let counts = [
            ("context_length", 64),
            ("embedding_length", self.cols),
            ("block_count", self.layers),
            ("feed_forward_length", self.down),
            ("attention.head_count", self.heads.0),
            ("attention.head_count_kv", self.heads.1),
            ("vocab_size", 2),
            ("rope.dimension_count", self.cols / self.heads.0),
            ("attention.sliding_window", 32),
        ];
        for (key, count) in counts {
            metadata.set(&format!("{}.{key}", self.arch), count);
        }
        for key in ["layer_norm_rms_epsilon", "layer_norm_epsilon"] {
            metadata.set(&format!("{}.attention.{key}", self.arch), 1e-5f32);
        }
        metadata.set(&format!("{}.attention.causal", self.arch), self.arch != "bert");
        let numbers = |name: &str, count| fractions(&format!("{}/{name}", self.name), count);
        write_f32(path, metadata, &self.tensors(), &numbers);
    }

    /// Sums of squares over 7 tokens, of every matrix of a block but the last block's way down.
    fn write_importance(&self, path: &Path) {
        let mut metadata = Metadata::new();
        metadata.set("general.type", "imatrix");
        let mut datasets = Strings::default();
        datasets.push("formula.txt");
        metadata.set("imatrix.datasets", Array::Strings(datasets));
        metadata.set("imatrix.chunk_count", 1u32);
        metadata.set("imatrix.chunk_size", 7u32);
        let last = format!("blk.{}.ffn_down.weight", self.layers - 1);
        let tensors = self.tensors();
        let measured = tensors
            .iter()
            .filter(|(name, dims)| name.starts_with("blk.") && dims.len() == 2 && *name != last);
        let tensors: Vec<(String, Vec<u64>)> = measured
            .flat_map(|(name, dims)| {
                [(format!("{name}.in_sum2"), vec![dims[0], 1]), (format!("{name}.counts"), vec![1, 1])]
            })
            .collect();
        let numbers = |name: &str, count| match name.strip_suffix(".in_sum2") {
            Some(name) => {
                let inputs = fractions(&format!("{}/{name}/in", self.name), count);
                inputs.into_iter().map(|x| x * x * 3.0).collect()
            }
            None => vec![7.0],
        };
        write_f32(path, metadata, &tensors, &numbers);
    }
}

fn write_f32(
    path: &Path,
    metadata: Metadata,
    tensors: &[(String, Vec<u64>)],
    numbers: &dyn Fn(&str, u64) -> Vec<f32>,
) {
    let mut writer = Writer::new(metadata).expect("keys are well formed");
    for (name, dims) in tensors {
        writer.tensor(name, dims, Format::F32).expect("names are short");
    }
    let written = writer.write(path, &mut |tensor, sink| {
        let bytes: Vec<u8> =
            numbers(&tensor.name, tensor.len()).iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(sink.write_all(&bytes)?)
    });
    written.expect("the folder can be written");
}

/// `count` numbers from -1 to below 1: SplitMix64 of the name's FNV-1a hash and the index.
fn fractions(name: &str, count: u64) -> Vec<f32> {
    let key = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = |index: u64| {
        let z = key.wrapping_add(index).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// What each part of a model became, layer by layer, after the first 16 digits of its bytes' SHA-256.
fn line(model: &Model, path: &Path) -> String {
    let file = Gguf::open(path).expect("what was written can be read");
    let matrices: Vec<String> =
        model.tensors().into_iter().filter(|(_, dims)| dims.len() == 2).map(|(name, _)| name).collect();
    let layer =
        |name: &str| name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    let mut tensors: Vec<_> = file.tensors().iter().collect();
    tensors.sort_by_key(|tensor| (layer(&tensor.name), tensor.name.clone()));
    let mut digest = Sha256::new();
    let mut found: std::collections::BTreeMap<String, Vec<(String, usize)>> =
        std::collections::BTreeMap::new();
    for tensor in tensors {
        digest.update(file.bytes_of(tensor));
        if !matrices.contains(&tensor.name) {
            continue;
        }
        let stem = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let runs = found.entry(stem.rsplit('.').next().unwrap_or(stem).to_owned()).or_default();
        let format = tensor.format.to_string();
        match runs.last_mut() {
            Some((last, count)) if *last == format => *count += 1,
            _ => runs.push((format, 1)),
        }
    }
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for (part, runs) in found {
        let show = |(format, count): &(String, usize)| match count {
            1 => format.clone(),
            count => format!("{count}*{format}"),
        };
        let text = runs.iter().map(show).collect::<Vec<_>>().join(",");
        match said.iter_mut().find(|(known, _)| *known == text) {
            Some((_, parts)) => parts.push(part),
            None => said.push((text, vec![part])),
        }
    }
    let mut line: String = digest.finalize()[..8].iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take all");
        hex
    });
    for (text, parts) in said {
        write!(line, " {}={text}", parts.join("+")).expect("strings take all");
    }
    line
}

#[test]
fn every_mix_makes_what_llama_cpp_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, matrix, to) =
        (folder.path().join("in.gguf"), folder.path().join("imatrix.gguf"), folder.path().join("out.gguf"));
    let compute = Compute::new(Isa::best(), NonZeroUsize::new(2).expect("two is not zero"));
    let mut made = String::new();
    for model in Model::all() {
        model.write(&source);
        model.write_importance(&matrix);
        let file = Gguf::open(&source).expect("what was written can be read");
        let importance = Importance::open(&matrix).expect("what was written can be read");
        for (name, _, mix) in MIXES {
            let weighings = match mix {
                Mix::F32 | Mix::F16 | Mix::BF16 => &[("plain", None)][..],
                _ => &[("plain", None), ("weighed", Some(&importance))],
            };
            for (how, importance) in weighings {
                let options = Options { mix, importance: *importance, again: false };
                compress(&compute, &file, &to, &options, &mut |_| ())
                    .unwrap_or_else(|error| panic!("{} {name}: {error:?}", model.name));
                writeln!(made, "{} {name} {how} {}", model.name, line(&model, &to))
                    .expect("strings take all");
            }
        }
    }
    let expected = std::fs::read_to_string(golden("mixes.txt")).expect("the goldens are in the repository");
    let wrong: Vec<String> = made
        .lines()
        .zip(expected.lines())
        .filter(|(made, expected)| made != expected)
        .map(|(made, expected)| format!("made     {made}\nexpected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(made.lines().count(), expected.lines().count());
}

/// Asks llama.cpp again, where its source (`SELVEDGE_LLAMA_CPP`) and wheel are at hand.
#[test]
fn the_goldens_are_what_llama_cpp_makes_today() {
    let Some(source) = std::env::var_os("SELVEDGE_LLAMA_CPP") else {
        eprintln!("skipped: llama.cpp's quantiser: SELVEDGE_LLAMA_CPP names no source");
        return;
    };
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/compress.py");
    let known = Command::new(&python).args(["-c", "import gguf, numpy, xllamacpp"]).output();
    if !known.is_ok_and(|known| known.status.success()) {
        eprintln!("skipped: llama.cpp's quantiser: {} lacks gguf, numpy or xllamacpp", python.display());
        return;
    }
    let checked =
        Command::new(&python).arg(script).arg(source).arg("--check").arg(golden("mixes.txt")).output();
    let checked = checked.expect("python runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
