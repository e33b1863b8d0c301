//! Which tensor gets how many bits: the mixes that users ask for by name.
//!
//! The rules are llama.cpp's (`llama-quant.cpp` of 2026-11), so that a `Q4_K_M` made here has the same tensors in the same
//! formats as one made there: values and the way down get more bits where errors grow most (the first and last eighth of
//! the layers, and every third between), the output gets 6 bits, and rows that are no multiple of 256 fall back to a
//! format with blocks of 32. `tests/goldens/mixes.txt` holds what llama.cpp chose.

use kernels::format::Format;
use lm::shape::Shape;

/// What a model is compressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Full precision.
    F32,
    /// 16 bits: what to compress from.
    F16,
    /// 16 bits with the range of F32.
    BF16,
    /// 8.5 bits, hardly any loss.
    Q8_0,
    /// 6.6 bits.
    Q6K,
    /// 5.5 bits, more where it matters.
    Q5KM,
    /// 5.5 bits.
    Q5KS,
    /// 5.5 bits in blocks of 32.
    Q5_0,
    /// 6 bits in blocks of 32.
    Q5_1,
    /// 4.5 bits, more where it matters: the usual choice.
    Q4KM,
    /// 4.5 bits, a little more in the first layers.
    Q4KS,
    /// 4.5 bits in blocks of 32.
    Q4_0,
    /// 5 bits in blocks of 32.
    Q4_1,
    /// 4.5 bits on uneven steps, in blocks of 32.
    IQ4NL,
    /// 4.25 bits on uneven steps.
    IQ4XS,
    /// 3.4 bits, 5.5 where it matters.
    Q3KL,
    /// 3.4 bits, 4.5 where it matters.
    Q3KM,
    /// 3.4 bits.
    Q3KS,
    /// 2.6 bits, 3.4 and 4.5 where it matters.
    Q2K,
}

/// Every mix by its name, with its number in `general.file_type`; from most bits to fewest.
pub const MIXES: [(&str, u32, Mix); 19] = [
    ("F32", 0, Mix::F32),
    ("F16", 1, Mix::F16),
    ("BF16", 32, Mix::BF16),
    ("Q8_0", 7, Mix::Q8_0),
    ("Q6_K", 18, Mix::Q6K),
    ("Q5_K_M", 17, Mix::Q5KM),
    ("Q5_K_S", 16, Mix::Q5KS),
    ("Q5_0", 8, Mix::Q5_0),
    ("Q5_1", 9, Mix::Q5_1),
    ("Q4_K_M", 15, Mix::Q4KM),
    ("Q4_K_S", 14, Mix::Q4KS),
    ("Q4_0", 2, Mix::Q4_0),
    ("Q4_1", 3, Mix::Q4_1),
    ("IQ4_NL", 25, Mix::IQ4NL),
    ("IQ4_XS", 30, Mix::IQ4XS),
    ("Q3_K_L", 13, Mix::Q3KL),
    ("Q3_K_M", 12, Mix::Q3KM),
    ("Q3_K_S", 11, Mix::Q3KS),
    ("Q2_K", 10, Mix::Q2K),
];

impl Mix {
    /// The mix of this name, in any case. `Q3_K`, `Q4_K` and `Q5_K` mean their middle ones, as for llama.cpp.
    pub fn from_name(name: &str) -> Option<Mix> {
        let name = name.to_ascii_uppercase();
        let full = match name.as_str() {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{name}_M"),
            _ => name,
        };
        MIXES.iter().find(|(known, ..)| *known == full).map(|(.., mix)| *mix)
    }

    /// Its name, and its number in `general.file_type`.
    pub fn name(self) -> (&'static str, u32) {
        let known = MIXES.iter().find(|(.., mix)| *mix == self);
        known.map(|(name, number, _)| (*name, *number)).expect("the table has every mix: tested")
    }

    /// What most tensors become.
    pub fn format(self) -> Format {
        match self {
            Mix::F32 => Format::F32,
            Mix::F16 => Format::F16,
            Mix::BF16 => Format::BF16,
            Mix::Q8_0 => Format::Q8_0,
            Mix::Q6K => Format::Q6K,
            Mix::Q5KM | Mix::Q5KS => Format::Q5K,
            Mix::Q5_0 => Format::Q5_0,
            Mix::Q5_1 => Format::Q5_1,
            Mix::Q4KM | Mix::Q4KS => Format::Q4K,
            Mix::Q4_0 => Format::Q4_0,
            Mix::Q4_1 => Format::Q4_1,
            Mix::IQ4NL => Format::IQ4NL,
            Mix::IQ4XS => Format::IQ4XS,
            Mix::Q3KL | Mix::Q3KM | Mix::Q3KS => Format::Q3K,
            Mix::Q2K => Format::Q2K,
        }
    }
}

/// What a mix must know of a model before it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Layers.
    pub layers: usize,
    /// Heads of queries that share a head of keys and values.
    pub sharing: usize,
    /// Whether it is one of the models of 70 billion numbers whose values are shared by many heads.
    pub large: bool,
    /// Whether an importance matrix is at hand.
    pub has_importance: bool,
}

impl About {
    /// Of a model.
    pub fn of(shape: &Shape, has_importance: bool) -> About {
        let Shape { layers, heads, .. } = shape;
        // llama.cpp tells a model's size by its family and layers.
        let large = *layers == 80
            && match shape.family {
                "llama" => heads.queries != heads.keys,
                "qwen2" => true,
                _ => false,
            };
        About { layers: *layers, sharing: heads.queries / heads.keys.max(1), large, has_importance }
    }
}

/// The part that a tensor plays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Output,
    Embedding,
    Values,
    Attended,
    Down,
    Other,
}

/// The format of each tensor of a model; `None` where it stays as it is. `tensors`: names with dimensions, columns first,
/// in any order.
pub fn choose(mix: Mix, about: &About, tensors: &[(&str, &[u64])]) -> Vec<Option<Format>> {
    let wanted = mix.format();
    let all_values = tensors.iter().filter(|(name, _)| part(name) == Part::Values).count();
    let tied = !tensors.iter().any(|(name, _)| part(name) == Part::Output);
    // Values and ways down are counted in the order of layers, wherever they lie in the file.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|index| (layer_of(tensors[*index].0), tensors[*index].0));
    let (mut values, mut downs) = (0, 0);
    let mut chosen = vec![None; tensors.len()];
    for index in order {
        let (name, dims) = tensors[index];
        if !is_compressible(name, dims) {
            continue;
        }
        if wanted.block_len() == 1 {
            chosen[index] = Some(wanted);
            continue;
        }
        let cols = dims[0];
        let format = match part(name) {
            Part::Output => of_output(wanted, cols),
            Part::Embedding if tied => of_output(wanted, cols),
            Part::Values => {
                values += 1;
                of_values(mix, about, values - 1, all_values)
            }
            Part::Down => {
                downs += 1;
                of_down(mix, about, downs - 1)
            }
            Part::Attended => of_attended(mix),
            Part::Embedding | Part::Other => wanted,
        };
        chosen[index] = Some(fall_back(format, cols));
    }
    chosen
}

fn of_output(wanted: Format, cols: u64) -> Format {
    match wanted {
        Format::Q8_0 => Format::Q8_0,
        _ if !divides(wanted, cols) => Format::Q8_0,
        _ => Format::Q6K,
    }
}

/// The values, also where queries, keys and values are one tensor. `index`: of `count` such tensors.
fn of_values(mix: Mix, about: &About, index: usize, count: usize) -> Format {
    let format = match mix {
        Mix::Q4KM | Mix::Q5KM if needs_more(index, count) => Format::Q6K,
        Mix::Q4KS if index < 4 => Format::Q5K,
        Mix::IQ4NL | Mix::IQ4XS if about.sharing >= 4 => Format::Q5K,
        Mix::Q3KL => Format::Q5K,
        Mix::Q3KM if index < 2 => Format::Q5K,
        Mix::Q3KM => Format::Q4K,
        Mix::Q2K if about.sharing >= 4 => Format::Q4K,
        Mix::Q2K => Format::Q3K,
        _ => mix.format(),
    };
    match format {
        // Where many heads share them, values are a small part of the model, and more bits cost little.
        Format::Q3K | Format::Q4K if about.large => Format::Q5K,
        format => format,
    }
}

/// The way down from the middle of a feed-forward block. `index`: of as many as there are layers.
fn of_down(mix: Mix, about: &About, index: usize) -> Format {
    let first = index < about.layers / 8;
    match mix {
        Mix::Q4KM | Mix::Q5KM if needs_more(index, about.layers) => Format::Q6K,
        Mix::Q4KS if first => Format::Q5K,
        Mix::IQ4NL | Mix::IQ4XS if first && !about.has_importance => Format::Q5K,
        // Weighed by importance, the first of them go wrong without an offset.
        Mix::Q4_0 if first && about.has_importance => Format::Q4_1,
        Mix::Q5_0 if first && about.has_importance => Format::Q5_1,
        Mix::Q3KL => Format::Q5K,
        Mix::Q3KM if index < about.layers / 16 => Format::Q5K,
        Mix::Q3KM => Format::Q4K,
        Mix::Q2K => Format::Q3K,
        _ => mix.format(),
    }
}

/// What mixes the heads' answers.
fn of_attended(mix: Mix) -> Format {
    match mix {
        Mix::Q3KL => Format::Q5K,
        Mix::Q3KM => Format::Q4K,
        Mix::Q2K => Format::Q3K,
        _ => mix.format(),
    }
}

/// Whether a tensor is one of those where errors grow most.
fn needs_more(index: usize, count: usize) -> bool {
    let eighth = count / 8;
    index < eighth || index >= 7 * count / 8 || (index - eighth) % 3 == 2
}

/// Matrices are compressed; vectors, norms, positions and sentence kinds are small and stay.
fn is_compressible(name: &str, dims: &[u64]) -> bool {
    let matrix = dims.iter().skip(1).any(|dim| *dim > 1) && dims.iter().all(|dim| *dim > 0);
    let kept = name.contains("_norm.weight") || matches!(name, "position_embd.weight" | "token_types.weight");
    matrix && name.ends_with("weight") && !kept
}

fn part(name: &str) -> Part {
    match name {
        "output.weight" => Part::Output,
        "token_embd.weight" => Part::Embedding,
        _ if name.contains("attn_qkv.weight") || name.contains("attn_v.weight") => Part::Values,
        _ if name.contains("attn_output.weight") => Part::Attended,
        _ if name.contains("ffn_down") => Part::Down,
        _ => Part::Other,
    }
}

fn divides(format: Format, cols: u64) -> bool {
    cols.is_multiple_of(format.block_len() as u64)
}

/// A format whose blocks divide the row.
fn fall_back(format: Format, cols: u64) -> Format {
    if divides(format, cols) {
        return format;
    }
    let smaller = match format {
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        Format::Q6K => Format::Q8_0,
        Format::Q2K | Format::Q3K => Format::Q4_0,
        Format::IQ4XS => Format::IQ4NL,
        other => other,
    };
    if divides(smaller, cols) { smaller } else { Format::F16 }
}

/// The block that a tensor's name places it in: `blk.7.…` is in 7.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mix_is_found_by_its_name_in_any_case() {
        for (name, number, mix) in MIXES {
            assert_eq!(Mix::from_name(&name.to_ascii_lowercase()), Some(mix));
            assert_eq!(mix.name(), (name, number));
        }
        assert_eq!(Mix::from_name("q4_k"), Some(Mix::Q4KM));
        assert_eq!(Mix::from_name("IQ1_S"), None);
    }

    #[test]
    fn layers_count_by_number_not_by_name_or_place() {
        // By name 10 to 15 would come before 2, and by place 15 before all.
        let names: Vec<String> = (0..16).rev().map(|layer| format!("blk.{layer}.ffn_down.weight")).collect();
        let tensors: Vec<(&str, &[u64])> = names.iter().map(|name| (name.as_str(), &[256, 2][..])).collect();
        let about = About { layers: 16, sharing: 1, large: false, has_importance: false };
        let chosen = choose(Mix::Q4KS, &about, &tensors);
        let more: Vec<&str> =
            (0..16).filter(|at| chosen[*at] == Some(Format::Q5K)).map(|at| tensors[at].0).collect();
        assert_eq!(more, ["blk.1.ffn_down.weight", "blk.0.ffn_down.weight"]);
    }
}
