//! A network with its recipe, step by step: material in, an answer out, and state from each step to the next.
//!
//! The state belongs to one stream of material; whoever begins another one calls `begin`. A step that fails leaves the state as
//! it was. State that is no longer a number would spoil every step to come: it is put back to zeros, and the step is an error.

use std::collections::BTreeMap;

use crate::after::{Answer, MeaningError, Step};
use crate::before::{Fill, FillError, Window, fixed};
use crate::network::{Network, RunError};
use crate::picture::Picture;
use crate::recipe::{Recipe, RecipeError};
use crate::tensor::Tensor;

/// What a step is given.
#[derive(Clone, Debug, Default)]
pub struct Material<'a> {
    /// For inputs that take a picture.
    pub picture: Option<&'a Picture>,
    /// For inputs that take a window of numbers.
    pub window: Option<Window<'a>>,
    /// For inputs that are handed over, by name.
    pub given: BTreeMap<String, Tensor>,
}

/// A step without an answer.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The recipe wants material that is not there.
    #[error("the input `{input}` takes {wanted}, and this step has none")]
    NoMaterial {
        /// The input.
        input: String,
        /// `a picture`
        wanted: &'static str,
    },
    /// The material does not fit.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// The network did not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The outputs are other than declared.
    #[error(transparent)]
    Meaning(#[from] MeaningError),
    /// State became something that is no number.
    #[error("the state `{input}` is no longer a number; it begins again at zero")]
    Lost {
        /// The input.
        input: String,
    },
}

/// A network with its recipe and its state.
#[derive(Debug)]
pub struct Stage {
    network: Network,
    recipe: Recipe,
    /// For each input that stays the same or is state: what it is at the next step.
    held: BTreeMap<usize, Tensor>,
    /// Which output becomes which input.
    fed: Vec<(usize, usize)>,
}

impl Stage {
    /// A network before its first step.
    pub fn new(network: Network, recipe: Recipe) -> Result<Stage, RecipeError> {
        let recipe = recipe.completed(network.net())?;
        let mut stage = Stage { network, recipe, held: BTreeMap::new(), fed: Vec::new() };
        stage.begin()?;
        Ok(stage)
    }

    /// Sets the state back to zeros: another stream begins.
    pub fn begin(&mut self) -> Result<(), RecipeError> {
        self.held.clear();
        self.fed.clear();
        let net = self.network.net();
        for (input, port) in net.inputs.iter().enumerate() {
            match &self.recipe.inputs[&port.name] {
                Fill::Constant { shape, values } => {
                    self.held.insert(input, fixed(port, shape, Some(values))?);
                }
                Fill::State { output, shape } => {
                    self.held.insert(input, fixed(port, shape, None)?);
                    let from = net.outputs.iter().position(|port| port.name == *output);
                    self.fed.push((from.expect("the recipe is checked"), input));
                }
                Fill::Picture(_) | Fill::Numbers(_) | Fill::Given {} => {}
            }
        }
        Ok(())
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The recipe, with all that follows from the network.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Runs the network once.
    pub fn step(&mut self, material: &Material<'_>) -> Result<Answer, StepError> {
        let mut inputs = Vec::new();
        let mut placed = None;
        for (at, port) in self.network.inputs().iter().enumerate() {
            let none = |wanted| StepError::NoMaterial { input: port.name.clone(), wanted };
            inputs.push(match (&self.recipe.inputs[&port.name], self.held.get(&at)) {
                (_, Some(held)) => held.clone(),
                (Fill::Picture(look), None) => {
                    let picture = material.picture.ok_or_else(|| none("a picture"))?;
                    let (tensor, lies) = look.tensor(port, picture)?;
                    let [_, a, b, c] = tensor.shape()[..] else {
                        unreachable!("a picture has four dimensions")
                    };
                    let (width, height) = match look.layout {
                        crate::before::Layout::ChannelsFirst => (c, b),
                        crate::before::Layout::ChannelsLast => (b, a),
                    };
                    placed = Some((lies, (width, height)));
                    tensor
                }
                (Fill::Numbers(numbers), None) => {
                    numbers.tensor(port, material.window.ok_or_else(|| none("a window of numbers"))?)?
                }
                (Fill::Given {} | Fill::State { .. } | Fill::Constant { .. }, None) => {
                    material.given.get(&port.name).cloned().ok_or_else(|| none("a tensor of its name"))?
                }
            });
        }
        let outputs = self.network.run(&inputs)?;
        let mut answer = Answer::default();
        let step = Step {
            ports: self.network.outputs(),
            outputs: &outputs,
            input_ports: self.network.inputs(),
            inputs: &inputs,
            placed,
        };
        for meaning in &self.recipe.answers {
            meaning.read(&step, &mut answer)?;
        }
        for (output, input) in self.fed.clone() {
            let state = &outputs[output];
            let name = &self.network.inputs()[input].name;
            if self.held.get(&input).is_some_and(|before| before.shape() != state.shape()) {
                let (output, shape) = (self.network.outputs()[output].name.clone(), state.shape().to_vec());
                let expected = format!("the shape that the recipe says of the state `{name}`");
                return Err(MeaningError::Shape { output, shape, expected }.into());
            }
            let is_whole =
                state.data().numbers().is_none_or(|numbers| numbers.iter().all(|number| number.is_finite()));
            if !is_whole {
                let input = name.clone();
                self.begin().expect("it began before");
                return Err(StepError::Lost { input });
            }
        }
        for (output, input) in &self.fed {
            self.held.insert(*input, outputs[*output].clone());
        }
        Ok(answer)
    }
}
