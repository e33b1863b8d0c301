//! A model made from a seed: any shape, random weights, a vocabulary of bytes and a few words.
//!
//! It says nothing worth reading, but it is a whole model: it loads, writes, streams, follows grammars and has a chat
//! template. Tests of whatever stands on a model use a small one; benches use one of a real model's shape, as speed does
//! not depend on what the weights are. Weights are a hash of seed, tensor and index, so the same specimen is made
//! everywhere.

use std::io::{self, Write};

use bytes::Bytes;
use kernels::format::Format;

use crate::gguf::metadata::Metadata;
use crate::gguf::tensor::Tensor;
use crate::gguf::value::{Array, Strings};
use crate::gguf::write::{WriteError, Writer};
use crate::gguf::{Gguf, GgufError};

/// The shape of a model to be made. It is of the family `llama`.
#[derive(Clone, Debug, PartialEq)]
pub struct Specimen {
    /// What it is called.
    pub name: &'static str,
    /// Other seeds give other weights.
    pub seed: u64,
    /// Numbers in the state of a token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of queries, and of keys and values.
    pub heads: (usize, usize),
    /// Numbers in the middle of the feed-forward block.
    pub feed_forward: usize,
    /// Tokens; at least [`LEAST_VOCABULARY`].
    pub vocabulary: usize,
    /// Positions.
    pub context: usize,
    /// The format of its matrices; the embedding, which is the output too, in `output_format`.
    pub format: Format,
    /// The format of the embedding.
    pub output_format: Format,
    /// Its chat template.
    pub template: &'static str,
}

/// Control tokens, bytes and words that every specimen has.
pub const LEAST_VOCABULARY: usize = CONTROL.len() + 256 + WORDS.len();

/// Control tokens: unknown, beginning, end, and those of ChatML.
const CONTROL: [&str; 5] = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];

/// Words, so that text is not only bytes; each is made of pieces that are here too, as merging needs them.
const WORDS: [&str; 24] = [
    "▁", "t", "h", "e", "a", "n", "d", "o", "r", "i", "s", "▁t", "▁a", "he", "▁the", "an", "nd", "▁and",
    "in", "is", "or", "on", "re", "er",
];

/// A turn of a chat, as ChatML writes it.
pub const CHATML: &str = "{%- for message in messages -%}\
     <|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
     {%- endfor -%}\
     {%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}";

impl Specimen {
    /// Small enough for a test: 0.1 million numbers, in F32.
    pub const SMALL: Specimen = Specimen {
        name: "specimen-small",
        seed: 1,
        width: 64,
        layers: 2,
        heads: (4, 2),
        feed_forward: 96,
        vocabulary: 320,
        context: 512,
        format: Format::F32,
        output_format: Format::F32,
        template: CHATML,
    };

    /// The shape of SmolLM2-135M.
    pub const M135: Specimen = Specimen {
        name: "specimen-135m",
        width: 576,
        layers: 30,
        heads: (9, 3),
        feed_forward: 1536,
        vocabulary: 49_152,
        context: 8192,
        format: Format::Q4_0,
        output_format: Format::Q8_0,
        ..Specimen::SMALL
    };

    /// The shape of Qwen2.5-0.5B, without its biases.
    pub const M500: Specimen = Specimen {
        name: "specimen-0.5b",
        width: 896,
        layers: 24,
        heads: (14, 2),
        feed_forward: 4864,
        vocabulary: 151_936,
        context: 32_768,
        ..Specimen::M135
    };

    /// The shape of Llama-3.2-1B.
    pub const B1: Specimen = Specimen {
        name: "specimen-1b",
        width: 2048,
        layers: 16,
        heads: (32, 8),
        feed_forward: 8192,
        vocabulary: 128_256,
        context: 131_072,
        output_format: Format::Q6K,
        ..Specimen::M135
    };

    /// The shape of Llama-3.2-3B.
    pub const B3: Specimen = Specimen {
        name: "specimen-3b",
        width: 3072,
        layers: 28,
        heads: (24, 8),
        feed_forward: 8192,
        ..Specimen::B1
    };

    /// The specimen as a file in memory.
    pub fn gguf(&self) -> Result<Gguf, SpecimenError> {
        let mut file = Vec::new();
        self.write(&mut file)?;
        Ok(Gguf::parse(Bytes::from(file))?)
    }

    /// Writes the specimen as a GGUF file, a row at a time.
    pub fn write(&self, sink: &mut dyn Write) -> Result<(), SpecimenError> {
        let mut writer = Writer::new(self.metadata())?;
        let (width, keys) = (self.width as u64, (self.width / self.heads.0 * self.heads.1) as u64);
        let feed = self.feed_forward as u64;
        writer.tensor("token_embd.weight", &[width, self.vocabulary as u64], self.output_format)?;
        writer.tensor("output_norm.weight", &[width], Format::F32)?;
        for layer in 0..self.layers {
            let mut matrix = |part: &str, cols, rows| {
                writer.tensor(&format!("blk.{layer}.{part}.weight"), &[cols, rows], self.format)
            };
            matrix("attn_q", width, width)?;
            matrix("attn_k", width, keys)?;
            matrix("attn_v", width, keys)?;
            matrix("attn_output", width, width)?;
            matrix("ffn_gate", width, feed)?;
            matrix("ffn_up", width, feed)?;
            matrix("ffn_down", feed, width)?;
            for norm in ["attn_norm", "ffn_norm"] {
                writer.tensor(&format!("blk.{layer}.{norm}.weight"), &[width], Format::F32)?;
            }
        }
        Ok(writer.write_to(sink, &mut |tensor, sink| self.numbers(tensor, sink))?)
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        metadata.set("general.architecture", "llama");
        metadata.set("general.name", self.name);
        metadata.set("general.license", "apache-2.0");
        metadata.set("llama.context_length", count(self.context));
        metadata.set("llama.embedding_length", count(self.width));
        metadata.set("llama.block_count", count(self.layers));
        metadata.set("llama.feed_forward_length", count(self.feed_forward));
        metadata.set("llama.attention.head_count", count(self.heads.0));
        metadata.set("llama.attention.head_count_kv", count(self.heads.1));
        metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        metadata.set("llama.rope.dimension_count", count(self.width / self.heads.0));
        metadata.set("llama.vocab_size", count(self.vocabulary));
        let (mut tokens, mut scores, mut types) = (Strings::default(), Vec::new(), Vec::new());
        // Token types as SentencePiece numbers them: 1 normal, 2 unknown, 3 control, 5 unused, 6 byte.
        let mut push = |text: &str, score: f32, kind: i32| {
            tokens.push(text);
            scores.push(score);
            types.push(kind);
        };
        CONTROL.iter().enumerate().for_each(|(index, text)| push(text, 0.0, if index == 0 { 2 } else { 3 }));
        (0..=255u8).for_each(|byte| push(&format!("<0x{byte:02X}>"), 0.0, 6));
        WORDS.iter().zip(1u8..).for_each(|(word, rank)| push(word, -f32::from(rank), 1));
        (LEAST_VOCABULARY..self.vocabulary).for_each(|index| push(&format!("[{index}]"), -1e6, 5));
        metadata.set("tokenizer.ggml.model", "llama");
        metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
        metadata.set("tokenizer.ggml.scores", Array::F32(scores));
        metadata.set("tokenizer.ggml.token_type", Array::I32(types));
        metadata.set("tokenizer.ggml.unknown_token_id", 0u32);
        metadata.set("tokenizer.ggml.bos_token_id", 1u32);
        metadata.set("tokenizer.ggml.eos_token_id", 2u32);
        metadata.set("tokenizer.ggml.add_bos_token", true);
        metadata.set("tokenizer.ggml.add_eos_token", false);
        metadata.set("tokenizer.chat_template", self.template);
        metadata
    }

    /// Norms near 1; matrices spread so that a state keeps its size on the way through.
    fn numbers(
        &self,
        tensor: &Tensor,
        sink: &mut dyn Write,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let cols = usize::try_from(tensor.columns())?;
        let format = tensor.format.known().ok_or("a specimen has no unknown formats")?;
        let key = tensor.name.bytes().fold(self.seed, |key, byte| mix(key ^ u64::from(byte)));
        let norm = tensor.name.contains("_norm");
        let spread = 1.7 / (cols as f32).sqrt();
        let mut row = vec![0.0; cols];
        let bytes = format.row_bytes(cols).ok_or_else(|| {
            let (name, format) = (&tensor.name, format.name());
            io::Error::other(format!("rows of {cols} numbers of `{name}` are no whole blocks of {format}"))
        })?;
        let mut encoded = vec![0; bytes];
        for index in 0..tensor.rows() {
            for (number, place) in row.iter_mut().zip(index * cols as u64..) {
                // 24 bits of the hash, from -1 to below 1.
                let fraction = (mix(key.wrapping_add(place)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                *number = if norm { 1.0 + 0.2 * fraction } else { spread * fraction };
            }
            format.encode(&row, None, &mut encoded)?;
            sink.write_all(&encoded)?;
        }
        Ok(())
    }
}

/// Why there is no specimen.
#[derive(Debug, thiserror::Error)]
pub enum SpecimenError {
    /// Its shape makes no file.
    #[error("the specimen cannot be written")]
    Write(#[from] WriteError),
    /// What was written is no model.
    #[error("the specimen cannot be read")]
    Read(#[from] GgufError),
}

/// SplitMix64's mixer (Steele et al. 2014).
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
