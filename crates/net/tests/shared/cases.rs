//! ONNX's own cases of single operators and small models, and how near an answer must be.
#![allow(clippy::unwrap_used, reason = "a test may stop at any fault")]
#![allow(dead_code, reason = "each test uses its part of this")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use net::network::{LoadError, Network, Options, RunError};
use net::runtime::Kind;
use net::tensor::{Data, Tensor};

use super::proto::read_tensor;

/// Tensors in order; `None` stands for what is no tensor.
pub(crate) type List = Vec<Option<Tensor>>;

/// A case: a graph, what goes in and what comes out.
pub(crate) struct Case {
    /// `node/test_abs`
    pub(crate) name: String,
    /// The file.
    pub(crate) model: Vec<u8>,
    /// Sets of inputs and outputs.
    pub(crate) sets: Vec<(List, List)>,
}

/// The cases that ONNX Runtime passes.
pub(crate) fn passed_by_peer(folder: &Path) -> Vec<Case> {
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Vec<serde_json::Value> = serde_json::from_slice(&manifest).unwrap();
    let word = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let passed = manifest.iter().filter(|entry| entry["ort"] == "pass");
    let names: Vec<String> =
        passed.map(|entry| format!("{}/{}", word(entry, "suite"), word(entry, "name"))).collect();
    let archive = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|end| end == "gz")).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(archive).unwrap()));
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    names
        .into_iter()
        .map(|name| {
            let list = |set: usize, side: &str| {
                let file = |at: usize| files.get(&format!("{name}/test_data_set_{set}/{side}_{at}.pb"));
                let tensors =
                    (0..).map_while(|at| file(at).map(|bytes| read_tensor(bytes).map(|(_, tensor)| tensor)));
                tensors.collect::<Vec<_>>()
            };
            let sets = (0..).map(|set| (list(set, "input"), list(set, "output")));
            let sets = sets.take_while(|(_, outputs)| !outputs.is_empty()).collect();
            Case { model: files[&format!("{name}/model.onnx")].clone(), sets, name }
        })
        .collect()
}

/// What came of a case.
#[derive(Debug, PartialEq)]
pub(crate) enum Came {
    /// All outputs are as they should be.
    Passed,
    /// It was refused, with these words.
    Refused(String),
    /// An output is another.
    Differs(String),
    /// The runtime panicked.
    Broke(String),
}

/// Plays a case.
pub(crate) fn play(case: &Case, kind: Kind) -> Came {
    let options = Options { runtime: Some(kind), ..Options::default() };
    let mut network = match Network::load(&case.model, &options) {
        Ok(network) => network,
        Err(error @ LoadError::Broke { .. }) => return Came::Broke(error.to_string()),
        Err(error) => return Came::Refused(error.to_string()),
    };
    for (inputs, outputs) in &case.sets {
        let Some(inputs) = inputs.iter().cloned().collect::<Option<Vec<_>>>() else {
            return Came::Refused("an input is no tensor".to_owned());
        };
        let found = match network.run(&inputs) {
            Ok(found) => found,
            Err(error @ RunError::Broke { .. }) => return Came::Broke(error.to_string()),
            Err(error) => return Came::Refused(error.to_string()),
        };
        for (at, (found, expected)) in found.iter().zip(outputs).enumerate() {
            let Some(expected) = expected else { return Came::Refused("an output is no tensor".to_owned()) };
            if let Err(why) = near(found, expected, 1e-3, 1e-5) {
                return Came::Differs(format!("output {at}: {why}"));
            }
        }
    }
    Came::Passed
}

/// Whether two tensors are the same, numbers up to `|a − b| ≤ absolute + relative·|b|` as ONNX's own runner has it.
pub(crate) fn near(found: &Tensor, expected: &Tensor, relative: f64, absolute: f64) -> Result<(), String> {
    if found.shape() != expected.shape() || found.data().kind() != expected.data().kind() {
        let told = |tensor: &Tensor| format!("{}{:?}", tensor.data().kind(), tensor.shape());
        return Err(format!("{} for {}", told(found), told(expected)));
    }
    if let (Data::Text(found), Data::Text(expected)) = (found.data(), expected.data()) {
        return if found == expected { Ok(()) } else { Err(format!("{found:?} for {expected:?}")) };
    }
    let (found, expected) = (found.data().numbers().unwrap(), expected.data().numbers().unwrap());
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs();
        if !same {
            return Err(format!("{a} for {b} at {at}"));
        }
    }
    Ok(())
}
