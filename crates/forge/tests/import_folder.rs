//! Folders made by hand become GGUF files, or are refused with the reason; no Python is needed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::error::Error;
use std::path::Path;

use forge::import::{Import, Imported, Options, import};
use kernels::format::Format;
use lm::gguf::Gguf;
use serde_json::{Value, json};

/// A folder to be: JSON files, and tensors with their shapes.
#[derive(Clone)]
struct Made {
    files: Vec<(&'static str, Value)>,
    tensors: Vec<(String, &'static str, Vec<u64>)>,
}

/// A llama of one block: 2 heads of 4 for queries, 1 for keys, 6 tokens, in bfloat16.
fn llama() -> Made {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 6, "bos_token_id": 0,
    });
    let tokenizer = json!({
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"id": 3, "content": "<|x|>", "special": false}],
    });
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = [
        ("model.embed_tokens.weight".to_owned(), vec![7, 8]),
        ("model.norm.weight".to_owned(), vec![8]),
        (layer("input_layernorm"), vec![8]),
        (layer("post_attention_layernorm"), vec![8]),
        (layer("self_attn.q_proj"), vec![8, 8]),
        (layer("self_attn.k_proj"), vec![4, 8]),
        (layer("self_attn.v_proj"), vec![4, 8]),
        (layer("self_attn.o_proj"), vec![8, 8]),
        (layer("mlp.gate_proj"), vec![12, 8]),
        (layer("mlp.up_proj"), vec![12, 8]),
        (layer("mlp.down_proj"), vec![8, 12]),
    ];
    Made {
        files: vec![("config.json", config), ("tokenizer.json", tokenizer)],
        tensors: tensors.into_iter().map(|(name, shape)| (name, "BF16", shape)).collect(),
    }
}

impl Made {
    fn config(mut self, change: &str, value: Value) -> Made {
        self.files[0].1[change] = value;
        self
    }

    fn file(mut self, name: &'static str, content: Value) -> Made {
        self.files.retain(|(known, _)| *known != name);
        self.files.push((name, content));
        self
    }

    fn without(mut self, name: &str) -> Made {
        self.files.retain(|(known, _)| *known != name);
        self.tensors.retain(|(known, ..)| known != name);
        self
    }

    fn tensor(mut self, name: &str, dtype: &'static str, shape: &[u64]) -> Made {
        self.tensors.retain(|(known, ..)| known != name);
        self.tensors.push((name.to_owned(), dtype, shape.to_vec()));
        self
    }

    /// Writes the folder. Each number of a tensor is the index of its row, all small enough to be exact everywhere.
    fn write(&self, folder: &Path) {
        for (name, content) in &self.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.to_string()).unwrap();
        }
        let (mut table, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape) in &self.tensors {
            let start = data.len();
            let columns = if shape.len() > 1 { shape[1..].iter().product() } else { 1_u64 };
            for index in 0..shape.iter().product::<u64>() {
                let number = (index / columns) as f32;
                match *dtype {
                    "F32" => data.extend(number.to_le_bytes()),
                    "F16" => data.extend(half::f16::from_f32(number).to_le_bytes()),
                    "BF16" => data.extend(half::bf16::from_f32(number).to_le_bytes()),
                    _ => data.push(0),
                }
            }
            table.insert(
                name.clone(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}),
            );
        }
        let table = Value::Object(table).to_string();
        let mut bytes = (table.len() as u64).to_le_bytes().to_vec();
        bytes.extend(table.as_bytes());
        bytes.extend(data);
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    }

    fn import(&self, format: Option<Format>) -> Result<(Imported, Gguf), String> {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("my-tiny-model");
        std::fs::create_dir(&folder).unwrap();
        self.write(&folder);
        let out = place.path().join("out.gguf");
        let (mut seen, mut last) = (0, 0);
        let imported = import(&folder, &out, &Options { format, name: None }, &mut |progress| {
            assert!(progress.done_bytes >= last && progress.done_bytes < progress.total_bytes);
            (seen, last) = (seen + 1, progress.done_bytes);
        });
        match imported {
            Ok(imported) => {
                assert_eq!(seen, imported.tensors);
                Ok((imported, Gguf::read(&out).unwrap()))
            }
            Err(error) => {
                assert!(!out.exists(), "a refused import leaves nothing");
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(inner) = cause {
                    text = format!("{text}: {inner}");
                    cause = inner.source();
                }
                Err(text.replace(&format!("{}/", folder.display()), ""))
            }
        }
    }
}

/// The numbers of a tensor.
fn numbers(gguf: &Gguf, name: &str) -> Vec<f32> {
    let tensor = gguf.tensor(name).unwrap();
    let mut out = vec![0.0; usize::try_from(tensor.len()).unwrap()];
    tensor.format.known().unwrap().decode(&gguf.bytes_of(tensor), &mut out);
    out
}

#[test]
fn a_folder_becomes_a_file() {
    for (format, matrices) in [(None, "BF16"), (Some(Format::F32), "F32"), (Some(Format::F16), "F16")] {
        let (imported, gguf) = llama().import(format).unwrap();
        assert_eq!((imported.family, imported.format.name(), imported.tensors), ("llama", matrices, 11));
        assert_eq!(imported.file_bytes, gguf.file_bytes());
        assert!(imported.notes.is_empty());
        // Two heads of four rows each: halves become pairs. The embedding is cut to six tokens.
        let rows = |name: &str| numbers(&gguf, name).chunks_exact(8).map(|row| row[0]).collect::<Vec<_>>();
        assert_eq!(rows("blk.0.attn_q.weight"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(rows("blk.0.attn_k.weight"), [0.0, 2.0, 1.0, 3.0]);
        assert_eq!(rows("blk.0.attn_v.weight"), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(rows("token_embd.weight").len(), 6);
        assert_eq!(gguf.tensor("output_norm.weight").unwrap().format.to_string(), "F32");
        let metadata = gguf.metadata();
        assert_eq!(metadata.string("general.name"), Ok("My Tiny Model"));
        assert_eq!(metadata.u32("llama.attention.key_length"), Ok(4));
        assert_eq!(metadata.f32("llama.rope.freq_base"), Ok(10_000.0));
        assert_eq!(metadata.string("tokenizer.ggml.pre"), Ok("gpt-2"));
        let tokens: Vec<&str> = metadata.strings("tokenizer.ggml.tokens").unwrap().iter().collect();
        assert_eq!(tokens, ["a", "b", "ab", "<|x|>", "[PAD4]", "[PAD5]"]);
        assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap()[..], [1, 1, 1, 3, 5, 5]);
    }
}

#[test]
fn rows_that_are_no_whole_blocks_stay_f16() {
    let (imported, gguf) = llama().import(Some(Format::Q8_0)).unwrap();
    assert_eq!(imported.format, Format::Q8_0);
    assert_eq!(gguf.tensor("blk.0.ffn_up.weight").unwrap().format.known(), Some(Format::F16));
}

#[test]
fn what_gguf_cannot_say_is_told() {
    let mistral =
        llama().config("architectures", json!(["MistralForCausalLM"])).config("sliding_window", json!(16));
    let (imported, _) = mistral.clone().import(None).unwrap();
    assert!(
        imported.notes[0].starts_with("its attention window of 16 positions is not kept"),
        "{:?}",
        imported.notes
    );
    let (imported, _) = mistral.config("max_position_embeddings", json!(16)).import(None).unwrap();
    assert!(imported.notes.is_empty());
}

#[test]
fn what_cannot_become_a_model_is_refused_with_the_reason() {
    let query = "model.layers.0.self_attn.q_proj.weight";
    let bert = json!({"architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 2,
        "intermediate_size": 12, "vocab_size": 6});
    let pooled = |kind: Value| {
        let mut made = llama()
            .file("config.json", bert.clone())
            .file("modules.json", json!([{"type": "x.Pooling", "path": "1_P"}]));
        made.tensors.clear();
        for name in ["word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"] {
            made = made.tensor(&format!("embeddings.{name}.weight"), "F32", &[6, 8]);
        }
        made.file("1_P/config.json", kind)
    };
    let gallery = [
        (
            llama().without("config.json"),
            "config.json is missing: is this the folder of a Hugging Face model?",
        ),
        (llama().file("config.json", json!([])), "config.json cannot be understood: invalid type"),
        (
            llama().config("architectures", json!(["MambaForCausalLM"])),
            "the architecture \"MambaForCausalLM\" is not supported",
        ),
        (
            llama().config("hidden_size", json!(-1)),
            "config.json says \"hidden_size\" is -1, wanted is a count",
        ),
        (
            llama().config("num_attention_heads", json!(0)),
            "the tensor \"model.layers.0.self_attn.q_proj.weight\" has the shape",
        ),
        (
            llama().config("num_attention_heads", json!(3)),
            "the tensor \"model.layers.0.self_attn.q_proj.weight\" has the shape",
        ),
        (
            llama().config("num_hidden_layers", json!(u32::MAX)),
            "the tensor that becomes \"blk.1.attn_q.weight\" is missing",
        ),
        (
            llama().config("vocab_size", json!(8)),
            "the tensor \"token_embd.weight\" has the shape [7], which does not fit config.json: vocab_size",
        ),
        (
            llama().config("vocab_size", json!(3)),
            "the token \"<|x|>\" has the id 3, but the model has only 3 tokens",
        ),
        (
            llama().config("rope_scaling", json!({"type": "llama3"})).config("head_dim", json!(u32::MAX)),
            "config.json says \"head_dim\" is 4294967295",
        ),
        (
            llama().config("rope_scaling", json!({"type": "dynamic"})),
            "the rope scaling \"dynamic\" is not supported",
        ),
        (llama().without("tokenizer.json"), "the folder has neither tokenizer.json nor tokenizer.model"),
        (llama().without("model.norm.weight"), "the tensor that becomes \"output_norm.weight\" is missing"),
        (
            llama().tensor("base_model.model.lora_A.weight", "F32", &[1, 8]),
            "a llama model has no tensor \"base_model.model.lora_A.weight\": the folder holds another kind of model, or an adapter",
        ),
        (
            llama().tensor(query, "F8_E4M3", &[8, 8]),
            "the tensor \"model.layers.0.self_attn.q_proj.weight\" has numbers of type F8_E4M3",
        ),
        (
            llama().tensor(query, "F32", &[2, 4, 8]),
            "the tensor \"model.layers.0.self_attn.q_proj.weight\" has the shape [2, 4, 8]",
        ),
        (
            llama().tensor(query, "F32", &[]),
            "the tensor \"model.layers.0.self_attn.q_proj.weight\" has the shape []",
        ),
        (llama().tensor(query, "F32", &[0, 8]), "dimension 1 of the tensor \"blk.0.attn_q.weight\" is zero"),
        (pooled(json!({"pooling_mode_max_tokens": true})), "the pooling of the folder is not supported"),
    ];
    for (made, expected) in gallery {
        let error = made.import(None).map(|(imported, _)| imported).unwrap_err();
        assert!(error.starts_with(expected), "expected: {expected}\n   found: {error}");
    }
    let error = llama().import(Some(Format::Q4K)).map(|(imported, _)| imported).unwrap_err();
    assert!(error.starts_with("a folder cannot be imported as Q4_K; F32, F16, BF16 and Q8_0 can"), "{error}");
}

#[test]
fn weights_are_not_held_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let up = "model.layers.0.mlp.up_proj.weight";
    let large = llama().tensor(up, "BF16", &[100_000, 64]);
    large.write(place.path());
    let counted = allocation_counter::measure(|| {
        let import = Import::open(place.path(), &Options { format: Some(Format::F32), name: None }).unwrap();
        import.write(&place.path().join("out.gguf"), &mut |_| ()).unwrap();
    });
    // 13 MB come in and 26 go out. What is held is the writer's buffer of 1 MiB and the tables of the folder.
    assert!(counted.bytes_max < 2 << 20, "{} bytes", counted.bytes_max);
}
