//! The golden set of a network: tensors go in, and what comes out is what must come out on every device, within a tolerance.
//!
//! Numbers of a golden set are written as `float32`, whatever kinds the network's tensors are of. Inputs that are left out are
//! zeros, if their shape is fixed: state at the beginning of a stream.

use std::collections::BTreeMap;

use package::contract::{Extent, Port};
use package::golden::{self, Tensors};

use crate::network::{Network, RunError};
use crate::tensor::{Data, Tensor, TensorError, elements};

/// By how much an answer may differ, of the largest number in it: runtimes add in another order.
pub(crate) const TOLERANCE: f64 = 1e-3;

/// A case without an answer.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It names an input that the network has not.
    #[error("the golden set fills `{name}`, which the network does not take")]
    Unknown {
        /// The input.
        name: String,
    },
    /// An input that it leaves open, and whose shape is free.
    #[error("the golden set does not fill `{name}`, whose shape is free")]
    Open {
        /// The input.
        name: String,
    },
    /// Texts, which a golden set has none of.
    #[error("`{name}` holds texts, and a golden set holds numbers")]
    Text {
        /// The input or output.
        name: String,
    },
    /// Numbers that fill no tensor.
    #[error("`{name}` cannot be filled")]
    Tensor {
        /// The input.
        name: String,
        /// Why.
        source: TensorError,
    },
    /// The network did not run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What the network makes of the inputs of one case, by the names of its outputs.
pub fn answer(
    network: &mut Network,
    input: &BTreeMap<String, golden::Tensor>,
) -> Result<BTreeMap<String, golden::Tensor>, CaseError> {
    if let Some(name) = input.keys().find(|name| network.inputs().iter().all(|port| port.name != **name)) {
        return Err(CaseError::Unknown { name: name.clone() });
    }
    let inputs = network.inputs().iter().map(|port| filled(port, input.get(&port.name)));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = network.run(&inputs)?;
    let named = network.outputs().iter().zip(outputs).map(|(port, tensor)| {
        let numbers = tensor.data().numbers().ok_or_else(|| CaseError::Text { name: port.name.clone() })?;
        let shape = tensor.shape().iter().map(|size| *size as u64).collect();
        let values = numbers.into_iter().map(|number| number as f32).collect();
        Ok((port.name.clone(), golden::Tensor { shape, values }))
    });
    named.collect()
}

/// A case whose answer is what the network answers here; numbers may differ elsewhere by a thousandth of the largest.
pub fn case(network: &mut Network, input: BTreeMap<String, golden::Tensor>) -> Result<Tensors, CaseError> {
    let output = answer(network, &input)?;
    let largest = output
        .values()
        .flat_map(|tensor| &tensor.values)
        .fold(0f64, |largest, value| largest.max(f64::from(*value).abs()));
    Ok(Tensors { input, output, abs_tol: TOLERANCE * largest.max(1e-6) })
}

/// Asks for zeros wherever shapes are fixed: whether it runs at all. `Ok(false)`: some shape is free, so nothing was asked.
pub fn dry_run(network: &mut Network) -> Result<bool, CaseError> {
    match answer(network, &BTreeMap::new()) {
        Ok(_) | Err(CaseError::Text { .. }) => Ok(true),
        Err(CaseError::Open { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The tensor of an input.
fn filled(port: &Port, given: Option<&golden::Tensor>) -> Result<Tensor, CaseError> {
    let name = || port.name.clone();
    let Some(given) = given else {
        let shape = fixed(port).ok_or_else(|| CaseError::Open { name: name() })?;
        let count = elements(&shape).ok_or(TensorError::TooLarge { rank: shape.len() });
        let count = count.map_err(|source| CaseError::Tensor { name: name(), source })?;
        let data = Data::zeros(&port.element, count).ok_or_else(|| CaseError::Text { name: name() })?;
        return Tensor::new(shape, data).map_err(|source| CaseError::Tensor { name: name(), source });
    };
    let numbers: Vec<f64> = given.values.iter().map(|value| f64::from(*value)).collect();
    let data = Data::of_numbers(&port.element, &numbers).ok_or_else(|| CaseError::Text { name: name() })?;
    let shape = given.shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
    Tensor::new(shape, data).map_err(|source| CaseError::Tensor { name: name(), source })
}

/// The shape of an input that can have no other.
fn fixed(port: &Port) -> Option<Vec<usize>> {
    let sizes = port.shape.as_ref()?.iter().map(|extent| match extent {
        Extent::Fixed(size) => usize::try_from(*size).ok(),
        Extent::Named(_) | Extent::Free => None,
    });
    sizes.collect()
}

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests {
    use package::golden::{Answer, Budget, Case, Golden};

    use super::*;
    use crate::network::Options;
    use crate::specimen::{Size, constant, model, node, value};

    /// `y = x w`, of three numbers one.
    fn weighing(weights: [f32; 3]) -> Network {
        let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[3, 1], &weights)];
        let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
        let bytes = model(&parts, &[port("x", 3)], &[port("y", 1)]);
        Network::load(&bytes, &Options::default()).unwrap()
    }

    fn x(values: [f32; 3]) -> BTreeMap<String, golden::Tensor> {
        [("x".to_owned(), golden::Tensor { shape: vec![1, 3], values: values.to_vec() })].into()
    }

    #[test]
    fn a_network_gives_its_own_answers_and_another_does_not() {
        let made = case(&mut weighing([1.0, 2.0, 3.0]), x([1.0, 1.0, 2.0])).unwrap();
        assert_eq!(made.output["y"].values, [9.0]);
        let set = Golden {
            form: 1,
            kind: "net".to_owned(),
            cases: vec![Case::Tensors(made.clone())],
            budget: Budget::default(),
        };
        let set = Golden::parse(&set.to_bytes()).unwrap();
        let judged = |weights| {
            let answered = answer(&mut weighing(weights), &made.input).unwrap();
            set.judge(&[Answer::Tensors(answered)])
        };
        assert_eq!(judged([1.0, 2.0, 3.0]), Ok(()));
        assert_eq!(judged([1.0, 2.0, 3.001]), Ok(()));
        assert!(judged([1.0, 2.0, 3.1]).is_err());
    }

    #[test]
    fn what_cannot_be_filled_is_said() {
        let mut network = weighing([1.0; 3]);
        let wrong = |input: BTreeMap<String, golden::Tensor>, network: &mut Network| {
            answer(network, &input).unwrap_err().to_string()
        };
        let stranger = [("z".to_owned(), golden::Tensor { shape: vec![1], values: vec![0.0] })].into();
        assert!(wrong(stranger, &mut network).contains("`z`, which the network does not take"));
        let narrow = [("x".to_owned(), golden::Tensor { shape: vec![1, 2], values: vec![0.0; 2] })].into();
        assert!(wrong(narrow, &mut network).contains("the network takes"));
        assert!(dry_run(&mut network).unwrap());
    }
}
