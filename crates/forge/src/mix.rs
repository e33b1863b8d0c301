//! Which tensor gets how many bits: the mixes that users ask for by name.
//!
//! The rules are llama.cpp's (`llama-quant.cpp`, read 2026-11), so that a `Q4_K_M` made here has the same tensors in the
//! same formats as one made there: values and the way down get more bits where errors grow most (the first and last
//! eighth of the layers, and every third between), the output gets 6 bits, and rows that are no multiple of 256 fall
//! back to a format with blocks of 32.

use kernels::format::Format;

/// What a model is compressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Every matrix in one format, with the output and what does not divide in better ones.
    Plain(Format),
    /// 4 bits, more where it matters.
    Q4KM,
    /// 4 bits, a little more in the first layers.
    Q4KS,
    /// 5 bits, more where it matters.
    Q5KM,
    /// 5 bits.
    Q5KS,
}

/// Every mix by its name, and its number in `general.file_type`.
pub const MIXES: [(&str, u32, Mix); 12] = [
    ("F32", 0, Mix::Plain(Format::F32)),
    ("F16", 1, Mix::Plain(Format::F16)),
    ("BF16", 32, Mix::Plain(Format::BF16)),
    ("Q8_0", 7, Mix::Plain(Format::Q8_0)),
    ("Q6_K", 18, Mix::Plain(Format::Q6K)),
    ("Q5_K_M", 17, Mix::Q5KM),
    ("Q5_K_S", 16, Mix::Q5KS),
    ("Q5_0", 8, Mix::Plain(Format::Q5_0)),
    ("Q5_1", 9, Mix::Plain(Format::Q5_1)),
    ("Q4_K_M", 15, Mix::Q4KM),
    ("Q4_K_S", 14, Mix::Q4KS),
    ("Q4_0", 2, Mix::Plain(Format::Q4_0)),
];

impl Mix {
    /// The mix of this name, in any case.
    pub fn from_name(name: &str) -> Option<Mix> {
        MIXES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).map(|(.., mix)| *mix)
    }

    /// Its name, and its number in `general.file_type`.
    pub fn name(self) -> (&'static str, u32) {
        let known = MIXES.iter().find(|(.., mix)| *mix == self);
        known.map(|(name, number, _)| (*name, *number)).unwrap_or(("unnamed", 1024))
    }

    /// The format that most tensors get.
    pub fn format(self) -> Format {
        match self {
            Mix::Plain(format) => format,
            Mix::Q4KM | Mix::Q4KS => Format::Q4K,
            Mix::Q5KM | Mix::Q5KS => Format::Q5K,
        }
    }
}

/// What a mix must know of a model before it chooses.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What it is compressed to.
    pub mix: Mix,
    /// Layers of the model.
    pub layers: usize,
    /// Tensors of values (`attn_v`, `attn_qkv`) in the file.
    pub values: usize,
    /// Whether the file has an output of its own; if not, the embedding is the output too.
    pub has_output: bool,
    /// Whether an importance matrix is at hand.
    pub has_importance: bool,
}

/// The part that a tensor plays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Output,
    Embedding,
    Values,
    FusedValues,
    Down,
    Other,
}

impl Plan {
    /// The format of a tensor: `None` where it stays as it is.
    ///
    /// `dims`: columns first. `layer`: which block it is in. `values_before`: tensors of values before it, in order of
    /// layers.
    pub fn choose(&self, name: &str, dims: &[u64], layer: usize, values_before: usize) -> Option<Format> {
        if !compressible(name, dims) {
            return None;
        }
        let wanted = self.mix.format();
        if matches!(wanted, Format::F32 | Format::F16 | Format::BF16) {
            return Some(wanted);
        }
        let cols = dims[0];
        let format = match part(name) {
            Part::Output => self.output(wanted, cols),
            Part::Embedding if !self.has_output => self.output(wanted, cols),
            Part::Values | Part::FusedValues => self.values(part(name), wanted, values_before),
            Part::Down => self.down(wanted, layer),
            _ => wanted,
        };
        Some(fall_back(format, cols))
    }

    fn output(&self, wanted: Format, cols: u64) -> Format {
        match wanted {
            Format::Q8_0 => Format::Q8_0,
            _ if !cols.is_multiple_of(wanted.block_len() as u64) => Format::Q8_0,
            _ => Format::Q6K,
        }
    }

    fn values(&self, part: Part, wanted: Format, before: usize) -> Format {
        match self.mix {
            Mix::Q4KM | Mix::Q5KM if more_bits(before, self.values) => Format::Q6K,
            // llama.cpp has a second rule for fused tensors that its first one hides: they go by the first.
            Mix::Q4KS if before < 4 && matches!(part, Part::Values | Part::FusedValues) => Format::Q5K,
            _ => wanted,
        }
    }

    fn down(&self, wanted: Format, layer: usize) -> Format {
        let first = layer < self.layers / 8;
        match (self.mix, wanted) {
            (Mix::Q4KM | Mix::Q5KM, _) if more_bits(layer, self.layers) => Format::Q6K,
            (Mix::Q4KS, _) if first => Format::Q5K,
            // Even with an importance matrix the first of them go wrong without an offset.
            (_, Format::Q4_0) if self.has_importance && first => Format::Q4_1,
            (_, Format::Q5_0) if self.has_importance && first => Format::Q5_1,
            _ => wanted,
        }
    }
}

/// Matrices are compressed; vectors, norms, positions and sentence kinds are small and stay.
fn compressible(name: &str, dims: &[u64]) -> bool {
    let matrix = dims.iter().skip(1).any(|dim| *dim > 1);
    let kept = name.contains("_norm.weight") || matches!(name, "position_embd.weight" | "token_types.weight");
    matrix && name.ends_with("weight") && !kept
}

fn part(name: &str) -> Part {
    match name {
        "output.weight" => Part::Output,
        "token_embd.weight" => Part::Embedding,
        _ if name.contains("attn_qkv.weight") => Part::FusedValues,
        _ if name.contains("attn_v.weight") => Part::Values,
        _ if name.contains("ffn_down") => Part::Down,
        _ => Part::Other,
    }
}

/// Whether a tensor is one of those where errors grow most.
fn more_bits(index: usize, count: usize) -> bool {
    let eighth = count / 8;
    index < eighth || index >= 7 * count / 8 || (index - eighth) % 3 == 2
}

/// A format whose blocks divide the row.
fn fall_back(format: Format, cols: u64) -> Format {
    let divides = |format: Format| cols.is_multiple_of(format.block_len() as u64);
    if divides(format) {
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
    if divides(smaller) { smaller } else { Format::F16 }
}

/// Whether a tensor counts among those of values.
pub fn is_values(name: &str) -> bool {
    matches!(part(name), Part::Values | Part::FusedValues)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mix: Mix) -> Plan {
        Plan { mix, layers: 16, values: 16, has_output: false, has_importance: false }
    }

    fn check(plan: Plan, name: &str, cols: u64, index: usize, expected: Option<Format>) {
        assert_eq!(plan.choose(name, &[cols, 64], index, index), expected, "{plan:?} {name} {cols} {index}");
    }

    #[test]
    fn tensors_get_the_bits_that_the_mix_says() {
        let medium = plan(Mix::Q4KM);
        // Of 16 layers the first two, the last two and each third between: 4, 7, 10, 13.
        for (layer, format) in [(0, Format::Q6K), (2, Format::Q4K), (4, Format::Q6K), (14, Format::Q6K)] {
            check(medium, "blk.0.attn_v.weight", 2048, layer, Some(format));
            check(medium, "blk.0.ffn_down.weight", 2048, layer, Some(format));
            check(medium, "blk.0.attn_q.weight", 2048, layer, Some(Format::Q4K));
        }
        check(medium, "token_embd.weight", 2048, 0, Some(Format::Q6K));
        let own = Plan { has_output: true, ..medium };
        check(own, "token_embd.weight", 2048, 0, Some(Format::Q4K));
        check(own, "output.weight", 2048, 0, Some(Format::Q6K));
        check(medium, "blk.0.attn_norm.weight", 2048, 0, None);
        check(medium, "position_embd.weight", 2048, 0, None);
        assert_eq!(medium.choose("blk.0.attn_q.bias", &[2048], 0, 0), None);
    }

    #[test]
    fn rows_that_do_not_divide_fall_back() {
        let medium = plan(Mix::Q4KM);
        check(medium, "blk.0.attn_q.weight", 576, 0, Some(Format::Q5_0));
        check(medium, "blk.0.ffn_down.weight", 576, 0, Some(Format::Q8_0));
        check(medium, "token_embd.weight", 576, 0, Some(Format::Q8_0));
        check(medium, "blk.0.attn_q.weight", 100, 0, Some(Format::F16));
        check(plan(Mix::Plain(Format::Q4_0)), "blk.0.attn_q.weight", 576, 0, Some(Format::Q4_0));
        check(plan(Mix::Plain(Format::Q4_0)), "token_embd.weight", 576, 0, Some(Format::Q8_0));
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Mix::from_name("q4_k_m"), Some(Mix::Q4KM));
        assert_eq!(Mix::from_name("Q8_0"), Some(Mix::Plain(Format::Q8_0)));
        assert_eq!(Mix::from_name("IQ1_S"), None);
    }
}
