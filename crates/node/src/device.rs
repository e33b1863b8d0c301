//! What this node can prove of itself when a variant is chosen for it; what it does not know it does not claim.

use std::num::NonZeroUsize;

use kernels::cpu::Isa;
use lm::memory::machine::Memory;
use lm::processor;
use package::choose::{self, Device};
use package::digest::Digest;
use package::disk::{Disk, FileError};
use package::golden::Budget;
use package::requirement::{Kind, Runtime, Version, fingerprint};
use package::store::Store;
use wire::id::BootId;

use crate::install::state::{Kept, Measured};

/// What the operator's settings say of models.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Leave {
    /// Memory that stays free of models, in bytes.
    pub memory_bytes: u64,
    /// Disk that stays free of packages, in bytes.
    pub disk_bytes: u64,
    /// What answers may cost.
    pub budget: Budget,
}

/// The facts for a model whose slots are `kept`.
pub fn device<D: Disk>(store: &Store<D>, kept: &Kept, leave: Leave) -> Result<Device, FileError> {
    let memory = Memory::of_this_machine();
    Ok(Device {
        memory_bytes: memory.map(|memory| memory.bytes),
        free_bytes: memory.and_then(|memory| memory.free_bytes),
        keep_bytes: leave.memory_bytes,
        disk_free_bytes: Some(store.room_bytes(leave.disk_bytes)?),
        isa: isa(),
        arch: std::env::consts::ARCH,
        accelerators: Vec::new(),
        runs: runs(),
        selvedge: Version::parse(env!("CARGO_PKG_VERSION")),
        machine: machine().map(|(_, machine)| machine),
        power_limit_w: None,
        budget: leave.budget,
        measured: kept.measured.iter().filter_map(|(manifest, it)| Some((*manifest, known(it)?))).collect(),
        refused: kept.refused.iter().map(|refusal| refusal.manifest).collect(),
    })
}

/// What this build runs.
pub fn runs() -> Vec<(Kind, Runtime)> {
    let mut runs = Vec::new();
    if cfg!(feature = "language") {
        runs.push((Kind::Lm, Runtime::Lm));
    }
    if !net::runtime::Kind::built().is_empty() {
        runs.push((Kind::Net, Runtime::Onnx));
    }
    runs
}

/// What this machine's processor is called, and the fingerprint of machines like this one; `None`: it has no name.
pub fn machine() -> Option<(String, Digest)> {
    let cpu = processor::name()?;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let machine = fingerprint(&cpu, std::env::consts::ARCH, &isa(), cores);
    Some((cpu, machine))
}

/// The run of the machine's kernel, which a new one has another of; `None` where the system does not tell.
pub fn kernel_run() -> Option<BootId> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    BootId::parse(&id.trim().replace('-', "")).ok()
}

/// What the processor can, in the words of `kernels::cpu`.
pub(crate) fn isa() -> Vec<&'static str> {
    let isa = Isa::all_here().into_iter().filter(|isa| !matches!(isa, Isa::Scalar(_)));
    isa.map(Isa::name).collect()
}

/// What was measured here, if it is enough to choose by.
fn known(measured: &Measured) -> Option<choose::Measured> {
    let Measured { p95_ms, rss_bytes, .. } = *measured;
    Some(choose::Measured { p95_ms: f64::from(p95_ms?), rss_bytes: rss_bytes?, joules: None })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use package::digest::Digest;
    use package::disk::simulated::Simulated;

    use super::*;
    use crate::install::state::Refusal;

    #[test]
    fn a_node_claims_what_it_knows() {
        let disk = Simulated::new();
        let store = Store::open(disk.clone(), Path::new("/p"), 1000).unwrap();
        store.put_small(&[0; 400], 0).unwrap();
        let digest = Digest::of(b"bad");
        let refusal = Refusal { manifest: digest, index: digest, why: String::new(), at_ms: 0 };
        let measured = Measured { p95_ms: Some(40), rss_bytes: Some(2_000), ..Measured::default() };
        let half = Measured { rss_bytes: None, ..measured };
        let measured = vec![(digest, measured), (Digest::of(b"half"), half)];
        let kept = Kept { refused: vec![refusal], measured, ..Kept::default() };
        let facts = |leave| device(&store, &kept, leave).unwrap();
        let here = facts(Leave::default());
        assert_eq!((here.disk_free_bytes, here.refused), (Some(600), [digest].into()), "the quota");
        assert_eq!(here.measured.keys().collect::<Vec<_>>(), [&digest], "what is enough to choose by");
        assert_eq!(
            (here.measured[&digest].p95_ms, here.machine),
            (40.0, machine().map(|(_, machine)| machine))
        );
        assert!(here.selvedge.is_some() && !here.isa.contains(&"scalar"));
        assert!(here.memory_bytes.is_some() || cfg!(not(target_os = "linux")));
        // A disk with 170 bytes free, of which 100 stay so.
        disk.full_at(
            disk.list(Path::new("/p")).unwrap().iter().map(|entry| entry.size_bytes).sum::<u64>() + 400 + 170,
        );
        assert_eq!(facts(Leave { disk_bytes: 100, ..Leave::default() }).disk_free_bytes, Some(70));
    }
}
