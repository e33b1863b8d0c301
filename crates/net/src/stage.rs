//! A network with its recipe, step by step: material in, an answer out, and state from each step to the next.
//!
//! Several steps may share a run of the network, if the recipe says so (`batch`): each gives what it gives alone.
//!
//! The state belongs to one stream of material; whoever begins another one calls `begin`. A step that fails leaves the state as
//! it was. State that is no longer a number would spoil every step to come: it is put back to zeros, and the step is an error.

use std::collections::BTreeMap;

use crate::after::{Answer, Meaning, MeaningError, Step};
use crate::batch::{apart, own, together};
use crate::before::{Fill, FillError, Layout, Window, fixed};
use crate::golden::TOLERANCE;
use crate::network::{Network, RunError};
use crate::picture::{Picture, Placed};
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
    /// Steps that shall share a run put unlike tensors in.
    #[error(
        "steps that share a run must fill `{input}` alike, each for itself: hand over tensors of one shape that begins with 1"
    )]
    Unlike {
        /// The input.
        input: String,
    },
    /// A step gives something else beside others than alone.
    #[error("what `{output}` says of one thing depends on what is looked at beside it: leave out `batch`")]
    Mixed {
        /// The output.
        output: String,
    },
}

/// What a step puts into the network.
struct Filled {
    /// In the graph's order.
    inputs: Vec<Tensor>,
    /// Where a picture lies that was looked at, and its width and height in the tensor.
    placed: Option<(Placed, (usize, usize))>,
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
    /// For each input, whether each of several steps puts its own in.
    own: Vec<bool>,
    /// For each output, whether an answer reads it.
    read: Vec<bool>,
}

impl Stage {
    /// A network before its first step.
    pub fn new(network: Network, recipe: Recipe) -> Result<Stage, RecipeError> {
        let recipe = recipe.completed(network.net())?;
        let own = own(&recipe.inputs, network.net());
        let is_read =
            |name: &String| recipe.answers.iter().flat_map(Meaning::outputs).any(|output| output == name);
        let read = network.outputs().iter().map(|port| is_read(&port.name)).collect();
        let mut stage = Stage { network, recipe, held: BTreeMap::new(), fed: Vec::new(), own, read };
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
        let filled = self.fill(material)?;
        let outputs = self.network.run(&filled.inputs)?;
        let answer = self.answer(&filled, &outputs)?;
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

    /// How many of so many steps that wait are best taken together next; 1: the first alone. A runtime that compiles for each shape
    /// gets full groups only, so that it holds two compiled graphs, and not one for each number.
    pub fn together(&self, waiting: usize) -> usize {
        let most = self.recipe.batch.unwrap_or(1);
        match self.network.compiles_for_shapes() {
            true if waiting < most => 1,
            _ => waiting.min(most).max(1),
        }
    }

    /// Takes steps in their order, as many of them together as the recipe allows. What does not come of a group is asked for alone:
    /// each has the answer, or the error, that it has by itself.
    pub fn steps(&mut self, materials: &[Material<'_>]) -> Vec<Result<Answer, StepError>> {
        let mut answers = Vec::with_capacity(materials.len());
        while answers.len() < materials.len() {
            let rest = &materials[answers.len()..];
            let group = &rest[..self.together(rest.len())];
            match self.group(group) {
                Some(together) => answers.extend(together.into_iter().map(Ok)),
                None => answers.extend(group.iter().map(|material| self.step(material))),
            }
        }
        answers
    }

    /// Whether a step gives the same beside others as alone, within a thousandth of the largest number. Some networks weigh what they
    /// are given together, and no file says so: this asks them, and compiles them for a full group on the way.
    pub fn prove(&mut self, materials: &[Material<'_>]) -> Result<(), StepError> {
        let count = self.recipe.batch.unwrap_or(1);
        if count < 2 || materials.is_empty() {
            return Ok(());
        }
        let mut singles = Vec::new();
        for material in materials {
            let filled = self.fill(material)?;
            let outputs = self.network.run(&filled.inputs)?;
            singles.push((filled, outputs));
        }
        let of = |look: usize| &singles[look % singles.len()];
        let looks: Vec<&Filled> = (0..count).map(|look| &of(look).0).collect();
        for (look, outputs) in self.at_once(&looks)?.iter().enumerate() {
            let both = outputs.iter().zip(&of(look).1);
            let mut told = self.network.outputs().iter().zip(both).zip(&self.read).filter(|(_, read)| **read);
            if let Some(((port, _), _)) = told.find(|((_, (found, alone)), _)| !is_near(found, alone)) {
                return Err(StepError::Mixed { output: port.name.clone() });
            }
        }
        Ok(())
    }

    /// What a step puts in.
    fn fill(&self, material: &Material<'_>) -> Result<Filled, StepError> {
        let mut filled = Filled { inputs: Vec::new(), placed: None };
        for (at, port) in self.network.inputs().iter().enumerate() {
            let none = |wanted| StepError::NoMaterial { input: port.name.clone(), wanted };
            filled.inputs.push(match (&self.recipe.inputs[&port.name], self.held.get(&at)) {
                (_, Some(held)) => held.clone(),
                (Fill::Picture(look), None) => {
                    let picture = material.picture.ok_or_else(|| none("a picture"))?;
                    let (tensor, lies) = look.tensor(port, picture)?;
                    let [_, a, b, c] = tensor.shape()[..] else {
                        unreachable!("a picture has four dimensions")
                    };
                    let (width, height) = match look.layout {
                        Layout::ChannelsFirst => (c, b),
                        Layout::ChannelsLast => (b, a),
                    };
                    filled.placed = Some((lies, (width, height)));
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
        Ok(filled)
    }

    /// What came out, as the recipe reads it.
    fn answer(&self, filled: &Filled, outputs: &[Tensor]) -> Result<Answer, MeaningError> {
        let step = Step {
            ports: self.network.outputs(),
            outputs,
            input_ports: self.network.inputs(),
            inputs: &filled.inputs,
            placed: filled.placed,
        };
        let mut answer = Answer::default();
        self.recipe.answers.iter().try_for_each(|meaning| meaning.read(&step, &mut answer))?;
        Ok(answer)
    }

    /// The answers of several steps from one run; `None` if they are one, or none came of them together.
    fn group(&mut self, materials: &[Material<'_>]) -> Option<Vec<Answer>> {
        if materials.len() < 2 {
            return None;
        }
        let filled: Vec<Filled> =
            materials.iter().map(|material| self.fill(material)).collect::<Result<_, _>>().ok()?;
        let outputs = self.at_once(&filled.iter().collect::<Vec<_>>()).ok()?;
        filled.iter().zip(&outputs).map(|(filled, outputs)| self.answer(filled, outputs).ok()).collect()
    }

    /// Runs the network once for several steps; for each what came out. Outputs that no answer reads are left empty.
    fn at_once(&mut self, looks: &[&Filled]) -> Result<Vec<Vec<Tensor>>, StepError> {
        let mut inputs = Vec::new();
        for (at, (port, own)) in self.network.inputs().iter().zip(&self.own).enumerate() {
            let tensors: Vec<&Tensor> = looks.iter().map(|look| &look.inputs[at]).collect();
            inputs.push(match own {
                true => together(&tensors).ok_or_else(|| StepError::Unlike { input: port.name.clone() })?,
                false => tensors[0].clone(),
            });
        }
        let outputs = self.network.run(&inputs)?;
        let mut each = vec![Vec::new(); looks.len()];
        for (at, output) in outputs.iter().enumerate() {
            let parts = match self.read[at] {
                true => apart(output, looks.len()).ok_or_else(|| MeaningError::Shape {
                    output: self.network.outputs()[at].name.clone(),
                    shape: output.shape().to_vec(),
                    expected: format!("what {} looks give, one after the other", looks.len()),
                })?,
                false => vec![Tensor::default(); looks.len()],
            };
            each.iter_mut().zip(parts).for_each(|(own, part)| own.push(part));
        }
        Ok(each)
    }
}

/// Whether two tensors are the same up to what runtimes differ by.
fn is_near(found: &Tensor, alone: &Tensor) -> bool {
    if found.shape() != alone.shape() {
        return false;
    }
    let (Some(found_list), Some(alone_list)) = (found.data().numbers(), alone.data().numbers()) else {
        return found == alone;
    };
    let largest =
        alone_list.iter().filter(|number| number.is_finite()).fold(0.0f64, |most, one| most.max(one.abs()));
    let most = TOLERANCE * largest.max(1e-6);
    found_list
        .iter()
        .zip(&alone_list)
        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= most)
}
