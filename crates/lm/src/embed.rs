//! Sentences to vectors: an encoder's states, pooled and normalised.

use kernels::page::CacheFormat;

use crate::forward::{Part, Scratch, StepError, Wanted};
use crate::network::{Network, page_shape};
use crate::shape::Pooling;

/// Sentences to vectors, each of the model's width and of length 1.
///
/// `pooling`: what the model says, unless another is asked for; a model that writes text has none of its own.
pub fn embed(
    network: &Network,
    scratch: &mut Scratch,
    sentences: &[Vec<u32>],
    pooling: Pooling,
) -> Result<Vec<Vec<f32>>, StepError> {
    // In f32: the pages live as long as the step, and an encoder is not made less exact for nothing.
    let pages = page_shape(network.shape(), CacheFormat::F32);
    let mut caches: Vec<_> = sentences.iter().map(|tokens| network.sequence(pages, tokens.len())).collect();
    let mut parts: Vec<Part> = sentences
        .iter()
        .zip(&mut caches)
        .map(|(tokens, cache)| Part { tokens, cache, adapter: None, wanted: Wanted::All })
        .collect();
    let rows = network.states(scratch, &mut parts, None)?;
    let (states, width) = (network.last_states(scratch), network.shape().width);
    let vectors = rows.into_iter().map(|rows| {
        let tokens = &states[rows.start * width..rows.end * width];
        let mut vector = pool(tokens, width, pooling);
        normalise(&mut vector);
        vector
    });
    Ok(vectors.collect())
}

/// `states: [tokens, width]` to one vector; zeros of no tokens.
fn pool(states: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let mut rows = states.chunks_exact(width);
    match pooling {
        Pooling::First => rows.next().unwrap_or(&vec![0.0; width]).to_vec(),
        Pooling::Last => rows.next_back().unwrap_or(&vec![0.0; width]).to_vec(),
        Pooling::Mean => {
            let count = rows.len().max(1) as f32;
            let mut mean = vec![0.0; width];
            rows.for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / count));
            mean
        }
    }
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_pooled_and_normalised() {
        let states = [1.0, 2.0, 3.0, 6.0];
        let check = |pooling, expected: [f32; 2]| assert_eq!(pool(&states, 2, pooling), expected);
        check(Pooling::First, [1.0, 2.0]);
        check(Pooling::Last, [3.0, 6.0]);
        check(Pooling::Mean, [2.0, 4.0]);
        assert_eq!(pool(&[], 2, Pooling::Mean), [0.0, 0.0]);
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 2];
        normalise(&mut nothing);
        assert_eq!(nothing, [0.0; 2]);
    }
}
