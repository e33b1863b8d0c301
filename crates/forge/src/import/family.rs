//! Which architecture of transformers becomes which family of GGUF, and which of them cannot.
//!
//! What the forward pass of a family takes for granted is checked against the config here: a model that would load and
//! then answer nonsense is refused with the reason.

use serde_json::json;

use super::config::{Config, ConfigError};

/// A family of GGUF models that a folder can become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Phi2,
    Phi3,
    Bert,
}

/// The architectures that transformers calls them by.
pub const ARCHITECTURES: [(&str, Family); 11] = [
    ("LlamaForCausalLM", Family::Llama),
    ("MistralForCausalLM", Family::Llama),
    ("Qwen2ForCausalLM", Family::Qwen2),
    ("Qwen3ForCausalLM", Family::Qwen3),
    ("Gemma2ForCausalLM", Family::Gemma2),
    ("Gemma3ForCausalLM", Family::Gemma3),
    ("Gemma3ForConditionalGeneration", Family::Gemma3),
    ("PhiForCausalLM", Family::Phi2),
    ("Phi3ForCausalLM", Family::Phi3),
    ("BertModel", Family::Bert),
    ("BertForMaskedLM", Family::Bert),
];

/// A model that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An architecture we do not know.
    #[error("the architecture {found:?} is not supported; these are: {}", supported())]
    Architecture {
        /// What config.json names.
        found: String,
    },
    /// Something the family's forward pass does not do.
    #[error("a {family} model with {what} is not supported")]
    Unsupported {
        /// The family.
        family: &'static str,
        /// What config.json asks for.
        what: String,
    },
}

fn supported() -> String {
    ARCHITECTURES.map(|(name, _)| name).join(", ")
}

impl Family {
    /// The family of a config, with what older files leave out filled in.
    pub fn of(config: &mut Config) -> Result<Family, FamilyError> {
        let found = config.find_texts("architectures")?.and_then(|names| names.into_iter().next());
        let Some(found) = found else {
            return Err(ConfigError::Missing { key: "architectures".to_owned() }.into());
        };
        let Some((_, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == found) else {
            return Err(FamilyError::Architecture { found: found.chars().take(80).collect() });
        };
        family.fill(config, &found)?;
        family.check(config)?;
        Ok(*family)
    }

    /// What GGUF calls it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3",
            Family::Phi2 => "phi2",
            Family::Phi3 => "phi3",
            Family::Bert => "bert",
        }
    }

    /// Defaults of transformers' config classes (5.23) for keys that files leave out.
    fn fill(self, config: &mut Config, architecture: &str) -> Result<(), ConfigError> {
        match self {
            Family::Llama => {
                let mistral = architecture == "MistralForCausalLM";
                config.fill("max_position_embeddings", if mistral { 131_072 } else { 2048 });
                config.fill("rms_norm_eps", 1e-6);
                config.fill("rope_theta", 10_000.0);
                let (width, heads) =
                    (config.count(&["hidden_size"])?, config.count(&["num_attention_heads"])?);
                config.fill("num_key_value_heads", if mistral { 8 } else { heads });
                config.fill("head_dim", width.checked_div(heads).unwrap_or(0));
            }
            Family::Qwen2 | Family::Qwen3 => {
                config.fill("max_position_embeddings", 32_768);
                config.fill("num_key_value_heads", 32);
                config.fill("rms_norm_eps", 1e-6);
                config.fill("rope_theta", 10_000.0);
                if self == Family::Qwen3 {
                    config.fill("head_dim", 128);
                }
            }
            Family::Gemma2 => {
                config.fill("max_position_embeddings", 8192);
                config.fill("num_key_value_heads", 4);
                config.fill("head_dim", 256);
                config.fill("rms_norm_eps", 1e-6);
                config.fill("sliding_window", 4096);
                config.fill("attn_logit_softcapping", 50.0);
                config.fill("final_logit_softcapping", 30.0);
                config.fill("query_pre_attn_scalar", 256);
            }
            Family::Gemma3 => {
                config.fill("max_position_embeddings", 131_072);
                config.fill("num_attention_heads", 8);
                config.fill("num_key_value_heads", 4);
                config.fill("head_dim", 256);
                config.fill("rms_norm_eps", 1e-6);
                config.fill("vocab_size", 262_208);
                config.fill("sliding_window", 4096);
                config.fill("query_pre_attn_scalar", 256);
                config.fill("rope_theta", 1_000_000.0);
                config.fill("rope_local_base_freq", 10_000.0);
            }
            Family::Phi2 => {
                config.fill("max_position_embeddings", 2048);
                config.fill("layer_norm_eps", 1e-5);
                config.fill("partial_rotary_factor", 0.5);
            }
            Family::Phi3 => {
                config.fill("max_position_embeddings", 4096);
                config.fill("original_max_position_embeddings", 4096);
                config.fill("rms_norm_eps", 1e-5);
                config.fill("rope_theta", 10_000.0);
                let heads = config.count(&["num_attention_heads"])?;
                config.fill("num_key_value_heads", heads);
            }
            Family::Bert => {
                config.fill("max_position_embeddings", 512);
                config.fill("layer_norm_eps", 1e-12);
                config.fill("type_vocab_size", 2);
            }
        }
        Ok(())
    }

    fn check(self, config: &Config) -> Result<(), FamilyError> {
        let family = self.name();
        let refuse = |what: String| Err(FamilyError::Unsupported { family, what });
        if let Some(quantised) = config.find_object("quantization_config")? {
            let method = quantised.find_text("quant_method")?.unwrap_or_else(|| "unknown".to_owned());
            return refuse(format!("weights already quantised by {method:?}: take the original model"));
        }
        for experts in ["num_local_experts", "num_experts", "n_routed_experts"] {
            if config.find_count(&[experts])?.is_some_and(|experts| experts > 1) {
                return refuse("a mixture of experts".to_owned());
            }
        }
        let (activation, valid): (&[&str], &[&str]) = match self {
            Family::Gemma2 | Family::Gemma3 => (&["hidden_activation", "hidden_act"], &["gelu_pytorch_tanh"]),
            Family::Phi2 => (&["hidden_act"], &["gelu_new"]),
            Family::Bert => (&["hidden_act"], &["gelu"]),
            Family::Llama | Family::Qwen2 | Family::Qwen3 | Family::Phi3 => (&["hidden_act"], &["silu"]),
        };
        // Gemma's first configs say `gelu` in hidden_act and mean the tanh form (google/gemma_pytorch).
        let old_gemma = self == Family::Gemma2 && config.get(&["hidden_activation"]).is_none();
        if let Some(found) = config.get(activation)
            && !old_gemma
            && !valid.iter().any(|valid| found == valid)
        {
            return refuse(format!("the activation {found}"));
        }
        match self {
            Family::Qwen2 | Family::Qwen3 if config.find_truth("use_sliding_window")? == Some(true) => {
                refuse("sliding windows".to_owned())
            }
            Family::Gemma2 => self.check_gemma(config, 2, 46),
            Family::Gemma3 => match config.get(&["attn_logit_softcapping"]) {
                Some(_) => refuse("soft-capped attention".to_owned()),
                None => self.check_gemma(config, 6, 62),
            },
            Family::Phi2 if config.find_truth("qk_layernorm")? == Some(true) => {
                refuse("normalised queries and keys".to_owned())
            }
            Family::Bert if config.find_truth("is_decoder")? == Some(true) => refuse("a decoder".to_owned()),
            Family::Bert => match config.find_text("position_embedding_type")? {
                Some(kind) if kind != "absolute" => refuse(format!("{kind:?} positions")),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// GGUF does not say which layers of a Gemma have windows, nor how scores are scaled: readers know. Every
    /// `period`th layer sees all, and scores are divided by the root of the head, in the largest model (told by its
    /// number of layers) of the width over the heads.
    fn check_gemma(self, config: &Config, period: usize, largest: u32) -> Result<(), FamilyError> {
        let family = self.name();
        let layers = config.find_texts("layer_types")?.unwrap_or_default();
        let expected = |index: usize| {
            if (index + 1).is_multiple_of(period) { "full_attention" } else { "sliding_attention" }
        };
        if let Some(index) = layers.iter().enumerate().position(|(index, kind)| kind != expected(index)) {
            let what = format!("{:?} in layer {index}", layers[index]);
            return Err(FamilyError::Unsupported { family, what });
        }
        let pattern = config.find_count(&["sliding_window_pattern", "_sliding_window_pattern"])?;
        if pattern.is_some_and(|pattern| pattern as usize != period) {
            let what = format!("sliding_window_pattern {}", json!(pattern));
            return Err(FamilyError::Unsupported { family, what });
        }
        let head = config.number(&["head_dim"])?;
        let over_heads = config.number(&["hidden_size"])? / config.number(&["num_attention_heads"])?;
        let wanted = if config.count(&["num_hidden_layers"])? == largest { over_heads } else { head };
        let scalar = config.number(&["query_pre_attn_scalar"])?;
        if (scalar - wanted).abs() > 1e-6 {
            let what = format!("query_pre_attn_scalar {scalar}, where GGUF readers take {wanted},");
            return Err(FamilyError::Unsupported { family, what });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(config: serde_json::Value) -> Result<Family, String> {
        let mut config = Config::new(config.as_object().unwrap().clone());
        Family::of(&mut config).map_err(|error| error.to_string())
    }

    #[test]
    fn models_that_would_answer_nonsense_are_refused() {
        let gemma = |change: &str, value: serde_json::Value| {
            let mut config = json!({
                "architectures": ["Gemma2ForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
                "num_hidden_layers": 2, "head_dim": 32, "query_pre_attn_scalar": 32,
            });
            config[change] = value;
            config
        };
        let qwen = |change: &str, value: serde_json::Value| {
            let mut config = json!({"architectures": ["Qwen2ForCausalLM"]});
            config[change] = value;
            config
        };
        let cases = [
            (json!({}), "config.json does not say \"architectures\""),
            (
                json!({"architectures": ["MambaForCausalLM"]}),
                "the architecture \"MambaForCausalLM\" is not supported; these are: Llama",
            ),
            (qwen("num_experts", json!(60)), "a qwen2 model with a mixture of experts is not supported"),
            (
                qwen("quantization_config", json!({"quant_method": "gptq"})),
                "a qwen2 model with weights already quantised by \"gptq\"",
            ),
            (qwen("hidden_act", json!("relu")), "a qwen2 model with the activation \"relu\""),
            (qwen("use_sliding_window", json!(true)), "a qwen2 model with sliding windows"),
            (gemma("query_pre_attn_scalar", json!(64)), "a gemma2 model with query_pre_attn_scalar 64"),
            (
                gemma("layer_types", json!(["full_attention"])),
                "a gemma2 model with \"full_attention\" in layer 0",
            ),
            (
                gemma("num_attention_heads", json!("four")),
                "config.json says \"num_attention_heads\" is \"four\"",
            ),
        ];
        for (config, expected) in cases {
            let error = family(config).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(family(gemma("hidden_act", json!("gelu"))), Ok(Family::Gemma2));
        assert_eq!(family(qwen("use_sliding_window", json!(false))), Ok(Family::Qwen2));
    }
}
