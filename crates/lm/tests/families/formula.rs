//! Numbers of the tiny models: a formula of (model, tensor, index), the same as `peers/formula.py`.

/// FNV-1a, 64 bits.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The outputs of splitmix64 started at `seed`.
fn splitmix(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Weights are centre + spread · u with u in [-1, 1); why so, stands in the Python file.
fn centre_and_spread(tensor: &str, family: &str) -> (f32, f32) {
    let gemma = family.starts_with("gemma");
    match tensor {
        _ if tensor.contains("norm") && tensor.ends_with(".weight") => (1.0, 0.5),
        _ if tensor.ends_with(".bias") => (0.0, 0.25),
        "token_embd.weight" => (0.0, if gemma { 0.5 } else { 1.0 }),
        "position_embd.weight" | "token_types.weight" | "output.weight" => (0.0, 0.5),
        _ => (0.0, 0.25),
    }
}

/// The first `count` numbers of a tensor, row by row.
pub(crate) fn weights(model: &str, family: &str, tensor: &str, count: usize) -> Vec<f32> {
    let (centre, spread) = centre_and_spread(tensor, family);
    let uniform = splitmix(fnv1a(&format!("{model}/{tensor}"))).map(|z| ((z >> 52) as f32 - 2048.0) / 2048.0);
    uniform.map(|u| centre + spread * u).take(count).collect()
}
