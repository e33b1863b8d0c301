//! LoRA: an adapter beside the weights gives what the same adapter merged into the weights gives, also in a batch with
//! sequences that have another or none; what does not fit is refused by name.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use kernels::page::CacheFormat;
use lm::adapter::{Adapter, AdapterError};
use lm::forward::{Part, Scratch, Wanted};
use lm::gguf::Gguf;
use lm::gguf::metadata::Metadata;
use lm::gguf::write::Writer;
use lm::network::Network;
use lm::specimen::Specimen;

const RANK: usize = 4;
const ALPHA: f32 = 8.0;
const TOKENS: [u32; 9] = [1, 17, 300, 42, 42, 7, 261, 99, 5];

type Numbers = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

fn file(metadata: Metadata, tensors: &Numbers) -> Gguf {
    let mut writer = Writer::new(metadata).expect("metadata");
    for (name, (dims, _)) in tensors {
        writer.tensor(name, dims, Format::F32).expect("a tensor");
    }
    let mut bytes = Vec::new();
    let mut numbers = tensors.values();
    let mut data = |_: &lm::gguf::tensor::Tensor, sink: &mut dyn std::io::Write| {
        let (_, numbers) = numbers.next().ok_or("no more tensors")?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(sink.write_all(&bytes)?)
    };
    writer.write_to(&mut bytes, &mut data).expect("written");
    Gguf::parse(Bytes::from(bytes)).expect("read")
}

fn wave(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|index| 0.2 * (seed + index as f32 * 0.7).sin()).collect()
}

/// Low-rank parts for these linears of a specimen: `A: [RANK, in]`, `B: [out, RANK]`.
fn parts(model: &Gguf, linears: &[&str], seed: f32) -> Numbers {
    let mut tensors = Numbers::new();
    for (name, seed) in linears.iter().zip((0..).map(|index| seed + index as f32)) {
        let tensor = model.tensor(&format!("{name}.weight")).expect("a linear of the model");
        let (cols, rows) = (tensor.columns(), tensor.rows());
        let a = wave(cols as usize * RANK, seed);
        let b = wave(rows as usize * RANK, seed + 0.5);
        tensors.insert(format!("{name}.weight.lora_a"), (vec![cols, RANK as u64], a));
        tensors.insert(format!("{name}.weight.lora_b"), (vec![RANK as u64, rows], b));
    }
    tensors
}

fn adapter_metadata() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.type", "adapter");
    metadata.set("general.architecture", "llama");
    metadata.set("adapter.type", "lora");
    metadata.set("adapter.lora.alpha", ALPHA);
    metadata
}

/// The model with the adapter's product added to its weights.
fn merged(model: &Gguf, adapter: &Numbers, scale: f32) -> Gguf {
    let mut tensors = Numbers::new();
    for tensor in model.tensors() {
        let mut numbers = vec![0.0; tensor.len() as usize];
        Format::F32.decode(&model.bytes_of(tensor), &mut numbers);
        if let Some((_, a)) = adapter.get(&format!("{}.lora_a", tensor.name)) {
            let (_, b) = &adapter[&format!("{}.lora_b", tensor.name)];
            let cols = tensor.columns() as usize;
            for (row, numbers) in numbers.chunks_exact_mut(cols).enumerate() {
                for (col, number) in numbers.iter_mut().enumerate() {
                    let product: f32 =
                        (0..RANK).map(|rank| b[row * RANK + rank] * a[rank * cols + col]).sum();
                    *number += scale * ALPHA / RANK as f32 * product;
                }
            }
        }
        tensors.insert(tensor.name.clone(), (tensor.dims.clone(), numbers));
    }
    file(model.metadata().clone(), &tensors)
}

fn network(file: &Gguf) -> Network {
    let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::new(2).expect("two")));
    Network::load(file, compute).expect("a model")
}

fn logits(network: &Network, adapters: &[Option<&Adapter>]) -> Vec<Vec<f32>> {
    let pages = network.page_shape(CacheFormat::F32).expect("pages");
    let mut caches: Vec<_> = adapters.iter().map(|_| network.sequence(pages, TOKENS.len())).collect();
    let mut parts: Vec<Part> = adapters
        .iter()
        .zip(&mut caches)
        .map(|(adapter, cache)| Part { tokens: &TOKENS, cache, adapter: *adapter, wanted: Wanted::All })
        .collect();
    let logits = network.step(&mut Scratch::default(), &mut parts).expect("a step");
    logits.chunks_exact(TOKENS.len() * network.shape().vocabulary).map(<[f32]>::to_vec).collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Rounding of one sum in two orders; logits are around 1.
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn beside_the_weights_is_as_good_as_merged_into_them() {
    let model = Specimen::SMALL.gguf().expect("a specimen");
    let plain = network(&model);
    let all = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let all: Vec<String> = (0..2).flat_map(|layer| all.map(|part| format!("blk.{layer}.{part}"))).collect();
    let first = parts(&model, &all.iter().map(String::as_str).collect::<Vec<_>>(), 0.0);
    let second = parts(&model, &["blk.1.attn_q", "blk.0.ffn_down"], 9.0);
    let one = plain.adapter(&file(adapter_metadata(), &first), 1.0).expect("an adapter");
    let other = plain.adapter(&file(adapter_metadata(), &second), 0.5).expect("an adapter");
    assert_eq!((one.len(), other.len()), (14, 2));
    let expected = [
        logits(&network(&merged(&model, &first, 1.0)), &[None]).remove(0),
        logits(&plain, &[None]).remove(0),
        logits(&network(&merged(&model, &second, 0.5)), &[None]).remove(0),
    ];
    let found = logits(&plain, &[Some(&one), None, Some(&other)]);
    for (found, expected) in found.iter().zip(&expected) {
        assert_close(found, expected);
    }
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 0.05);
    assert!(
        far(&expected[0], &expected[1]) && far(&expected[2], &expected[1]),
        "the adapters change nothing"
    );
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = Specimen::SMALL.gguf().expect("a specimen");
    let plain = network(&model);
    let good = parts(&model, &["blk.0.attn_q"], 0.0);
    let try_load = |metadata: Metadata, tensors: &Numbers| match plain.adapter(&file(metadata, tensors), 1.0)
    {
        Ok(_) => panic!("an adapter that should be refused was taken"),
        Err(error) => error,
    };
    let changed = |change: fn(&mut Numbers)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        try_load(adapter_metadata(), &tensors).to_string()
    };
    let mut other = adapter_metadata();
    other.set("general.architecture", "qwen2");
    assert!(matches!(try_load(other, &good), AdapterError::OtherFamily { .. }));
    let mut model_file = adapter_metadata();
    model_file.set("general.type", "model");
    assert!(matches!(try_load(model_file, &good), AdapterError::NotAnAdapter { .. }));
    let half = changed(|tensors| drop(tensors.remove("blk.0.attn_q.weight.lora_b")));
    assert!(half.contains("`blk.0.attn_q.weight.lora_b` is missing"), "{half}");
    let wide = changed(|tensors| {
        let (dims, numbers) = tensors.get_mut("blk.0.attn_q.weight.lora_b").expect("there");
        dims[1] -= 1;
        numbers.truncate(dims[1] as usize * RANK);
    });
    assert!(wide.contains("should be"), "{wide}");
    let nowhere = changed(|tensors| {
        let moved: Numbers = std::mem::take(tensors)
            .into_iter()
            .map(|(name, numbers)| (name.replace("blk.0", "blk.7"), numbers))
            .collect();
        *tensors = moved;
    });
    assert!(nowhere.contains("`blk.7.attn_q`, which this model does not have"), "{nowhere}");
    let stray =
        changed(|tensors| drop(tensors.insert("blk.0.attn_q.bias".into(), (vec![64], vec![0.0; 64]))));
    assert!(stray.contains("blk.0.attn_q.bias"), "{stray}");
}
