//! Several looks in one run: which networks allow it, and how the tensors of single looks are put together and taken apart.
//!
//! A network looks at several things at once along the first dimension of what goes in and comes out. That is believed only of a file
//! that leaves this dimension free, and of a recipe by which each look stands for itself: what carries state from one to the
//! next does not. Whether a look really gives the same beside others, `stage` finds out by asking.

use std::collections::BTreeMap;

use package::contract::{Extent, Net, Port};

use crate::after::Meaning;
use crate::before::Fill;
use crate::tensor::Tensor;

/// The most looks of one run.
pub const BATCH_MAX: usize = 256;

/// A recipe that takes looks together which cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// None, or too many.
    #[error("`batch` is {batch}, and must be from 1 to {BATCH_MAX}")]
    Count {
        /// As declared.
        batch: usize,
    },
    /// One look depends on the one before.
    #[error(
        "the input `{input}` carries state from one look to the next, so they cannot share a run: leave out `batch`"
    )]
    State {
        /// The input.
        input: String,
    },
    /// An input has no room for several.
    #[error(
        "{input} {why}, so looks cannot share a run: export the network with a free first dimension, or leave out `batch`"
    )]
    Input {
        /// The input, as the graph declares it.
        input: String,
        /// What is wrong with it.
        why: String,
    },
    /// What an answer reads does not belong to one look.
    #[error(
        "an answer reads {output}, which {why}, so looks cannot share a run: export the network with a free first dimension, or leave out `batch`"
    )]
    Output {
        /// The output, as the graph declares it.
        output: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What can be said without the network: the number, and that nothing is carried on.
pub fn check_alone(batch: usize, inputs: &BTreeMap<String, Fill>) -> Result<(), BatchError> {
    if !(1..=BATCH_MAX).contains(&batch) {
        return Err(BatchError::Count { batch });
    }
    match inputs.iter().find(|(_, fill)| matches!(fill, Fill::State { .. })) {
        Some((input, _)) if batch > 1 => Err(BatchError::State { input: input.clone() }),
        _ => Ok(()),
    }
}

/// Whether so many looks may share a run of this network. `inputs`: how each of its inputs is filled.
pub(crate) fn check(
    batch: usize,
    inputs: &BTreeMap<String, Fill>,
    answers: &[Meaning],
    net: &Net,
) -> Result<(), BatchError> {
    check_alone(batch, inputs)?;
    if batch == 1 {
        return Ok(());
    }
    let is_own = |port: &&Port| !matches!(inputs[&port.name], Fill::Constant { .. });
    let own: Vec<&Port> = net.inputs.iter().filter(is_own).collect();
    let mut called: Option<&str> = None;
    for port in &own {
        let wrong = |why: String| Err(BatchError::Input { input: port.to_string(), why });
        let Some(shape) = &port.shape else { return wrong("says no shape".to_owned()) };
        match shape.first() {
            None => return wrong("is a single number".to_owned()),
            Some(Extent::Fixed(size)) => return wrong(format!("has a first dimension of {size}")),
            Some(Extent::Named(name)) => match called {
                Some(before) if before != name => {
                    return wrong(format!("has a first dimension `{name}`, where another has `{before}`"));
                }
                _ => called = Some(name.as_str()),
            },
            Some(Extent::Free) => {}
        }
        match &inputs[&port.name] {
            Fill::Numbers(_) if shape.len() < 2 => {
                return wrong("has one dimension, which is the window's length".to_owned());
            }
            Fill::Numbers(numbers)
                if numbers.shape.as_ref().is_some_and(|shape| shape.first() != Some(&1)) =>
            {
                return wrong("is filled in a `shape` that does not begin with 1".to_owned());
            }
            _ => {}
        }
    }
    // Names of sizes that belong to what is looked at, and not to how many look.
    let within: Vec<&Extent> = own.iter().flat_map(|port| port.shape.iter().flatten().skip(1)).collect();
    let is_within =
        |name: &str| within.iter().any(|extent| matches!(extent, Extent::Named(other) if other == name));
    if let (Some(name), Some(port)) = (called.filter(|name| is_within(name)), own.first()) {
        let why = format!("has a first dimension `{name}`, which is another size as well");
        return Err(BatchError::Input { input: port.to_string(), why });
    }
    for name in answers.iter().flat_map(Meaning::outputs) {
        let Some(port) = net.outputs.iter().find(|port| port.name == name) else { continue };
        let wrong = |why: String| Err(BatchError::Output { output: port.to_string(), why });
        match port.shape.as_ref().map(|shape| shape.first()) {
            Some(None) => return wrong("is a single number".to_owned()),
            Some(Some(Extent::Fixed(size))) => return wrong(format!("has a first dimension of {size}")),
            Some(Some(Extent::Named(name))) if is_within(name) => {
                return wrong(format!(
                    "has a first dimension `{name}`, which is a size of what is looked at"
                ));
            }
            // What the file does not say is seen when it comes out.
            Some(Some(Extent::Named(_) | Extent::Free)) | None => {}
        }
    }
    Ok(())
}

/// For each input, whether each look puts its own in; otherwise all looks share one.
pub(crate) fn own(inputs: &BTreeMap<String, Fill>, net: &Net) -> Vec<bool> {
    let called = |port: &Port| match port.shape.as_ref()?.first()? {
        Extent::Named(name) => Some(name.clone()),
        Extent::Fixed(_) | Extent::Free => None,
    };
    let is_constant = |port: &&Port| matches!(inputs[&port.name], Fill::Constant { .. });
    let looks = net.inputs.iter().filter(|port| !is_constant(port)).find_map(called);
    let is_own = |port: &Port| match &inputs[&port.name] {
        Fill::Constant { shape, .. } => {
            let is_free = match port.shape.as_ref().and_then(|shape| shape.first()) {
                Some(Extent::Named(_)) => called(port) == looks,
                Some(Extent::Free) => true,
                Some(Extent::Fixed(_)) | None => false,
            };
            is_free && shape.first() == Some(&1)
        }
        _ => true,
    };
    net.inputs.iter().map(is_own).collect()
}

/// The tensors of several looks as one, a look after the other; `None` if they are not alike, or one is not of one look.
pub(crate) fn together(tensors: &[&Tensor]) -> Option<Tensor> {
    let (first, rest) = tensors.split_first()?;
    let mut shape = first.shape().to_vec();
    *shape.first_mut().filter(|size| **size == 1)? = tensors.len();
    let mut data = first.data().clone();
    for tensor in rest {
        if tensor.shape() != first.shape() || !data.extend(tensor.data()) {
            return None;
        }
    }
    Tensor::new(shape, data).ok()
}

/// What came out of so many looks, for each its own; `None` if its first dimension is another.
pub(crate) fn apart(tensor: &Tensor, looks: usize) -> Option<Vec<Tensor>> {
    let mut shape = tensor.shape().to_vec();
    *shape.first_mut().filter(|size| **size == looks)? = 1;
    let each = tensor.data().len() / looks.max(1);
    let of =
        |look: usize| Tensor::new(shape.clone(), tensor.data().part(look * each..(look + 1) * each)).ok();
    (0..looks).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Data;

    #[test]
    fn what_is_put_together_comes_apart_as_it_was() {
        let floats = |list: [f32; 4]| Tensor::of_f32(&[1, 2, 2], list.to_vec()).unwrap();
        let texts = |word: &str| Tensor::new(vec![1, 1], Data::Text(vec![word.to_owned()])).unwrap();
        let (a, b) = (floats([1.0, 2.0, 3.0, 4.0]), floats([5.0, 6.0, 7.0, 8.0]));
        let both = together(&[&a, &b, &a]).unwrap();
        assert_eq!(both.shape(), [3, 2, 2]);
        assert_eq!(apart(&both, 3), Some(vec![a.clone(), b, a.clone()]));
        let words = together(&[&texts("x"), &texts("y")]).unwrap();
        assert_eq!(apart(&words, 2), Some(vec![texts("x"), texts("y")]));
        assert_eq!((apart(&both, 2), together(&[])), (None, None));
        assert_eq!(together(&[&a, &texts("x")]), None);
        assert_eq!(together(&[&both, &both]), None, "they are of several looks already");
        let single = Tensor::new(vec![], Data::I64(vec![7])).unwrap();
        assert_eq!((together(&[&single]), apart(&single, 1)), (None, None));
    }
}
