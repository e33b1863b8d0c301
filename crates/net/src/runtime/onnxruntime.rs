//! ONNX Runtime: a shared library of this machine, loaded when the first network asks for it and kept.
//!
//! Whoever names the library trusts it as this process: it is native code.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as Theirs};

use super::{Asked, Refusal, Runtime};
use crate::tensor::{Data, Tensor};

/// Where the library lies, if nothing else is said.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

struct OnnxRuntime {
    session: Session,
    inputs: Vec<String>,
    outputs: Vec<(String, String)>,
}

/// The library, once for the process: ONNX Runtime has one environment.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

fn environment(library: Option<&PathBuf>) -> Result<Environment, Refusal> {
    let path = library.cloned().or_else(|| std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from));
    let path = path.unwrap_or_else(|| {
        PathBuf::from(std::env::consts::DLL_PREFIX.to_owned() + "onnxruntime" + std::env::consts::DLL_SUFFIX)
    });
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*loaded {
        Some((before, environment)) if *before == path => Ok(environment.clone()),
        Some((before, _)) => {
            let (before, path) = (before.display(), path.display());
            Err(Refusal::said(format!(
                "this process already has the library {before}, and cannot load {path} as well"
            )))
        }
        None => {
            let environment = open(&path)?;
            *loaded = Some((path, environment.clone()));
            Ok(environment)
        }
    }
}

fn open(path: &Path) -> Result<Environment, Refusal> {
    let lost = |error: &dyn std::fmt::Display| {
        let path = path.display();
        Refusal::said(format!(
            "the library {path} cannot be loaded: {error}; set `library` or {LIBRARY_VARIABLE}"
        ))
    };
    let builder = ort::init_from(path).map_err(|error| lost(&error))?;
    builder.with_telemetry(false).build().map_err(|error| lost(&error))
}

/// Hands a graph to the library.
pub(crate) fn load(asked: &Asked<'_>) -> Result<Box<dyn Runtime>, Refusal> {
    let environment = environment(asked.library)?;
    let session = Session::builder(&environment)
        .and_then(|builder| Ok(builder.with_optimization_level(GraphOptimizationLevel::Level3)?))
        .and_then(|builder| Ok(builder.with_intra_threads(asked.threads)?))
        .and_then(|mut builder| builder.commit_from_memory(asked.bytes))
        .map_err(Refusal::said)?;
    let inputs = asked.inputs.iter().map(|port| port.name.clone()).collect();
    let outputs = asked.outputs.iter().map(|port| (port.name.clone(), port.element.clone())).collect();
    Ok(Box::new(OnnxRuntime { session, inputs, outputs }))
}

impl Runtime for OnnxRuntime {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Refusal> {
        let mut theirs: Vec<(String, SessionInputValue<'_>)> = Vec::new();
        for (name, input) in self.inputs.iter().zip(inputs) {
            theirs.push((name.clone(), to_theirs(input)?.into()));
        }
        let mut outputs = self.session.run(theirs).map_err(Refusal::said)?;
        self.outputs
            .iter()
            .map(|(name, kind)| {
                let value =
                    outputs.remove(name).ok_or_else(|| Refusal::said(format!("it gives no `{name}`")))?;
                to_ours(&value, kind)
            })
            .collect()
    }

    fn compiles_for_shapes(&self) -> bool {
        false
    }
}

fn to_theirs(tensor: &Tensor) -> Result<DynValue, Refusal> {
    let shape = tensor.shape().to_vec();
    macro_rules! theirs {
        ($list:expr) => {
            Theirs::from_array((shape, $list.clone())).map_err(Refusal::said)?.into_dyn()
        };
    }
    Ok(match tensor.data() {
        Data::F32(list) => theirs!(list),
        Data::F64(list) => theirs!(list),
        Data::F16(list) => theirs!(list),
        Data::I8(list) => theirs!(list),
        Data::I16(list) => theirs!(list),
        Data::I32(list) => theirs!(list),
        Data::I64(list) => theirs!(list),
        Data::U8(list) => theirs!(list),
        Data::U16(list) => theirs!(list),
        Data::U32(list) => theirs!(list),
        Data::U64(list) => theirs!(list),
        Data::Bool(list) => theirs!(list),
        Data::Text(list) => {
            Theirs::from_string_array((shape, list.as_slice())).map_err(Refusal::said)?.into_dyn()
        }
    })
}

fn to_ours(value: &DynValue, kind: &str) -> Result<Tensor, Refusal> {
    macro_rules! ours {
        ($kind:ident, $type:ty) => {{
            let (shape, list) = value.try_extract_tensor::<$type>().map_err(Refusal::said)?;
            (shape.to_vec(), Data::$kind(list.to_vec()))
        }};
    }
    let (shape, data) = match kind {
        "float32" => ours!(F32, f32),
        "float64" => ours!(F64, f64),
        "float16" => ours!(F16, half::f16),
        "int8" => ours!(I8, i8),
        "int16" => ours!(I16, i16),
        "int32" => ours!(I32, i32),
        "int64" => ours!(I64, i64),
        "uint8" => ours!(U8, u8),
        "uint16" => ours!(U16, u16),
        "uint32" => ours!(U32, u32),
        "uint64" => ours!(U64, u64),
        "bool" => ours!(Bool, bool),
        "string" => {
            let (shape, list) = value.try_extract_strings().map_err(Refusal::said)?;
            (shape.to_vec(), Data::Text(list))
        }
        other => return Err(Refusal::Lacks(format!("tensors of {other}"))),
    };
    let shape = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(0)).collect();
    Tensor::new(shape, data).map_err(Refusal::said)
}
