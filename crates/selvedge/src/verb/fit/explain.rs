//! `selvedge fit --explain`: which variant of a package a node on this machine would take, and why not the others.
//!
//! The choice is `package::choose`, the very one of the node; here it is given the facts of this machine.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use forge::parcel::Parcel;
use kernels::cpu::Isa;
use lm::memory::machine::Memory;
use package::choose::{Device, Judged, choose};
use package::disk::Disk as _;
use package::disk::system::System as Disk;
use package::requirement::{Kind, Runtime};
use serde_json::{Value, json};

use crate::verb::pack::version;

/// `memory`: what the machine has and has free, where somebody says so.
pub(super) fn run(
    path: &Path,
    release: Option<&str>,
    memory: Option<u64>,
    as_json: bool,
) -> anyhow::Result<()> {
    let parcel = Parcel::open(path)?;
    let entry = parcel.entry(release)?;
    let choice = choose(&entry.release, &device(memory));
    let mut out = io::stdout().lock();
    let sealed: BTreeMap<String, usize> =
        parcel.sealed(&entry)?.into_iter().map(|it| (it.variant.to_string(), it.grants.len())).collect();
    if as_json {
        let variant = |judged| record(judged, &sealed);
        let variants: Vec<Value> = choice.reasons.iter().map(variant).collect();
        let best = choice.best.map(|best| &choice.reasons[best].variant);
        let record = json!({
            "model": choice.model.as_str(), "release": choice.release, "best": best, "variants": variants,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    write!(out, "{choice}")?;
    for (variant, nodes) in &sealed {
        writeln!(out, "{variant} is sealed: grants for {nodes} node keys travel with it")?;
    }
    Ok(())
}

/// What this machine proves to have; what it was measured at before is the node's to know.
pub(crate) fn device(memory: Option<u64>) -> Device {
    let here = Memory::of_this_machine();
    // Whether a node's flow is a release is its node.toml's to say.
    let runs = [node::device::runs(), vec![(Kind::Flow, Runtime::Flow)]].concat();
    let isa = Isa::all_here().into_iter().map(Isa::name).filter(|name| *name != "scalar");
    Device {
        memory_bytes: memory.or(here.map(|here| here.bytes)),
        free_bytes: memory.or(here.and_then(|here| here.free_bytes)),
        disk_free_bytes: Disk.free_bytes(Path::new(".")),
        isa: isa.collect(),
        arch: std::env::consts::ARCH,
        runs,
        selvedge: Some(version()),
        machine: node::device::machine().map(|(_, machine)| machine),
        ..Device::default()
    }
}

fn record(judged: &Judged, sealed: &BTreeMap<String, usize>) -> Value {
    let lacks: Vec<String> = judged.lacks.iter().map(ToString::to_string).collect();
    json!({
        "name": judged.variant,
        "fits": judged.lacks.is_empty(),
        "lacks": lacks,
        "quality": judged.quality,
        "ram_bytes": judged.requires.ram_bytes,
        "p95_ms": judged.p95_ms.map(|(ms, _)| ms),
        "grants": sealed.get(judged.variant.as_str()),
    })
}
