//! A tiny model that this test makes: a llama of two layers with arbitrary weights and a vocabulary of words, so that
//! whatever it writes can be read.

use std::path::Path;

use kernels::format::Format;
use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings};
use lm::gguf::write::Writer;

const WIDTH: u64 = 256;
const FEED_FORWARD: u64 = 512;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const LAYERS: u32 = 2;
pub(crate) const CONTEXT: u32 = 256;

/// The format of chatml, short enough to be read.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What the model should have beside its weights.
#[derive(Clone, Copy)]
pub(crate) struct Tiny {
    pub(crate) template: bool,
    pub(crate) seed: u64,
}

/// One with a chat template.
pub(crate) const CHATS: Tiny = Tiny { template: true, seed: 1 };

/// One that continues text.
pub(crate) const CONTINUES: Tiny = Tiny { template: false, seed: 1 };

fn words(tiny: Tiny) -> Vec<String> {
    // Marks that give no format away.
    let marks = if tiny.template { ["<|im_start|>", "<|im_end|>"] } else { ["<one>", "<two>"] };
    let mut words: Vec<String> =
        ["<unk>", "<s>", "</s>", marks[0], marks[1], "<0x0A>"].map(str::to_owned).into();
    words.push("▁".to_owned());
    words.extend(('a'..='z').map(String::from));
    words.extend(('0'..='9').map(String::from));
    words.extend([".", ",", "?", "{", "}", "\"", ":"].map(str::to_owned));
    // Each can be reached by merging two that stand before it.
    words.extend(
        ["th", "the", "▁the", "pu", "mp", "pump", "▁pump", "ru", "ns", "runs", "▁runs"].map(str::to_owned),
    );
    words
}

fn metadata(tiny: Tiny) -> Metadata {
    let mut metadata = Metadata::new();
    let words = words(tiny);
    let mut tokens = Strings::default();
    words.iter().for_each(|word| tokens.push(word));
    // Longer pieces first, as a trained vocabulary has it.
    let scores = words.iter().map(|word| word.chars().count() as f32).collect();
    let kind = |word: &String| match word.as_str() {
        "<unk>" => 2,
        word if word.starts_with("<0x") => 6,
        word if word.starts_with('<') => 3,
        _ => 1,
    };
    metadata.set("general.architecture", "llama");
    metadata.set("general.name", "Tiny");
    metadata.set("general.license", "apache-2.0");
    metadata.set("general.file_type", 1_u32);
    metadata.set("llama.context_length", CONTEXT);
    metadata.set("llama.embedding_length", WIDTH as u32);
    metadata.set("llama.block_count", LAYERS);
    metadata.set("llama.feed_forward_length", FEED_FORWARD as u32);
    metadata.set("llama.attention.head_count", HEADS);
    metadata.set("llama.attention.head_count_kv", KV_HEADS);
    metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    metadata.set("tokenizer.ggml.model", "llama");
    metadata.set("tokenizer.ggml.scores", Array::F32(scores));
    metadata.set("tokenizer.ggml.token_type", Array::I32(words.iter().map(kind).collect()));
    metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
    metadata.set("tokenizer.ggml.bos_token_id", 1_u32);
    metadata.set("tokenizer.ggml.eos_token_id", 2_u32);
    metadata.set("tokenizer.ggml.unknown_token_id", 0_u32);
    metadata.set("tokenizer.ggml.add_bos_token", true);
    if tiny.template {
        metadata.set("tokenizer.chat_template", TEMPLATE);
    }
    metadata
}

impl Tiny {
    /// Writes it in F16, norms in F32.
    pub(crate) fn write(self, path: &Path) {
        let vocabulary = words(self).len() as u64;
        let keys = WIDTH / u64::from(HEADS) * u64::from(KV_HEADS);
        let mut writer = Writer::new(metadata(self)).unwrap();
        let mut matrix =
            |name: &str, cols: u64, rows: u64| writer.tensor(name, &[cols, rows], Format::F16).unwrap();
        matrix("token_embd.weight", WIDTH, vocabulary);
        matrix("output.weight", WIDTH, vocabulary);
        for layer in 0..LAYERS {
            matrix(&format!("blk.{layer}.attn_q.weight"), WIDTH, WIDTH);
            matrix(&format!("blk.{layer}.attn_k.weight"), WIDTH, keys);
            matrix(&format!("blk.{layer}.attn_v.weight"), WIDTH, keys);
            matrix(&format!("blk.{layer}.attn_output.weight"), WIDTH, WIDTH);
            matrix(&format!("blk.{layer}.ffn_gate.weight"), WIDTH, FEED_FORWARD);
            matrix(&format!("blk.{layer}.ffn_up.weight"), WIDTH, FEED_FORWARD);
            matrix(&format!("blk.{layer}.ffn_down.weight"), FEED_FORWARD, WIDTH);
        }
        writer.tensor("output_norm.weight", &[WIDTH], Format::F32).unwrap();
        for layer in 0..LAYERS {
            writer.tensor(&format!("blk.{layer}.attn_norm.weight"), &[WIDTH], Format::F32).unwrap();
            writer.tensor(&format!("blk.{layer}.ffn_norm.weight"), &[WIDTH], Format::F32).unwrap();
        }
        // xorshift64 (Marsaglia 2003): arbitrary, and the same on every machine.
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut any = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let written = writer.write(path, &mut |tensor, sink| {
            let numbers: Vec<f32> = match tensor.format.known() {
                Some(Format::F32) => vec![1.0; tensor.len() as usize],
                _ => (0..tensor.len()).map(|_| any() * 0.25).collect(),
            };
            let format = tensor.format.known().ok_or("a format of ours")?;
            let mut bytes = vec![0; tensor.bytes as usize];
            format.encode(&numbers, None, &mut bytes)?;
            Ok(sink.write_all(&bytes)?)
        });
        written.unwrap();
    }
}
