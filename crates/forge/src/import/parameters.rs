//! The numbers of a model, as metadata: the keys that llama.cpp's converter writes, in its order.

use lm::gguf::metadata::Metadata;
use lm::gguf::value::Value;

use super::config::{Config, ConfigError};
use super::family::Family;
use super::rope::{Rope, RopeError};

/// Writes what a model of a family is. `file_type`: the number of `general.file_type`; `pooling`: of an encoder.
pub fn describe(
    family: Family,
    config: &Config,
    rope: &Rope,
    file_type: u32,
    pooling: Option<u32>,
    metadata: &mut Metadata,
) -> Result<(), RopeError> {
    match family {
        Family::Phi2 => phi2(config, rope, file_type, metadata)?,
        Family::Phi3 => phi3(config, rope, file_type, metadata)?,
        Family::Gemma2 => gemma2(config, file_type, metadata)?,
        Family::Llama | Family::Qwen2 | Family::Qwen3 | Family::Gemma3 | Family::Bert => {
            shared(family, config, rope, file_type, metadata)?;
        }
    }
    let mut set = |key: &str, value: Value| metadata.set(&format!("{}.{key}", family.name()), value);
    match family {
        Family::Llama => {
            set("vocab_size", config.count(&["vocab_size"])?.into());
            set("rope.dimension_count", config.count(&["head_dim"])?.into());
        }
        Family::Gemma3 => {
            if let Some(cap) = config.find_number(&["final_logit_softcapping"])? {
                set("final_logit_softcapping", (cap as f32).into());
            }
            set("attention.sliding_window", config.count(&["sliding_window"])?.into());
        }
        Family::Bert => set("attention.causal", false.into()),
        _ => {}
    }
    if let Some(pooling) = pooling {
        set("pooling_type", pooling.into());
    }
    Ok(())
}

const LAYERS: [&str; 2] = ["num_hidden_layers", "n_layer"];
const WIDTH: [&str; 2] = ["hidden_size", "n_embd"];
const HEADS: [&str; 2] = ["num_attention_heads", "n_head"];
const CONTEXT: [&str; 2] = ["max_position_embeddings", "n_positions"];

/// How many layers a config says there are.
pub fn layers(config: &Config) -> Result<u32, ConfigError> {
    config.count(&LAYERS)
}

/// The number of heads: of queries, and of keys.
pub fn heads(config: &Config) -> Result<(u32, u32), ConfigError> {
    let queries = config.count(&HEADS)?;
    Ok((queries, config.find_count(&["num_key_value_heads"])?.unwrap_or(queries)))
}

/// The numbers of a head that turn.
pub fn turning(config: &Config, rope: &Rope) -> Result<u32, ConfigError> {
    let (width, heads) = (config.count(&WIDTH)?, config.count(&HEADS)?.max(1));
    Ok((rope.partial()? * f64::from(width)) as u32 / heads)
}

/// The context that a config promises.
pub fn context(config: &Config) -> Result<u32, ConfigError> {
    config.count(&CONTEXT)
}

fn shared(
    family: Family,
    config: &Config,
    rope: &Rope,
    file_type: u32,
    metadata: &mut Metadata,
) -> Result<(), RopeError> {
    let name = family.name();
    let full = |key: &str| format!("{name}.{key}");
    metadata.set(&full("block_count"), layers(config)?);
    metadata.set(&full("context_length"), context(config)?);
    metadata.set(&full("embedding_length"), config.count(&WIDTH)?);
    metadata.set(&full("feed_forward_length"), config.count(&["intermediate_size"])?);
    let (queries, keys) = heads(config)?;
    metadata.set(&full("attention.head_count"), queries);
    if family != Family::Bert {
        metadata.set(&full("attention.head_count_kv"), keys);
        rope.describe(name, metadata)?;
    }
    for (key, said) in [("layer_norm_rms_epsilon", "rms_norm_eps"), ("layer_norm_epsilon", "layer_norm_eps")]
    {
        if let Some(epsilon) = config.find_number(&[said])? {
            metadata.set(&full(&format!("attention.{key}")), epsilon as f32);
        }
    }
    if let Some(head) = config.find_count(&["head_dim"])? {
        metadata.set(&full("attention.key_length"), head);
        metadata.set(&full("attention.value_length"), head);
    }
    metadata.set("general.file_type", file_type);
    Ok(())
}

fn gemma2(config: &Config, file_type: u32, metadata: &mut Metadata) -> Result<(), ConfigError> {
    let (queries, keys) = heads(config)?;
    let head = config.count(&["head_dim"])?;
    let number = |key: &str| config.number(&[key]).map(|number| Value::F32(number as f32));
    let values = [
        ("gemma2.context_length", context(config)?.into()),
        ("gemma2.embedding_length", config.count(&WIDTH)?.into()),
        ("gemma2.block_count", layers(config)?.into()),
        ("gemma2.feed_forward_length", config.count(&["intermediate_size"])?.into()),
        ("gemma2.attention.head_count", queries.into()),
        ("gemma2.attention.head_count_kv", keys.into()),
        ("gemma2.attention.layer_norm_rms_epsilon", number("rms_norm_eps")?),
        ("gemma2.attention.key_length", head.into()),
        ("gemma2.attention.value_length", head.into()),
        ("general.file_type", file_type.into()),
        ("gemma2.attn_logit_softcapping", number("attn_logit_softcapping")?),
        ("gemma2.final_logit_softcapping", number("final_logit_softcapping")?),
        ("gemma2.attention.sliding_window", config.count(&["sliding_window"])?.into()),
    ];
    set_all(metadata, values);
    Ok(())
}

fn phi2(config: &Config, rope: &Rope, file_type: u32, metadata: &mut Metadata) -> Result<(), ConfigError> {
    let (queries, _) = heads(config)?;
    let width = config.count(&WIDTH)?;
    let inner = config.find_count(&["intermediate_size"])?.unwrap_or(width.saturating_mul(4));
    let epsilon = config.number(&["layer_norm_epsilon", "layer_norm_eps"])? as f32;
    let values = [
        ("phi2.context_length", context(config)?.into()),
        ("phi2.embedding_length", width.into()),
        ("phi2.feed_forward_length", inner.into()),
        ("phi2.block_count", layers(config)?.into()),
        ("phi2.attention.head_count", queries.into()),
        ("phi2.attention.head_count_kv", queries.into()),
        ("phi2.attention.layer_norm_epsilon", epsilon.into()),
        ("phi2.rope.dimension_count", turning(config, rope)?.into()),
        ("general.file_type", file_type.into()),
        ("tokenizer.ggml.add_bos_token", false.into()),
    ];
    set_all(metadata, values);
    Ok(())
}

fn phi3(config: &Config, rope: &Rope, file_type: u32, metadata: &mut Metadata) -> Result<(), ConfigError> {
    let (queries, keys) = heads(config)?;
    let key = || ConfigError::Missing { key: "original_max_position_embeddings".to_owned() };
    let base = || ConfigError::Missing { key: "rope_theta".to_owned() };
    let values = [
        ("phi3.context_length", context(config)?.into()),
        ("phi3.rope.scaling.original_context_length", rope.original_context()?.ok_or_else(key)?.into()),
        ("phi3.embedding_length", config.count(&WIDTH)?.into()),
        ("phi3.feed_forward_length", config.count(&["intermediate_size"])?.into()),
        ("phi3.block_count", layers(config)?.into()),
        ("phi3.attention.head_count", queries.into()),
        ("phi3.attention.head_count_kv", keys.into()),
        ("phi3.attention.layer_norm_rms_epsilon", (config.number(&["rms_norm_eps"])? as f32).into()),
        ("phi3.rope.dimension_count", turning(config, rope)?.into()),
        ("phi3.rope.freq_base", (rope.base()?.ok_or_else(base)? as f32).into()),
        ("general.file_type", file_type.into()),
        // 0 means none, and tells Phi 4 from the older ones.
        ("phi3.attention.sliding_window", config.find_count(&["sliding_window"])?.unwrap_or(0).into()),
    ];
    set_all(metadata, values);
    Ok(())
}

fn set_all<const N: usize>(metadata: &mut Metadata, values: [(&str, Value); N]) {
    for (key, value) in values {
        metadata.set(key, value);
    }
}
