//! Tiny models made here, so that the server is tried with real ones: two blocks, random weights, a vocabulary of bytes.
//!
//! What they write is nonsense, and always the same nonsense; a grammar makes JSON of it.

use std::path::Path;

use kernels::format::Format;
use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings, Value};
use lm::gguf::write::Writer;

/// Positions of the chat model.
pub(crate) const CONTEXT: usize = 1_024;
/// Positions of the encoder.
pub(crate) const SENTENCE: usize = 64;
/// Numbers in a vector of the encoder.
pub(crate) const WIDTH: usize = 64;

const TEMPLATE: &str = "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>\
    <tool_call></tool_call><|im_end|>\n{% endif %}\
    {% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    {% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A file of random weights.
struct Tiny {
    metadata: Metadata,
    /// Names and dimensions, columns first.
    tensors: Vec<(String, Vec<u64>)>,
    seed: u64,
}

impl Tiny {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.set(key, value);
    }

    fn tensor(&mut self, name: String, dims: &[usize]) {
        self.tensors.push((name, dims.iter().map(|dim| *dim as u64).collect()));
    }

    fn write(&self, file: &Path) {
        let mut writer = Writer::new(self.metadata.clone()).unwrap();
        for (name, dims) in &self.tensors {
            writer.tensor(name, dims, Format::F32).unwrap();
        }
        let mut state = self.seed;
        writer
            .write(file, &mut |tensor, sink| {
                let norm = tensor.name.contains("norm") && tensor.name.ends_with(".weight");
                let count: u64 = tensor.dims.iter().product();
                for _ in 0..count {
                    // A linear congruential generator (Knuth's MMIX): any noise will do.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let unit = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                    let number: f32 = if norm { 1.0 + 0.5 * unit } else { 0.35 * unit };
                    sink.write_all(&number.to_le_bytes())?;
                }
                Ok(())
            })
            .unwrap();
    }
}

fn texts(texts: impl IntoIterator<Item = String>) -> Value {
    let mut strings = Strings::with_capacity(0, 0);
    texts.into_iter().for_each(|text| strings.push(&text));
    Value::Array(Array::Strings(strings))
}

/// How byte-level BPE writes a byte: printable ones as themselves, the others from U+0100 on (Radford et al. 2019).
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(*byte)).count();
    char::from_u32(0x100 + before as u32).unwrap()
}

/// A chat model of the family llama whose words are bytes. Another seed is another model.
pub(crate) fn chat(file: &Path, seed: u64) {
    let mut tiny = Tiny { metadata: Metadata::new(), tensors: Vec::new(), seed };
    tiny.set("general.architecture", "llama");
    tiny.set("general.name", "tiny");
    let (width, inner, heads, keys, layers) = (64usize, 96usize, 4usize, 2usize, 2usize);
    for (key, number) in [
        ("context_length", CONTEXT),
        ("embedding_length", width),
        ("feed_forward_length", inner),
        ("block_count", layers),
        ("attention.head_count", heads),
        ("attention.head_count_kv", keys),
        ("rope.dimension_count", width / heads),
    ] {
        tiny.set(&format!("llama.{key}"), number as u32);
    }
    tiny.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let marks = ["<tool_call>", "</tool_call>", "<tools>", "</tools>", "<tool_response>", "</tool_response>"];
    // No merges: each byte is a word of its own.
    let words = (0..=255).map(|byte| letter(byte).to_string());
    let words: Vec<String> =
        words.chain(control.iter().chain(&marks).map(|word| (*word).to_owned())).collect();
    let count = words.len();
    let kinds = (0..count).map(|at| match at {
        0..=255 => 1,
        256..=258 => 3,
        _ => 4,
    });
    tiny.set("tokenizer.ggml.model", "gpt2");
    tiny.set("tokenizer.ggml.pre", "gpt-2");
    tiny.set("tokenizer.ggml.tokens", texts(words));
    tiny.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect())));
    tiny.set("tokenizer.ggml.merges", texts(std::iter::empty()));
    tiny.set("tokenizer.ggml.bos_token_id", 256u32);
    tiny.set("tokenizer.ggml.eos_token_id", 258u32);
    tiny.set("tokenizer.ggml.add_bos_token", false);
    tiny.set("tokenizer.chat_template", TEMPLATE);
    tiny.tensor("token_embd.weight".to_owned(), &[width, count]);
    for layer in 0..layers {
        let mut block = |name: &str, dims: &[usize]| tiny.tensor(format!("blk.{layer}.{name}.weight"), dims);
        block("attn_norm", &[width]);
        block("attn_q", &[width, width]);
        block("attn_k", &[width, width * keys / heads]);
        block("attn_v", &[width, width * keys / heads]);
        block("attn_output", &[width, width]);
        block("ffn_norm", &[width]);
        block("ffn_gate", &[width, inner]);
        block("ffn_up", &[width, inner]);
        block("ffn_down", &[inner, width]);
    }
    tiny.tensor("output_norm.weight".to_owned(), &[width]);
    tiny.tensor("output.weight".to_owned(), &[width, count]);
    tiny.write(file);
}

/// An encoder of the family bert whose words are letters.
pub(crate) fn encoder(file: &Path) {
    let mut tiny = Tiny { metadata: Metadata::new(), tensors: Vec::new(), seed: 3 };
    tiny.set("general.architecture", "bert");
    let (inner, heads, layers) = (128usize, 4usize, 2usize);
    for (key, number) in [
        ("context_length", SENTENCE),
        ("embedding_length", WIDTH),
        ("feed_forward_length", inner),
        ("block_count", layers),
        ("attention.head_count", heads),
        ("pooling_type", 1),
    ] {
        tiny.set(&format!("bert.{key}"), number as u32);
    }
    tiny.set("bert.attention.layer_norm_epsilon", 1e-12f32);
    tiny.set("bert.attention.causal", false);
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = ('!'..='~').flat_map(|letter| [format!("\u{2581}{letter}"), letter.to_string()]);
    let words: Vec<String> = special.into_iter().chain(letters).collect();
    let count = words.len();
    let kinds = (0..count).map(|at| if at < 5 { 3 } else { 1 });
    tiny.set("tokenizer.ggml.model", "bert");
    tiny.set("tokenizer.ggml.pre", "default");
    tiny.set("tokenizer.ggml.token_type_count", 2u32);
    tiny.set("tokenizer.ggml.tokens", texts(words));
    tiny.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect())));
    for (key, id) in [("unknown", 1u32), ("seperator", 3), ("padding", 0), ("cls", 2), ("mask", 4)] {
        tiny.set(&format!("tokenizer.ggml.{key}_token_id"), id);
    }
    tiny.tensor("token_embd.weight".to_owned(), &[WIDTH, count]);
    tiny.tensor("position_embd.weight".to_owned(), &[WIDTH, SENTENCE]);
    tiny.tensor("token_types.weight".to_owned(), &[WIDTH, 2]);
    let both = |tiny: &mut Tiny, name: String, dims: &[usize]| {
        tiny.tensor(format!("{name}.weight"), dims);
        tiny.tensor(format!("{name}.bias"), &dims[dims.len() - 1..]);
    };
    both(&mut tiny, "token_embd_norm".to_owned(), &[WIDTH]);
    for layer in 0..layers {
        for (name, dims) in [
            ("attn_q", &[WIDTH, WIDTH][..]),
            ("attn_k", &[WIDTH, WIDTH]),
            ("attn_v", &[WIDTH, WIDTH]),
            ("attn_output", &[WIDTH, WIDTH]),
            ("attn_output_norm", &[WIDTH]),
            ("ffn_up", &[WIDTH, inner]),
            ("ffn_down", &[inner, WIDTH]),
            ("layer_output_norm", &[WIDTH]),
        ] {
            both(&mut tiny, format!("blk.{layer}.{name}"), dims);
        }
    }
    tiny.write(file);
}
