//! What comes after a network: its outputs become a word with a probability, boxes around things, a vector, or plain numbers.
//!
//! Declared as data, like what comes before. Each meaning names the outputs it reads and the fields it gives; a probability is
//! only called `p` if the declaration says how the output becomes one.

use package::contract::Port;
use serde::{Deserialize, Serialize};

use crate::picture::Placed;
use crate::tensor::Tensor;

/// The most boxes that are looked at one against another.
const CANDIDATES_MAX: usize = 4096;
/// The most labels of a declaration.
const LABELS_MAX: usize = 1 << 16;

/// What outputs mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "lowercase", deny_unknown_fields)]
pub enum Meaning {
    /// One score for each class: gives `label` and `p`.
    Classes(Classes),
    /// Boxes with scores: gives `count`, and `label` and `p` of the best.
    Boxes(Boxes),
    /// A vector that stands for the input: gives no field, and the vector.
    Embedding(Embedding),
    /// Numbers as they are: gives each name that is declared.
    Numbers(Named),
}

/// How scores become probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// They are probabilities already.
    #[default]
    None,
    /// One class of many: `exp(x_i) / Σ exp(x_j)`.
    Softmax,
    /// Each class by itself: `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// One score for each class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classes {
    /// The output; shape `[…, classes]`, of which the last `classes` numbers are read.
    pub output: String,
    /// What stands before the names of its fields: with `shelf_`, `shelf_label`.
    pub prefix: String,
    /// How scores become probabilities.
    pub activation: Activation,
    /// The classes, in order; where there are none they are called `0`, `1`, …
    pub labels: Vec<String>,
    /// The most classes that are told; 1 if nothing is said.
    pub top: Option<usize>,
    /// Classes below are not told.
    pub threshold: f32,
    /// Thresholds of single classes, by label.
    pub thresholds: std::collections::BTreeMap<String, f32>,
    /// What `label` is if no class is told.
    pub otherwise: String,
}

/// Boxes with scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxes {
    /// The output with the sides of the boxes; shape `[1, boxes, 4 …]`, or `[1, 4 …, boxes]`.
    pub boxes: String,
    /// The output with the scores, `[1, boxes, classes]`; left out: they stand behind the sides in the same output.
    #[serde(default)]
    pub scores: Option<String>,
    /// What stands before the names of its fields.
    #[serde(default)]
    pub prefix: String,
    /// What the four numbers are.
    #[serde(default)]
    pub sides: Sides,
    /// Pixels of the network's input, or parts of its sides from 0 to 1.
    #[serde(default)]
    pub unit: Unit,
    /// A box is a column and not a row.
    #[serde(default)]
    pub columns: bool,
    /// How scores become probabilities.
    #[serde(default)]
    pub activation: Activation,
    /// The class that stands for nothing, and gives no box.
    #[serde(default)]
    pub background: Option<usize>,
    /// The classes, in order.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Boxes below are left out.
    pub threshold: f32,
    /// Thresholds of single classes, by label.
    #[serde(default)]
    pub thresholds: std::collections::BTreeMap<String, f32>,
    /// Of two boxes of one class that share more than this of their union, the better one stays.
    pub overlap: f32,
    /// The most boxes that are told.
    #[serde(default = "hundred")]
    pub most: usize,
}

fn hundred() -> usize {
    100
}

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sides {
    /// Left, top, right, bottom.
    #[default]
    Corners,
    /// The middle, across and down; then width and height.
    Middle,
}

/// What a box is measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Parts of the sides of the network's input.
    #[default]
    Relative,
    /// Its pixels.
    Pixels,
}

/// A vector that stands for the input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedding {
    /// The output: `[1, width]`, or `[1, length, width]`.
    pub output: String,
    /// The input that says which of `length` count, by 1 and 0; their mean is the vector.
    pub mask: Option<String>,
    /// The vector is divided by its length, in the sense of Euclid.
    pub unit_length: bool,
}

/// Numbers as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Named {
    /// The output.
    pub output: String,
    /// A field for each number, in order; an empty name is left out.
    pub names: Vec<String>,
    /// What is done to each number first.
    pub activation: Activation,
}

/// A class and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its name.
    pub label: String,
    /// From 0 to 1, if the declaration is right.
    pub p: f32,
}

/// Something in a picture; sides from 0 to 1, of the picture as it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// What.
    pub label: String,
    /// How probable it is.
    pub p: f32,
    /// The left side.
    pub left: f32,
    /// The upper side.
    pub top: f32,
    /// The right side.
    pub right: f32,
    /// The lower side.
    pub bottom: f32,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Field {
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
}

/// What came out of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// Fields by name, in the order of the declaration.
    pub fields: Vec<(String, Field)>,
    /// Classes, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranked: Vec<Ranked>,
    /// Boxes, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<Found>,
    /// The vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vector: Vec<f32>,
}

/// A declaration that does not fit the network, or an output that does not fit the declaration.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MeaningError {
    /// It names what is not there.
    #[error("the network has no {side} `{name}`; it has {there}")]
    Missing {
        /// `output`
        side: &'static str,
        /// The name in the declaration.
        name: String,
        /// The names that there are.
        there: String,
    },
    /// Two fields of one name, or a name that is none.
    #[error("the field `{name}` {why}")]
    Field {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A number of the declaration.
    #[error("`{name}` is {value}, and must be {must}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it must be.
        must: &'static str,
    },
    /// An output of another shape.
    #[error("`{output}` came as {shape:?}, which is not {expected}")]
    Shape {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What the declaration says of it.
        expected: String,
    },
}

/// A step's outputs, and what they belong to.
pub(crate) struct Step<'a> {
    /// The outputs' names.
    pub(crate) ports: &'a [Port],
    /// The outputs.
    pub(crate) outputs: &'a [Tensor],
    /// The inputs' names.
    pub(crate) input_ports: &'a [Port],
    /// The inputs.
    pub(crate) inputs: &'a [Tensor],
    /// Where a picture lies that was looked at, and its width and height in the tensor.
    pub(crate) placed: Option<(Placed, (usize, usize))>,
}

impl Step<'_> {
    fn output(&self, name: &str) -> Result<(&Tensor, Vec<f32>), MeaningError> {
        let found = self.ports.iter().zip(self.outputs).find(|(port, _)| port.name == name);
        let (_, tensor) = found.ok_or_else(|| missing("output", name, self.ports))?;
        let numbers = match tensor.f32s() {
            Some(list) => list.to_vec(),
            None => {
                tensor.data().numbers().unwrap_or_default().into_iter().map(|number| number as f32).collect()
            }
        };
        Ok((tensor, numbers))
    }
}

fn missing(side: &'static str, name: &str, ports: &[Port]) -> MeaningError {
    let there: Vec<String> = ports.iter().map(|port| format!("`{}`", port.name)).collect();
    MeaningError::Missing { side, name: name.to_owned(), there: there.join(", ") }
}

fn wrong_shape(output: &str, tensor: &Tensor, expected: impl Into<String>) -> MeaningError {
    MeaningError::Shape {
        output: output.to_owned(),
        shape: tensor.shape().to_vec(),
        expected: expected.into(),
    }
}

impl Meaning {
    /// The outputs that it reads.
    pub(crate) fn outputs(&self) -> Vec<&str> {
        match self {
            Meaning::Classes(classes) => vec![&classes.output],
            Meaning::Boxes(boxes) => std::iter::once(&*boxes.boxes).chain(boxes.scores.as_deref()).collect(),
            Meaning::Embedding(embedding) => vec![&embedding.output],
            Meaning::Numbers(named) => vec![&named.output],
        }
    }

    /// The fields that it gives, and whether each is a word.
    pub fn fields(&self) -> Vec<(String, bool)> {
        match self {
            Meaning::Classes(Classes { prefix, .. }) => {
                vec![(format!("{prefix}label"), true), (format!("{prefix}p"), false)]
            }
            Meaning::Boxes(Boxes { prefix, .. }) => {
                vec![
                    (format!("{prefix}count"), false),
                    (format!("{prefix}label"), true),
                    (format!("{prefix}p"), false),
                ]
            }
            Meaning::Embedding(_) => vec![],
            Meaning::Numbers(named) => {
                named.names.iter().filter(|name| !name.is_empty()).map(|name| (name.clone(), false)).collect()
            }
        }
    }

    /// Whether it fits a network with these inputs and outputs.
    pub(crate) fn check(&self, inputs: &[Port], outputs: &[Port]) -> Result<(), MeaningError> {
        for name in self.outputs() {
            if !outputs.iter().any(|port| port.name == name) {
                return Err(missing("output", name, outputs));
            }
        }
        let part = |name: &'static str, value: f32| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(MeaningError::Value { name, value: f64::from(value), must: "from 0 to 1" }),
        };
        let labels = |list: &[String]| match list.len() <= LABELS_MAX {
            true => Ok(()),
            false => Err(MeaningError::Value { name: "labels", value: list.len() as f64, must: "fewer" }),
        };
        match self {
            Meaning::Classes(classes) => {
                labels(&classes.labels)?;
                if classes.activation != Activation::None {
                    part("threshold", classes.threshold)?;
                }
                Ok(())
            }
            Meaning::Boxes(boxes) => {
                labels(&boxes.labels)?;
                part("threshold", boxes.threshold)?;
                part("overlap", boxes.overlap)
            }
            Meaning::Embedding(Embedding { mask: Some(mask), .. })
                if !inputs.iter().any(|port| port.name == *mask) =>
            {
                Err(missing("input", mask, inputs))
            }
            Meaning::Embedding(_) | Meaning::Numbers(_) => Ok(()),
        }
    }

    /// Reads the outputs of a step into `answer`.
    pub(crate) fn read(&self, step: &Step<'_>, answer: &mut Answer) -> Result<(), MeaningError> {
        match self {
            Meaning::Classes(classes) => classes.read(step, answer),
            Meaning::Boxes(boxes) => boxes.read(step, answer),
            Meaning::Embedding(embedding) => embedding.read(step, answer),
            Meaning::Numbers(named) => named.read(step, answer),
        }
    }
}

/// The name of a class.
fn label(labels: &[String], at: usize) -> String {
    labels.get(at).cloned().unwrap_or_else(|| at.to_string())
}

impl Activation {
    /// Scores to probabilities, in place.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Activation::None => {}
            Activation::Sigmoid => scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
            Activation::Softmax => {
                let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores.iter_mut().for_each(|score| *score = (*score - most).exp());
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

impl Classes {
    fn read(&self, step: &Step<'_>, answer: &mut Answer) -> Result<(), MeaningError> {
        let (tensor, mut scores) = step.output(&self.output)?;
        let classes = tensor.shape().last().copied().unwrap_or(1);
        if scores.is_empty() || scores.len() != classes {
            return Err(wrong_shape(&self.output, tensor, "one score for each class"));
        }
        if !self.labels.is_empty() && self.labels.len() != classes {
            return Err(wrong_shape(
                &self.output,
                tensor,
                format!("scores for {} labels", self.labels.len()),
            ));
        }
        self.activation.apply(&mut scores);
        let mut ranked: Vec<Ranked> = scores
            .iter()
            .enumerate()
            .map(|(at, p)| Ranked { label: label(&self.labels, at), p: *p })
            .collect();
        ranked
            .retain(|class| class.p >= self.thresholds.get(&class.label).copied().unwrap_or(self.threshold));
        ranked.sort_by(|a, b| b.p.total_cmp(&a.p));
        ranked.truncate(self.top.unwrap_or(1).max(1));
        let best = ranked.first();
        let (word, p) = best.map_or((&self.otherwise, None), |best| (&best.label, Some(best.p)));
        answer.fields.push((format!("{}label", self.prefix), Field::Word(word.clone())));
        if let Some(p) = p {
            answer.fields.push((format!("{}p", self.prefix), Field::Number(f64::from(p))));
        }
        answer.ranked.extend(ranked);
        Ok(())
    }
}

impl Boxes {
    fn read(&self, step: &Step<'_>, answer: &mut Answer) -> Result<(), MeaningError> {
        let (tensor, sides) = step.output(&self.boxes)?;
        let (rows, wide) = match (tensor.shape(), self.columns) {
            ([.., rows, wide], false) | ([.., wide, rows], true) => (*rows, *wide),
            _ => return Err(wrong_shape(&self.boxes, tensor, "a row of numbers for each box")),
        };
        if sides.len() != rows * wide || wide < 4 {
            return Err(wrong_shape(&self.boxes, tensor, "one list of boxes of four numbers or more"));
        }
        // Scores: in an output of their own, or behind the four sides.
        let (scores, score_wide, skipped) = match &self.scores {
            None => (sides.clone(), wide, 4),
            Some(name) => {
                let (tensor, scores) = step.output(name)?;
                if rows == 0 || scores.len() % rows != 0 || scores.is_empty() {
                    return Err(wrong_shape(name, tensor, format!("scores for {rows} boxes")));
                }
                let wide = scores.len() / rows;
                (scores, wide, 0)
            }
        };
        let at = |list: &[f32], wide: usize, row: usize, column: usize| match self.columns {
            false => list[row * wide + column],
            true => list[column * rows + row],
        };
        let mut found: Vec<(usize, Found)> = Vec::new();
        for row in 0..rows {
            let mut own: Vec<f32> =
                (skipped..score_wide).map(|column| at(&scores, score_wide, row, column)).collect();
            self.activation.apply(&mut own);
            let classes =
                own.iter().enumerate().filter(|(class, p)| Some(*class) != self.background && !p.is_nan());
            let Some((class, p)) = classes.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { continue };
            let label = label(&self.labels, class);
            if *p < self.thresholds.get(&label).copied().unwrap_or(self.threshold) {
                continue;
            }
            let [a, b, c, d] = [0, 1, 2, 3].map(|column| at(&sides, wide, row, column));
            if ![a, b, c, d].iter().all(|side| side.is_finite()) {
                continue;
            }
            let (left, top, right, bottom) = match self.sides {
                Sides::Corners => (a, b, c, d),
                Sides::Middle => (a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0),
            };
            found.push((class, Found { label, p: *p, left, top, right, bottom }));
        }
        found.sort_by(|(_, a), (_, b)| b.p.total_cmp(&a.p));
        found.truncate(CANDIDATES_MAX);
        let mut kept: Vec<(usize, Found)> = Vec::new();
        for (class, one) in found {
            if kept.len() >= self.most {
                break;
            }
            let is_double =
                |(other, better): &(usize, Found)| *other == class && shared(better, &one) > self.overlap;
            if !kept.iter().any(is_double) {
                kept.push((class, one));
            }
        }
        let boxes: Vec<Found> = kept.into_iter().map(|(_, one)| self.placed(one, step)).collect();
        answer.fields.push((format!("{}count", self.prefix), Field::Number(boxes.len() as f64)));
        if let Some(best) = boxes.first() {
            answer.fields.push((format!("{}label", self.prefix), Field::Word(best.label.clone())));
            answer.fields.push((format!("{}p", self.prefix), Field::Number(f64::from(best.p))));
        }
        answer.boxes.extend(boxes);
        Ok(())
    }

    /// A box of the network's input as one of the picture.
    fn placed(&self, mut one: Found, step: &Step<'_>) -> Found {
        let Some((placed, (width, height))) = step.placed else { return one };
        let (across, down) = match self.unit {
            Unit::Relative => (1.0, 1.0),
            Unit::Pixels => (1.0 / width as f64, 1.0 / height as f64),
        };
        let place = |side: f32, unit: f64, offset: f64, scale: f64| {
            (offset + scale * f64::from(side) * unit).clamp(0.0, 1.0) as f32
        };
        one.left = place(one.left, across, placed.offset.0, placed.scale.0);
        one.right = place(one.right, across, placed.offset.0, placed.scale.0);
        one.top = place(one.top, down, placed.offset.1, placed.scale.1);
        one.bottom = place(one.bottom, down, placed.offset.1, placed.scale.1);
        one
    }
}

/// How much of their union two boxes share, from 0 to 1.
pub fn shared(a: &Found, b: &Found) -> f32 {
    let area = |one: &Found| (one.right - one.left).max(0.0) * (one.bottom - one.top).max(0.0);
    let width = (a.right.min(b.right) - a.left.max(b.left)).max(0.0);
    let height = (a.bottom.min(b.bottom) - a.top.max(b.top)).max(0.0);
    let both = width * height;
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

impl Embedding {
    fn read(&self, step: &Step<'_>, answer: &mut Answer) -> Result<(), MeaningError> {
        let (tensor, numbers) = step.output(&self.output)?;
        let mut vector = match tensor.shape() {
            [1, _] | [_] => numbers,
            [1, length, width] => {
                let mask = match &self.mask {
                    None => vec![1.0; *length],
                    Some(name) => {
                        let found =
                            step.input_ports.iter().zip(step.inputs).find(|(port, _)| port.name == *name);
                        let (_, mask) = found.ok_or_else(|| missing("input", name, step.input_ports))?;
                        mask.data().numbers().unwrap_or_default()
                    }
                };
                if mask.len() != *length {
                    return Err(wrong_shape(
                        &self.output,
                        tensor,
                        format!("as long as a mask of {}", mask.len()),
                    ));
                }
                let counted: f64 = mask.iter().sum();
                let mut mean = vec![0.0f64; *width];
                for (row, weight) in numbers.chunks_exact((*width).max(1)).zip(&mask) {
                    mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += weight * f64::from(*value));
                }
                mean.into_iter().map(|sum| (sum / counted.max(1e-9)) as f32).collect()
            }
            _ => return Err(wrong_shape(&self.output, tensor, "a vector, or a list of vectors")),
        };
        if self.unit_length {
            let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        answer.vector = vector;
        Ok(())
    }
}

impl Named {
    fn read(&self, step: &Step<'_>, answer: &mut Answer) -> Result<(), MeaningError> {
        let (tensor, mut numbers) = step.output(&self.output)?;
        if numbers.len() < self.names.len() {
            return Err(wrong_shape(&self.output, tensor, format!("{} numbers", self.names.len())));
        }
        self.activation.apply(&mut numbers);
        let named =
            self.names.iter().zip(numbers).filter(|(name, number)| !name.is_empty() && number.is_finite());
        answer.fields.extend(named.map(|(name, number)| (name.clone(), Field::Number(f64::from(number)))));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
