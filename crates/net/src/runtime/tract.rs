//! tract: a network is compiled for the shapes that it gets, and each set of shapes once.
//!
//! tract is at its best, and refuses least, when every shape is a number. So a graph is parsed when it is loaded, and compiled
//! when its shapes are known: at once if the graph or the options say them, else at the first run with them. A few compiled
//! graphs are kept. Where shapes alone are not enough, because a graph computes shapes from its inputs or branches on them, the
//! values of small inputs of whole numbers are compiled in as well, and are then part of what must be equal.

mod branches;

use std::sync::Arc;

use tract_onnx::prelude::tract_ndarray::ArrayD;
use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue,
    IntoTensor, TVec, TractResult, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::Tensor as Theirs;

use super::{Asked, Refusal, Runtime};
use crate::tensor::{Data, Tensor};

/// Compiled graphs that are kept.
const PLANS_MAX: usize = 4;
/// The largest input of whole numbers whose values may be compiled in.
const FIXED_ELEMENTS_MAX: usize = 64;

struct Tract {
    parsed: InferenceModel,
    /// The kind of each output, as the graph declares it.
    outputs: Vec<String>,
    value_bytes_max: u64,
    /// The one used last stands last.
    plans: Vec<Plan>,
    /// Shapes alone were not enough for this graph.
    fixes_values: bool,
    has_branches: bool,
}

/// A graph compiled for these inputs.
struct Plan {
    shapes: Vec<Vec<usize>>,
    /// Values that are compiled in.
    fixed: Vec<Option<Tensor>>,
    runnable: Arc<TypedRunnableModel>,
}

impl Plan {
    fn fits(&self, inputs: &[Tensor]) -> bool {
        inputs.iter().zip(&self.shapes).all(|(input, shape)| input.shape() == shape)
            && inputs
                .iter()
                .zip(&self.fixed)
                .all(|(input, fixed)| fixed.as_ref().is_none_or(|fixed| fixed == input))
    }
}

/// Parses a graph, and compiles it if all its shapes are known.
pub(crate) fn load(asked: &Asked<'_>) -> Result<Box<dyn Runtime>, Refusal> {
    // Facts about values within the graph name sizes that are numbers by then; what they add is inferred again.
    let tract = tract_onnx::onnx().with_ignore_output_types(true).with_ignore_value_info(true);
    // tract looks operators up by their name alone, whatever set they are of.
    let lacks: Vec<&str> = asked
        .operators
        .iter()
        .filter(|operator| {
            let name = operator.rsplit('.').next().unwrap_or(operator);
            !tract.op_register.0.contains_key(name)
        })
        .map(String::as_str)
        .collect();
    if !lacks.is_empty() {
        let operators = if lacks.len() == 1 { "operator" } else { "operators" };
        return Err(Refusal::Lacks(format!("{operators} {}", lacks.join(", "))));
    }
    let parsed = tract.model_for_read(&mut &*asked.bytes).map_err(said)?;
    if parsed.inputs.len() != asked.inputs.len() || parsed.outputs.len() != asked.outputs.len() {
        return Err(Refusal::said("it finds other inputs or outputs than the file lists"));
    }
    let outputs = asked.outputs.iter().map(|port| port.element.clone()).collect();
    let value_bytes_max = asked.value_bytes_max;
    let has_branches = asked.operators.iter().any(|operator| operator == "If");
    let mut network =
        Tract { parsed, outputs, value_bytes_max, plans: Vec::new(), fixes_values: false, has_branches };
    let shapes: Option<Vec<Vec<usize>>> = asked.shapes.iter().cloned().collect();
    let may_fix = asked.inputs.iter().any(|port| is_whole(&port.element));
    if let Some(shapes) = shapes {
        let kinds: Vec<DatumType> =
            asked.inputs.iter().map(|port| kind_of(&port.element)).collect::<Result<_, _>>()?;
        let fixed = vec![None; shapes.len()];
        match network.compile(&kinds, shapes, fixed) {
            Ok(plan) => network.plans.push(plan),
            Err(_) if may_fix => network.fixes_values = true,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Box::new(network))
}

impl Runtime for Tract {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Refusal> {
        match self.plans.iter().position(|plan| plan.fits(inputs)) {
            Some(at) => {
                let used = self.plans.remove(at);
                self.plans.push(used);
            }
            None => {
                let plan = self.plan(inputs)?;
                if self.plans.len() >= PLANS_MAX {
                    self.plans.remove(0);
                }
                self.plans.push(plan);
            }
        }
        let plan = self.plans.last().expect("it was pushed just now");
        let mut theirs = TVec::new();
        for (input, fixed) in inputs.iter().zip(&plan.fixed) {
            if fixed.is_none() {
                theirs.push(to_theirs(input).map_err(said)?.into_tvalue());
            }
        }
        let outputs = plan.runnable.run(theirs).map_err(said)?;
        outputs.iter().zip(&self.outputs).map(|(theirs, kind)| to_ours(theirs, kind)).collect()
    }

    fn compiles_for_shapes(&self) -> bool {
        true
    }
}

impl Tract {
    /// Compiles for the shapes of these inputs, and if that is not enough for the values of the small whole ones.
    fn plan(&mut self, inputs: &[Tensor]) -> Result<Plan, Refusal> {
        let kinds: Vec<DatumType> =
            inputs.iter().map(|input| kind_of(input.data().kind())).collect::<Result<_, _>>()?;
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
        let fixed: Vec<Option<Tensor>> = inputs
            .iter()
            .map(|input| {
                let is_small = input.data().len() <= FIXED_ELEMENTS_MAX;
                (is_small && is_whole(input.data().kind())).then(|| input.clone())
            })
            .collect();
        let can_fix = fixed.iter().any(Option::is_some);
        if !(self.fixes_values && can_fix) {
            match self.compile(&kinds, shapes.clone(), vec![None; shapes.len()]) {
                Err(_) if can_fix => {}
                other => return other,
            }
        }
        let plan = self.compile(&kinds, shapes, fixed)?;
        self.fixes_values = true;
        Ok(plan)
    }

    fn compile(
        &self,
        kinds: &[DatumType],
        shapes: Vec<Vec<usize>>,
        fixed: Vec<Option<Tensor>>,
    ) -> Result<Plan, Refusal> {
        let mut model = self.parsed.clone();
        let outlets = model.inputs.clone();
        let mut free = Vec::new();
        for (at, (outlet, kind)) in outlets.iter().zip(kinds).enumerate() {
            match &fixed[at] {
                None => {
                    model.set_input_fact(at, InferenceFact::dt_shape(*kind, &shapes[at])).map_err(said)?;
                    free.push(*outlet);
                }
                Some(value) => {
                    let value = to_theirs(value).map_err(said)?;
                    let node = &mut model.nodes[outlet.node];
                    node.outputs[0].fact = InferenceFact::from(value.clone());
                    node.op = Box::new(Const::new(Arc::new(value)).map_err(said)?);
                }
            }
        }
        model.set_input_outlets(&free).map_err(said)?;
        if self.has_branches {
            branches::taken(&mut model).map_err(said)?;
        }
        let model = model.into_optimized().map_err(said)?;
        let bytes = value_bytes(&model);
        if bytes > self.value_bytes_max {
            let most = self.value_bytes_max;
            return Err(Refusal::said(format!(
                "its values would take {bytes} bytes, more than the {most} allowed here"
            )));
        }
        Ok(Plan { shapes, fixed, runnable: model.into_runnable().map_err(said)? })
    }
}

/// Bytes of the largest value between two operators, and of all that comes out, as far as their shapes are known.
fn value_bytes(model: &TypedModel) -> u64 {
    let facts =
        model.nodes.iter().flat_map(|node| &node.outputs).filter(|output| output.fact.konst.is_none());
    let bytes = facts.filter_map(|output| {
        let shape = output.fact.shape.as_concrete()?;
        let count = shape.iter().fold(1u64, |count, size| count.saturating_mul(*size as u64));
        Some(count.saturating_mul(output.fact.datum_type.size_of() as u64))
    });
    bytes.max().unwrap_or(0)
}

/// An error and its causes, in one line.
fn said(error: impl Into<tract_onnx::prelude::TractError>) -> Refusal {
    Refusal::said(format!("{:#}", error.into()))
}

/// Whether a kind is of whole numbers, or of yes and no.
fn is_whole(kind: &str) -> bool {
    kind.contains("int") || kind == "bool"
}

fn kind_of(word: &str) -> Result<DatumType, Refusal> {
    Ok(match word {
        "float32" => DatumType::F32,
        "float64" => DatumType::F64,
        "float16" => DatumType::F16,
        "int8" => DatumType::I8,
        "int16" => DatumType::I16,
        "int32" => DatumType::I32,
        "int64" => DatumType::I64,
        "uint8" => DatumType::U8,
        "uint16" => DatumType::U16,
        "uint32" => DatumType::U32,
        "uint64" => DatumType::U64,
        "bool" => DatumType::Bool,
        "string" => DatumType::String,
        other => return Err(Refusal::Lacks(format!("tensors of {other}"))),
    })
}

fn to_theirs(tensor: &Tensor) -> TractResult<Theirs> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::F32(list) => Theirs::from_shape(shape, list),
        Data::F64(list) => Theirs::from_shape(shape, list),
        Data::F16(list) => Theirs::from_shape(shape, list),
        Data::I8(list) => Theirs::from_shape(shape, list),
        Data::I16(list) => Theirs::from_shape(shape, list),
        Data::I32(list) => Theirs::from_shape(shape, list),
        Data::I64(list) => Theirs::from_shape(shape, list),
        Data::U8(list) => Theirs::from_shape(shape, list),
        Data::U16(list) => Theirs::from_shape(shape, list),
        Data::U32(list) => Theirs::from_shape(shape, list),
        Data::U64(list) => Theirs::from_shape(shape, list),
        Data::Bool(list) => Theirs::from_shape(shape, list),
        Data::Text(list) => Ok(ArrayD::from_shape_vec(shape, list.clone())?.into_tensor()),
    }
}

/// A tensor of theirs as the kind that the graph declares; sizes that tract keeps as formulas are numbers by now.
fn to_ours(theirs: &Theirs, kind: &str) -> Result<Tensor, Refusal> {
    fn list<T: Datum + Clone>(theirs: &Theirs) -> Result<Vec<T>, Refusal> {
        Ok(theirs.try_as_plain_ram().map_err(said)?.as_slice::<T>().map_err(said)?.to_vec())
    }
    let wanted = kind_of(kind)?;
    let cast = theirs.cast_to_dt(wanted).map_err(said)?;
    let data = match wanted {
        DatumType::F32 => Data::F32(list(&cast)?),
        DatumType::F64 => Data::F64(list(&cast)?),
        DatumType::F16 => Data::F16(list(&cast)?),
        DatumType::I8 => Data::I8(list(&cast)?),
        DatumType::I16 => Data::I16(list(&cast)?),
        DatumType::I32 => Data::I32(list(&cast)?),
        DatumType::I64 => Data::I64(list(&cast)?),
        DatumType::U8 => Data::U8(list(&cast)?),
        DatumType::U16 => Data::U16(list(&cast)?),
        DatumType::U32 => Data::U32(list(&cast)?),
        DatumType::U64 => Data::U64(list(&cast)?),
        DatumType::Bool => Data::Bool(list(&cast)?),
        DatumType::String => Data::Text(list(&cast)?),
        other => return Err(Refusal::Lacks(format!("tensors of {other:?}"))),
    };
    Tensor::new(cast.shape().to_vec(), data).map_err(Refusal::said)
}
