//! rten: computes with `float32`, `int32`, `int8` and `uint8`, and takes other kinds as the nearest of these.

use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::{Asked, Refusal, Runtime};
use crate::tensor::{Data, Tensor};

struct Rten {
    model: Model,
    inputs: Vec<NodeId>,
    outputs: Vec<(NodeId, String)>,
    threads: Arc<ThreadPool>,
}

/// Parses and optimises a graph.
pub(crate) fn load(asked: &Asked<'_>) -> Result<Box<dyn Runtime>, Refusal> {
    let model = ModelOptions::with_all_ops().load(asked.bytes.to_vec()).map_err(Refusal::said)?;
    let id = |name: &str| model.node_id(name).map_err(Refusal::said);
    let inputs = asked.inputs.iter().map(|port| id(&port.name)).collect::<Result<_, _>>()?;
    let outputs = asked.outputs.iter().map(|port| Ok((id(&port.name)?, port.element.clone()))).collect::<Result<_, Refusal>>()?;
    let threads = Arc::new(ThreadPool::with_num_threads(asked.threads));
    Ok(Box::new(Rten { model, inputs, outputs, threads }))
}

impl Runtime for Rten {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Refusal> {
        let mut theirs: Vec<(NodeId, ValueOrView)> = Vec::new();
        for (id, input) in self.inputs.iter().zip(inputs) {
            theirs.push((*id, to_theirs(input)?.into()));
        }
        let ids: Vec<NodeId> = self.outputs.iter().map(|(id, _)| *id).collect();
        let options = RunOptions::default().with_thread_pool(Some(self.threads.clone()));
        let outputs = self.model.run(theirs, &ids, Some(options)).map_err(Refusal::said)?;
        outputs.into_iter().zip(&self.outputs).map(|(value, (_, kind))| to_ours(value, kind)).collect()
    }
}

fn to_theirs(tensor: &Tensor) -> Result<Value, Refusal> {
    let shape = tensor.shape();
    let whole = |list: &[i64]| -> Result<Vec<i32>, Refusal> {
        let narrowed = list.iter().map(|number| i32::try_from(*number)).collect::<Result<_, _>>();
        narrowed.map_err(|_| Refusal::Lacks("whole numbers of more than 32 bits".to_owned()))
    };
    Ok(match tensor.data() {
        Data::F32(list) => Value::from_shape(shape, list.clone()).map_err(Refusal::said)?,
        Data::F64(list) => Value::from_shape(shape, list.iter().map(|number| *number as f32).collect::<Vec<f32>>()).map_err(Refusal::said)?,
        Data::I32(list) => Value::from_shape(shape, list.clone()).map_err(Refusal::said)?,
        Data::I64(list) => Value::from_shape(shape, whole(list)?).map_err(Refusal::said)?,
        Data::Bool(list) => Value::from_shape(shape, list.iter().map(|is| i32::from(*is)).collect::<Vec<i32>>()).map_err(Refusal::said)?,
        Data::I8(list) => Value::from_shape(shape, list.clone()).map_err(Refusal::said)?,
        Data::U8(list) => Value::from_shape(shape, list.clone()).map_err(Refusal::said)?,
        other => return Err(Refusal::Lacks(format!("tensors of {}", other.kind()))),
    })
}

fn to_ours(value: Value, kind: &str) -> Result<Tensor, Refusal> {
    let (shape, data) = match value {
        Value::FloatTensor(tensor) => (tensor.shape().to_vec(), Data::F32(tensor.into_data())),
        Value::Int32Tensor(tensor) => (tensor.shape().to_vec(), Data::I32(tensor.into_data())),
        Value::Int8Tensor(tensor) => (tensor.shape().to_vec(), Data::I8(tensor.into_data())),
        Value::UInt8Tensor(tensor) => (tensor.shape().to_vec(), Data::U8(tensor.into_data())),
        _ => return Err(Refusal::Lacks("outputs of other kinds than its four".to_owned())),
    };
    let data = if data.kind() == kind {
        data
    } else {
        let numbers = data.numbers().unwrap_or_default();
        Data::of_numbers(kind, &numbers).ok_or_else(|| Refusal::Lacks(format!("tensors of {kind}")))?
    };
    Tensor::new(shape, data).map_err(Refusal::said)
}
