//! What each tensor of a folder is called in GGUF, and what happens to its numbers on the way.
//!
//! Names and changes are those of llama.cpp's converter, so that its files and ours can be exchanged.

use super::family::Family;

/// Where a tensor goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// It becomes this tensor.
    Tensor {
        /// `blk.0.attn_q.weight`.
        name: String,
        /// What happens to its numbers.
        change: Change,
    },
    /// It is not needed: pictures' and poolers' weights, tables that are computed again.
    Nowhere,
    /// Nobody knows it.
    Unknown,
}

/// What happens to the numbers of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// Rows of each head go from two halves to pairs: GGUF's llama turns neighbours, transformers turns halves.
    PairRows {
        /// True for queries, false for keys.
        queries: bool,
    },
    /// Gemma's norms multiply by one more than the weight; GGUF has the sum.
    PlusOne,
    /// Rows past the vocabulary are cut off.
    Vocabulary,
}

/// Names after `model.layers.N.` and after `blk.N.`, without `.weight` and `.bias`.
type Table = &'static [(&'static str, &'static str)];

const ATTENTION: Table = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
];

const GATED: Table =
    &[("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];

const TWO_NORMS: Table = &[("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")];

const FOUR_NORMS: Table = &[
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const HEAD_NORMS: Table = &[("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

const PHI2: Table = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.dense", "attn_output"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
];

const PHI3: Table = &[
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const BERT: Table = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

const DECODER_OUTSIDE: Table = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("model.final_layernorm", "output_norm"),
    ("lm_head", "output"),
];

const BERT_OUTSIDE: Table = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
];

/// Beginnings of what is not needed.
const NOWHERE: [&str; 9] = [
    "vision_tower.",
    "model.vision_tower.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
    "pooler.",
    "cls.",
    "embeddings.position_ids",
    "mlp_AR.",
    "visual.",
];

/// Ends of what is not needed.
const COMPUTED: [&str; 3] = [".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

impl Family {
    /// The tables of a layer.
    fn layer(self) -> &'static [Table] {
        match self {
            Family::Llama | Family::Qwen2 => &[ATTENTION, GATED, TWO_NORMS],
            Family::Qwen3 => &[ATTENTION, GATED, TWO_NORMS, HEAD_NORMS],
            Family::Gemma2 => &[ATTENTION, GATED, FOUR_NORMS],
            Family::Gemma3 => &[ATTENTION, GATED, FOUR_NORMS, HEAD_NORMS],
            Family::Phi2 => &[PHI2],
            Family::Phi3 => &[PHI3, TWO_NORMS],
            Family::Bert => &[BERT],
        }
    }

    /// Where a tensor of transformers goes.
    pub fn place(self, name: &str) -> Place {
        if COMPUTED.iter().any(|end| name.ends_with(end)) {
            return Place::Nowhere;
        }
        let name = name.strip_prefix("bert.").unwrap_or(name);
        if NOWHERE.iter().any(|start| name.starts_with(start))
            || (self == Family::Gemma2 && name == "lm_head.weight")
        {
            return Place::Nowhere;
        }
        let name = name.replace("language_model.", "");
        // The first checkpoints of BERT came from TensorFlow and have its names.
        let name = name.replace(".gamma", ".weight").replace(".beta", ".bias");
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Place::Unknown;
        };
        if suffix != "weight" && suffix != "bias" {
            return Place::Unknown;
        }
        let outside = if self == Family::Bert { BERT_OUTSIDE } else { DECODER_OUTSIDE };
        if let Some((_, short)) = outside.iter().find(|(long, _)| *long == stem) {
            return self.tensor(format!("{short}.{suffix}"), short);
        }
        let start = if self == Family::Bert { "encoder.layer." } else { "model.layers." };
        let inside = stem.strip_prefix(start).and_then(|rest| rest.split_once('.'));
        let Some((layer, rest)) = inside.filter(|(layer, _)| layer.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            return Place::Unknown;
        };
        match self.layer().iter().copied().flatten().find(|(long, _)| *long == rest) {
            Some((_, short)) => self.tensor(format!("blk.{layer}.{short}.{suffix}"), short),
            None => Place::Unknown,
        }
    }

    fn tensor(self, name: String, short: &str) -> Place {
        let gemma = matches!(self, Family::Gemma2 | Family::Gemma3);
        let change = match short {
            "attn_q" | "attn_k" if self == Family::Llama => Change::PairRows { queries: short == "attn_q" },
            "token_embd" | "output" => Change::Vocabulary,
            norm if gemma && norm.ends_with("norm") => Change::PlusOne,
            _ => Change::None,
        };
        Place::Tensor { name, change }
    }

    /// The names in GGUF without which a model of so many layers is not whole.
    pub fn required(self, layers: u32) -> impl Iterator<Item = String> {
        let outside = if self == Family::Bert { BERT_OUTSIDE } else { &DECODER_OUTSIDE[..2] };
        let outside = outside.iter().map(|(_, short)| format!("{short}.weight"));
        let layer = move |layer| {
            let shorts = self.layer().iter().copied().flatten();
            shorts.map(move |(_, short)| format!("blk.{layer}.{short}.weight"))
        };
        outside.chain((0..layers).flat_map(layer))
    }
}

/// The source row that becomes `row`, of heads of `head` rows each: pairs from halves.
pub fn paired(row: usize, head: usize) -> usize {
    let (start, within) = (row / head * head, row % head);
    start + within / 2 + within % 2 * (head / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_go_where_llama_cpp_wants_them() {
        let plain = |name: &str| Place::Tensor { name: name.to_owned(), change: Change::None };
        let with = |name: &str, change| Place::Tensor { name: name.to_owned(), change };
        let cases = [
            (
                Family::Llama,
                "model.layers.10.self_attn.q_proj.weight",
                with("blk.10.attn_q.weight", Change::PairRows { queries: true }),
            ),
            (
                Family::Llama,
                "model.layers.0.self_attn.k_proj.bias",
                with("blk.0.attn_k.bias", Change::PairRows { queries: false }),
            ),
            (Family::Qwen2, "model.layers.0.self_attn.q_proj.weight", plain("blk.0.attn_q.weight")),
            (Family::Llama, "model.layers.0.self_attn.rotary_emb.inv_freq", Place::Nowhere),
            (Family::Llama, "model.embed_tokens.weight", with("token_embd.weight", Change::Vocabulary)),
            (
                Family::Gemma3,
                "model.language_model.layers.1.self_attn.q_norm.weight",
                with("blk.1.attn_q_norm.weight", Change::PlusOne),
            ),
            (Family::Gemma3, "language_model.model.norm.weight", with("output_norm.weight", Change::PlusOne)),
            (Family::Gemma3, "model.vision_tower.x.weight", Place::Nowhere),
            (Family::Gemma2, "lm_head.weight", Place::Nowhere),
            (Family::Phi2, "lm_head.bias", with("output.bias", Change::Vocabulary)),
            (Family::Bert, "bert.embeddings.LayerNorm.gamma", plain("token_embd_norm.weight")),
            (Family::Bert, "pooler.dense.weight", Place::Nowhere),
            (Family::Llama, "model.layers.x.mlp.up_proj.weight", Place::Unknown),
            (Family::Llama, "model.layers.0.mlp.experts.weight", Place::Unknown),
            (Family::Llama, "model.layers.0.mlp.up_proj.scales", Place::Unknown),
            (Family::Llama, "weight", Place::Unknown),
        ];
        for (family, name, expected) in cases {
            assert_eq!(family.place(name), expected, "{family:?} {name}");
        }
    }

    #[test]
    fn pairs_are_taken_from_halves() {
        let order: Vec<usize> = (0..12).map(|row| paired(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
