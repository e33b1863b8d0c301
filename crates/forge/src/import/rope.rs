//! Rotary positions as config.json says them, in the old form and the new, and what GGUF wants to know of them.
//!
//! Old files say `rope_theta` and `rope_scaling`, new ones `rope_parameters`, with a part for each kind of layer where
//! kinds differ. Formulas are those of transformers' `modeling_rope_utils.py`.

use lm::gguf::metadata::Metadata;

use super::config::{Config, ConfigError};

/// More than any head has; what is computed for each pair is bounded by it.
const HEAD_MAX: u32 = 1 << 16;

/// What a config says of rotary positions.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Of the layers that see all positions.
    global: Config,
    /// The base of layers with a window.
    window_base: Option<f64>,
}

/// Positions that cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RopeError {
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A scaling we do not know.
    #[error("the rope scaling {found:?} is not supported; linear, yarn, llama3 and longrope are")]
    Scaling {
        /// What config.json names.
        found: String,
    },
    /// Factors that are not one for each pair.
    #[error("the rope has {found} factors, wanted are {wanted}: one for each pair of a head")]
    Factors {
        /// How many there are.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
}

impl Rope {
    /// Takes what a config says.
    pub fn of(config: &Config) -> Result<Rope, ConfigError> {
        let said = match config.find_object("rope_parameters")? {
            Some(said) => Some(said),
            None => config.find_object("rope_scaling")?,
        };
        let said = said.unwrap_or_default();
        let windowed = said.find_object("sliding_attention")?;
        let mut global = said.find_object("full_attention")?.unwrap_or(said);
        let outside = [
            ("rope_theta", ["rope_theta", "rotary_emb_base"]),
            ("partial_rotary_factor", ["partial_rotary_factor", "rope_pct"]),
            ("original_max_position_embeddings", ["original_max_position_embeddings"; 2]),
        ];
        for (key, names) in outside {
            if let Some(value) = config.get(&names) {
                global.fill(key, value.clone());
            }
        }
        let window_base = match windowed {
            Some(windowed) => windowed.find_number(&["rope_theta"])?,
            None => config.find_number(&["rope_local_base_freq"])?,
        };
        Ok(Rope { global, window_base })
    }

    /// The scaling's name: `default` is none.
    fn kind(&self) -> Result<Option<String>, ConfigError> {
        let kind = match self.global.find_text("rope_type")? {
            Some(kind) => Some(kind),
            None => self.global.find_text("type")?,
        };
        Ok(kind.filter(|kind| kind != "default"))
    }

    /// The base of the angles.
    pub fn base(&self) -> Result<Option<f64>, ConfigError> {
        self.global.find_number(&["rope_theta"])
    }

    /// How much of a head turns.
    pub fn partial(&self) -> Result<f64, ConfigError> {
        Ok(self.global.find_number(&["partial_rotary_factor"])?.unwrap_or(1.0))
    }

    /// The context the angles were made for.
    pub fn original_context(&self) -> Result<Option<u32>, ConfigError> {
        self.global.find_count(&["original_max_position_embeddings"])
    }

    /// Writes scaling and bases as most families have them.
    pub fn describe(&self, family: &str, metadata: &mut Metadata) -> Result<(), RopeError> {
        let mut set =
            |key: &str, value: lm::gguf::value::Value| metadata.set(&format!("{family}.rope.{key}"), value);
        let number =
            |key: &str| self.global.find_number(&[key]).map(|number| number.map(|number| number as f32));
        match self.kind()?.as_deref() {
            None | Some("llama3") => {}
            Some(kind @ ("linear" | "yarn")) => {
                set("scaling.type", kind.into());
                set("scaling.factor", (self.global.number(&["factor"])? as f32).into());
                if kind == "yarn" {
                    let original = self.global.count(&["original_max_position_embeddings"])?;
                    set("scaling.original_context_length", original.into());
                    let attention = match number("attention_factor")? {
                        Some(factor) => Some(factor),
                        None => number("attn_factor")?,
                    };
                    let rest = [
                        ("scaling.yarn_ext_factor", number("extrapolation_factor")?),
                        ("scaling.yarn_attn_factor", attention),
                        ("scaling.yarn_beta_fast", number("beta_fast")?),
                        ("scaling.yarn_beta_slow", number("beta_slow")?),
                    ];
                    for (key, value) in rest {
                        if let Some(value) = value {
                            set(key, value.into());
                        }
                    }
                }
            }
            Some("su" | "longrope") => set("scaling.type", "longrope".into()),
            Some(found) => return Err(RopeError::Scaling { found: found.chars().take(40).collect() }),
        }
        if let Some(base) = self.base()? {
            set("freq_base", (base as f32).into());
        }
        if let Some(base) = self.window_base {
            set("freq_base_swa", (base as f32).into());
        }
        Ok(())
    }

    /// Llama 3's factors for heads of `dims` numbers, one for each pair; `None` for other scalings.
    pub fn llama3_factors(&self, dims: u32) -> Result<Option<Vec<f32>>, RopeError> {
        if self.kind()?.as_deref() != Some("llama3") {
            return Ok(None);
        }
        if dims > HEAD_MAX {
            let (key, found) = ("head_dim".to_owned(), dims.to_string());
            return Err(ConfigError::Wrong { key, wanted: "the width of a head", found }.into());
        }
        let number = |key: &str, default: f64| {
            self.global.find_number(&[key]).map(|number| number.unwrap_or(default) as f32)
        };
        let (base, factor) = (number("rope_theta", 10_000.0)?, number("factor", 8.0)?);
        let (low, high) = (number("low_freq_factor", 1.0)?, number("high_freq_factor", 4.0)?);
        let original = number("original_max_position_embeddings", 8192.0)?;
        let factors = (0..dims / 2).map(|pair| {
            let frequency = 1.0 / base.powf((2 * pair) as f32 / dims as f32);
            let length = 2.0 * std::f32::consts::PI / frequency;
            if length < original / high {
                1.0
            } else if length > original / low {
                factor
            } else {
                let smooth = (original / length - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        });
        Ok(Some(factors.collect()))
    }

    /// Phi's long and short factors for `pairs` pairs, and the factor of the attention for a context of `context`
    /// positions; `None` for other scalings.
    pub fn long_factors(&self, pairs: usize, context: u32) -> Result<Option<LongFactors>, RopeError> {
        let Some(long) = self.global.find_numbers("long_factor")? else {
            return Ok(None);
        };
        let short = self.global.find_numbers("short_factor")?;
        let short = short.ok_or_else(|| ConfigError::Missing { key: "short_factor".to_owned() })?;
        for factors in [&long, &short] {
            if factors.len() != pairs {
                return Err(RopeError::Factors { found: factors.len(), wanted: pairs });
            }
        }
        let original = f64::from(self.global.count(&["original_max_position_embeddings"])?);
        let scale = f64::from(context) / original;
        let attention = match self.kind()?.as_deref() {
            _ if scale <= 1.0 => 1.0,
            Some("su" | "longrope") => (1.0 + scale.ln() / original.ln()).sqrt(),
            Some("yarn") => 0.1 * scale.ln() + 1.0,
            found => {
                return Err(RopeError::Scaling {
                    found: found.unwrap_or("default").chars().take(40).collect(),
                });
            }
        };
        let single = |factors: Vec<f64>| factors.into_iter().map(|factor| factor as f32).collect();
        Ok(Some(LongFactors { long: single(long), short: single(short), attention: attention as f32 }))
    }
}

/// What `longrope` needs.
#[derive(Clone, Debug, PartialEq)]
pub struct LongFactors {
    /// One for each pair, beyond the original context.
    pub long: Vec<f32>,
    /// One for each pair, within it.
    pub short: Vec<f32>,
    /// What cosines and sines are multiplied with.
    pub attention: f32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rope(config: serde_json::Value) -> Rope {
        Rope::of(&Config::new(config.as_object().unwrap().clone())).unwrap()
    }

    #[test]
    fn old_and_new_configs_say_the_same() {
        let pairs = [
            (
                json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}),
                json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}),
            ),
            (
                json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
                json!({"rope_parameters": {
                    "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
                }}),
            ),
            (
                json!({"rope_theta": 1e6, "original_max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 0.5}}),
                json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0, "attn_factor": 0.5, "original_max_position_embeddings": 64}}),
            ),
        ];
        for (old, new) in pairs {
            let [old, new] = [old, new].map(|config| {
                let mut metadata = Metadata::new();
                rope(config).describe("llama", &mut metadata).unwrap();
                metadata
            });
            assert!(old.len() >= 3);
            assert_eq!(old, new);
        }
    }

    #[test]
    fn what_cannot_be_expressed_is_refused() {
        let dynamic = rope(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}));
        let error = dynamic.describe("llama", &mut Metadata::new()).unwrap_err();
        assert_eq!(error, RopeError::Scaling { found: "dynamic".to_owned() });
        let long = rope(json!({"rope_scaling": {"type": "su", "long_factor": [1, 2], "short_factor": [1]},
            "original_max_position_embeddings": 64}));
        assert_eq!(long.long_factors(2, 128), Err(RopeError::Factors { found: 1, wanted: 2 }));
    }

    #[test]
    fn factors_follow_their_formulas() {
        let llama = rope(json!({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}));
        let factors = llama.llama3_factors(32).unwrap().unwrap();
        // Wave lengths of the first pairs are 6.3, 14.3, 32.4 and 73.6: below 16, twice between, above 64.
        assert_eq!((factors.len(), factors[0], factors[1], factors[3]), (16, 1.0, 1.0, 8.0));
        assert!((factors[2] - 2.442_26).abs() < 1e-3, "{}", factors[2]);
        let phi = rope(json!({"rope_scaling": {"type": "su", "long_factor": [2], "short_factor": [1]},
            "original_max_position_embeddings": 64}));
        let long = phi.long_factors(1, 256).unwrap().unwrap();
        assert_eq!((long.long, long.short), (vec![2.0], vec![1.0]));
        assert!((long.attention - 1.154_700_5).abs() < 1e-6);
    }
}
