//! The best variant among those that a device proves it can run; and why not the others.
//!
//! A fact that is not known proves nothing: a requirement on it is not met. Only figures of speed and power, which most
//! devices do not have before they ran a variant, are left out when they are not known. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::Digest;
use crate::golden::Budget;
use crate::index::{Release, Variant};
use crate::name::ModelName;
use crate::requirement::{Better, Kind, Measurement, Quality, Requires, Runtime, Version};

/// What a device knows of itself, and what it may not pass. `None`: not known here.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// All its memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that a model may take, in bytes; with what the model that now runs gives back, if it makes way.
    pub free_bytes: Option<u64>,
    /// Memory that stays free of models in any case, in bytes.
    pub keep_bytes: u64,
    /// Disk that packages may take, in bytes.
    pub disk_free_bytes: Option<u64>,
    /// What the processor can, in the words of `kernels::cpu`.
    pub isa: Vec<&'static str>,
    /// The architecture, in Rust's word.
    pub arch: &'static str,
    /// Accelerators that can be used, such as `cuda`.
    pub accelerators: Vec<String>,
    /// Kinds and runtimes that this device runs.
    pub runs: Vec<(Kind, Runtime)>,
    /// The version of ours.
    pub selvedge: Option<Version>,
    /// The fingerprint of machines like this one.
    pub machine: Option<Digest>,
    /// Power that a model may draw, in watts.
    pub power_limit_w: Option<f64>,
    /// What answers may cost by the operator's order.
    pub budget: Budget,
    /// What was measured on this device, by the digest of the variant's manifest.
    pub measured: BTreeMap<Digest, Measured>,
    /// Manifests that failed here before.
    pub refused: BTreeSet<Digest>,
}

/// What a variant cost on this device.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Milliseconds of a token or a window: 95 of 100 stayed below.
    pub p95_ms: f64,
    /// The most memory, in bytes.
    pub rss_bytes: u64,
    /// Energy of a token or a window, in joules, if that was measured.
    pub joules: Option<f64>,
}

/// Why a variant does not fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// Another kind of thing, or of a runtime that is not here.
    NotRun {
        /// Its kind.
        kind: Kind,
        /// Its runtime.
        runtime: Runtime,
    },
    /// Written for a later version.
    Version {
        /// What it asks for.
        needed: Version,
        /// What is here.
        here: Option<Version>,
    },
    /// Instructions that the processor does not have.
    Isa {
        /// Alternatives, separated by commas.
        needed: String,
    },
    /// An accelerator that is not there.
    Accelerator {
        /// Which one.
        needed: String,
    },
    /// Not enough memory.
    Memory {
        /// In bytes.
        needed_bytes: u64,
        /// In bytes, if known.
        free_bytes: Option<u64>,
        /// What stays free in any case, in bytes.
        keep_bytes: u64,
    },
    /// Not enough disk.
    Disk {
        /// In bytes.
        needed_bytes: u64,
        /// In bytes, if known.
        free_bytes: Option<u64>,
    },
    /// It failed here before.
    Refused,
    /// Slower than the operator's order allows.
    Slow {
        /// What it took, in milliseconds.
        p95_ms: f64,
        /// What it may, in milliseconds.
        most_ms: f64,
    },
    /// It took more memory than the operator's order allows.
    Heavy {
        /// What it took, in bytes.
        rss_bytes: u64,
        /// What it may, in bytes.
        most_bytes: u64,
    },
    /// It draws more power than this device gives.
    Power {
        /// What it drew, in watts.
        watts: f64,
        /// What it may, in watts.
        most_watts: f64,
    },
}

/// Where a figure of speed is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This device.
    Here,
    /// The package, from a machine like this one.
    Package,
}

/// One variant on this device.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub variant: String,
    /// Its quality, if that was measured.
    pub quality: Option<Quality>,
    /// What it asks for.
    pub requires: Requires,
    /// Milliseconds of a token or a window (p95), and who measured them.
    pub p95_ms: Option<(f64, Origin)>,
    /// Why it does not fit; empty if it does.
    pub lacks: Vec<Lack>,
}

/// What was chosen, and why. `Display` is the text of `selvedge fit --explain`.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The model.
    pub model: ModelName,
    /// The release.
    pub release: u64,
    /// The best variant that fits: its place in the release and in `reasons`.
    pub best: Option<usize>,
    /// Every variant, in the order of the release.
    pub reasons: Vec<Judged>,
    device: Device,
}

/// Chooses the best variant that the device proves to fit: of better quality, then faster here, then smaller, then of
/// the lower digest.
pub fn choose(release: &Release, device: &Device) -> Choice {
    let reasons: Vec<Judged> = release.variants.iter().map(|variant| judge(variant, device)).collect();
    let fits = (0..reasons.len()).filter(|at| reasons[*at].lacks.is_empty());
    let digest = |at: usize| release.variants[at].manifest.digest;
    let best = fits.min_by(|a, b| rank(&reasons[*a], &reasons[*b]).then_with(|| digest(*a).cmp(&digest(*b))));
    Choice { model: release.model.clone(), release: release.release, best, reasons, device: device.clone() }
}

/// The better one first.
fn rank(a: &Judged, b: &Judged) -> Ordering {
    let quality = match (&a.quality, &b.quality) {
        (Some(a), Some(b)) if a.is_comparable(b) => match a.better {
            Better::Lower => a.value.total_cmp(&b.value),
            Better::Higher => b.value.total_cmp(&a.value),
        },
        (a, b) => b.is_some().cmp(&a.is_some()), // a measured one before one that is not
    };
    let speed = match (a.p95_ms, b.p95_ms) {
        (Some((a, _)), Some((b, _))) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    quality.then(speed).then(a.requires.ram_bytes.cmp(&b.requires.ram_bytes))
}

fn judge(variant: &Variant, device: &Device) -> Judged {
    let own = device.measured.get(&variant.manifest.digest);
    let alike = |list: &[Measurement], figure: fn(&Measurement) -> Option<f64>| {
        let machine = device.machine?;
        list.iter().filter(|one| one.machine == machine).find_map(figure)
    };
    let p95_ms = match own {
        Some(own) => Some((own.p95_ms, Origin::Here)),
        None => alike(&variant.latency, |one| one.token_p95_ms).map(|ms| (ms, Origin::Package)),
    };
    let joules = own.and_then(|own| own.joules).or_else(|| alike(&variant.energy, |one| one.joules));
    let mut lacks = needs(variant, device);
    if let (Some((p95_ms, _)), Some(most_ms)) = (p95_ms, device.budget.p95_ms)
        && p95_ms > most_ms
    {
        lacks.push(Lack::Slow { p95_ms, most_ms });
    }
    if let (Some(Measured { rss_bytes, .. }), Some(most_bytes)) = (own, device.budget.rss_bytes)
        && *rss_bytes > most_bytes
    {
        lacks.push(Lack::Heavy { rss_bytes: *rss_bytes, most_bytes });
    }
    if let (Some(joules), Some((p95_ms, _)), Some(most_watts)) = (joules, p95_ms, device.power_limit_w) {
        let watts = joules / (p95_ms / 1e3);
        if watts > most_watts {
            lacks.push(Lack::Power { watts, most_watts });
        }
    }
    let (variant, quality, requires) =
        (variant.name.to_string(), variant.quality.clone(), variant.requires.clone());
    Judged { variant, quality, requires, p95_ms, lacks }
}

/// What a variant asks for that this device does not prove to have.
fn needs(variant: &Variant, device: &Device) -> Vec<Lack> {
    let Requires { ram_bytes, disk_bytes, isa, accelerator, selvedge, .. } = &variant.requires;
    let mut lacks = Vec::new();
    if device.refused.contains(&variant.manifest.digest) {
        lacks.push(Lack::Refused);
    }
    if !device.runs.iter().any(|(kind, runtime)| (kind, runtime) == (&variant.kind, &variant.runtime)) {
        lacks.push(Lack::NotRun { kind: variant.kind.clone(), runtime: variant.runtime.clone() });
    }
    if device.selvedge.is_none_or(|here| here < *selvedge) {
        lacks.push(Lack::Version { needed: *selvedge, here: device.selvedge });
    }
    let can = |word: &String| device.isa.iter().any(|here| here == word);
    if !isa.is_empty() && !isa.iter().any(|need| need.arch == device.arch && need.isa.iter().all(can)) {
        let alternatives: Vec<String> = isa.iter().map(ToString::to_string).collect();
        lacks.push(Lack::Isa { needed: alternatives.join(",") });
    }
    if let Some(needed) = accelerator.as_ref().filter(|needed| !device.accelerators.contains(needed)) {
        lacks.push(Lack::Accelerator { needed: needed.clone() });
    }
    let Device { free_bytes, keep_bytes, disk_free_bytes, .. } = *device;
    if free_bytes.is_none_or(|free| free.saturating_sub(keep_bytes) < *ram_bytes) {
        lacks.push(Lack::Memory { needed_bytes: *ram_bytes, free_bytes, keep_bytes });
    }
    if disk_free_bytes.is_none_or(|free| free < *disk_bytes) {
        lacks.push(Lack::Disk { needed_bytes: *disk_bytes, free_bytes: disk_free_bytes });
    }
    lacks
}

/// Bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1_048_576.0;
        let mib = self.0 as f64 / MIB;
        match mib {
            _ if mib >= 102.4 => write!(f, "{:.1} GiB", mib / 1024.0),
            _ if mib >= 0.1 => write!(f, "{mib:.1} MiB"),
            _ => write!(f, "{} bytes", self.0),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::NotRun { kind, runtime } => {
                let (kind, runtime) = (plain(&kind.to_string()), plain(&runtime.to_string()));
                write!(f, "is of the kind {kind} for the runtime {runtime}, which is not run here")
            }
            Lack::Version { needed, here: Some(here) } => {
                write!(f, "needs selvedge {needed}; this is {here}")
            }
            Lack::Version { needed, here: None } => {
                write!(f, "needs selvedge {needed}; the version is not known here")
            }
            Lack::Isa { needed } => write!(f, "needs a processor with {needed}"),
            Lack::Accelerator { needed } => write!(f, "needs the accelerator {needed}; none here"),
            Lack::Memory { needed_bytes, free_bytes: Some(free), keep_bytes } => {
                let missing = Size(needed_bytes.saturating_add(*keep_bytes).saturating_sub(*free));
                write!(f, "needs {} memory, {} are free", Size(*needed_bytes), Size(*free))?;
                if *keep_bytes > 0 {
                    write!(f, " and {} stay so", Size(*keep_bytes))?;
                }
                write!(f, ": {missing} missing")
            }
            Lack::Memory { needed_bytes, free_bytes: None, .. } => {
                write!(f, "needs {} memory; what is free is not known here", Size(*needed_bytes))
            }
            Lack::Disk { needed_bytes, free_bytes: Some(free) } => {
                let missing = Size(needed_bytes.saturating_sub(*free));
                write!(f, "needs {} disk, {} are free: {missing} missing", Size(*needed_bytes), Size(*free))
            }
            Lack::Disk { needed_bytes, free_bytes: None } => {
                write!(f, "needs {} disk; what is free is not known here", Size(*needed_bytes))
            }
            Lack::Refused => f.write_str("failed here before and is refused"),
            Lack::Slow { p95_ms, most_ms } => {
                write!(f, "takes {p95_ms:.0} ms (p95), {most_ms:.0} ms are allowed")
            }
            Lack::Heavy { rss_bytes, most_bytes } => {
                write!(f, "took {} memory here, {} are allowed", Size(*rss_bytes), Size(*most_bytes))
            }
            Lack::Power { watts, most_watts } => {
                write!(f, "draws {watts:.1} W, {most_watts:.1} W are allowed")
            }
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.lacks.is_empty() {
            let lacks: Vec<String> = self.lacks.iter().map(ToString::to_string).collect();
            return f.write_str(&lacks.join("; "));
        }
        match &self.quality {
            Some(Quality { metric, value, .. }) => write!(f, "{} {value:.2}", plain(metric))?,
            None => f.write_str("quality not measured")?,
        }
        write!(f, " · needs {}", Size(self.requires.ram_bytes))?;
        match self.p95_ms {
            Some((ms, Origin::Here)) => write!(f, " · p95 {ms:.0} ms measured here"),
            Some((ms, Origin::Package)) => write!(f, " · p95 {ms:.0} ms on such a machine"),
            None => f.write_str(" · latency not known here"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { model, release, best, reasons, device } = self;
        write!(f, "{model} release {release} on this machine: ")?;
        match device.memory_bytes {
            Some(bytes) => write!(f, "{} memory", Size(bytes))?,
            None => f.write_str("memory not known")?,
        }
        match device.free_bytes {
            Some(bytes) => write!(f, ", {} free; {}", Size(bytes), device.arch)?,
            None => write!(f, ", what is free not known; {}", device.arch)?,
        }
        device.isa.iter().rev().try_for_each(|word| write!(f, " {word}"))?;
        match device.accelerators.is_empty() {
            true => writeln!(f, "; no accelerator")?,
            false => writeln!(f, "; {}", device.accelerators.join(" "))?,
        }
        let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        let length = |text: &String| text.chars().count();
        let name_width = reasons.iter().map(|one| length(&one.variant)).max().unwrap_or(0).max(8);
        let best_width = best.map_or(0, |_| {
            let fitting = lines.iter().zip(reasons).filter(|(_, one)| one.lacks.is_empty());
            fitting.map(|(line, _)| length(line)).max().unwrap_or(0)
        });
        for (at, (line, one)) in lines.iter().zip(reasons).enumerate() {
            let word = if one.lacks.is_empty() { "fits" } else { "no" };
            let name = &one.variant;
            match *best == Some(at) {
                true => writeln!(f, "  {name:name_width$} {word:9} {line:best_width$}     best")?,
                false => writeln!(f, "  {name:name_width$} {word:9} {line}")?,
            }
        }
        Ok(())
    }
}

/// A stranger's word, fit for a terminal.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Descriptor;
    use crate::form::Annotations;
    use crate::media;
    use crate::name::VariantName;
    use crate::requirement::IsaNeed;

    const GIB: f64 = 1_073_741_824.0;

    fn variant(name: &str, perplexity: f64, ram_gib: f64) -> Variant {
        let on = Digest::of(b"text");
        Variant {
            name: VariantName::new(name).unwrap(),
            manifest: Descriptor::of(media::OCI_MANIFEST, name.as_bytes()),
            kind: Kind::Lm,
            runtime: Runtime::Lm,
            requires: Requires {
                ram_bytes: (ram_gib * GIB) as u64,
                disk_bytes: 1,
                isa: vec![],
                accelerator: None,
                selvedge: Version(0, 1, 0),
                context: Some(2048),
            },
            quality: Some(Quality {
                metric: "perplexity".into(),
                value: perplexity,
                better: Better::Lower,
                on,
            }),
            latency: vec![],
            energy: vec![],
            base: None,
            sealed: None,
        }
    }

    fn release(variants: Vec<Variant>) -> Release {
        let model = ModelName::new("smollm2").unwrap();
        Release { model, release: 7, variants, provenance: vec![], annotations: Annotations::new() }
    }

    fn device() -> Device {
        Device {
            memory_bytes: Some((23.4 * GIB) as u64),
            free_bytes: Some((19.8 * GIB) as u64),
            disk_free_bytes: Some(1 << 40),
            isa: vec!["avx2", "avx512"],
            arch: "x86_64",
            runs: vec![(Kind::Lm, Runtime::Lm)],
            selvedge: Some(Version(0, 1, 0)),
            ..Device::default()
        }
    }

    #[test]
    fn explained_for_a_person() {
        let q8 = variant("q8_0", 11.92, 1.4);
        let mut device = device();
        let measured = Measured { p95_ms: 41.0, rss_bytes: 1, joules: None };
        device.measured.insert(q8.manifest.digest, measured);
        let mut onnx = variant("onnx", 10.0, 1.0);
        onnx.requires.accelerator = Some("cuda".into());
        let release = release(vec![q8, variant("q4_k_m", 12.31, 0.9), variant("f16", 11.9, 25.1), onnx]);
        let choice = choose(&release, &device);
        assert_eq!(choice.best, Some(0));
        let expected = "\
smollm2 release 7 on this machine: 23.4 GiB memory, 19.8 GiB free; x86_64 avx512 avx2; no accelerator
  q8_0     fits      perplexity 11.92 · needs 1.4 GiB · p95 41 ms measured here     best
  q4_k_m   fits      perplexity 12.31 · needs 0.9 GiB · latency not known here
  f16      no        needs 25.1 GiB memory, 19.8 GiB are free: 5.3 GiB missing
  onnx     no        needs the accelerator cuda; none here
";
        assert_eq!(choice.to_string(), expected);
    }

    #[test]
    fn what_is_not_known_proves_nothing() {
        fn check(change: impl FnOnce(&mut Device, &mut Variant), expected: &str) {
            let (mut device, mut variant) = (device(), variant("q8_0", 11.92, 1.4));
            change(&mut device, &mut variant);
            let choice = choose(&release(vec![variant]), &device);
            assert_eq!(choice.best, None, "{expected}");
            let lacks = choice.reasons[0].to_string();
            assert!(lacks.contains(expected), "{lacks}");
        }
        check(|device, _| device.free_bytes = None, "what is free is not known");
        check(|device, _| device.disk_free_bytes = None, "what is free is not known");
        check(|device, _| device.disk_free_bytes = Some(0), "needs 1 bytes disk");
        check(|device, _| device.selvedge = None, "not known here");
        check(|device, _| device.selvedge = Some(Version(0, 0, 9)), "needs selvedge 0.1.0; this is 0.0.9");
        check(|device, _| device.keep_bytes = (18.6 * GIB) as u64, "and 18.6 GiB stay so: 0.2 GiB missing");
        check(|device, _| device.runs.clear(), "is not run here");
        check(|_, variant| variant.kind = Kind::of_word("swarm"), "the kind swarm");
        let refuse = |device: &mut Device, variant: &mut Variant| {
            device.refused.insert(variant.manifest.digest);
        };
        check(refuse, "failed here before");
        let need = |arch: &str, isa: &str| IsaNeed { arch: arch.into(), isa: vec![isa.into()] };
        check(
            |_, variant| variant.requires.isa = vec![need("aarch64", "avx2")],
            "a processor with aarch64+avx2",
        );
        check(
            |_, variant| variant.requires.isa = vec![need("x86_64", "avxvnni"), need("aarch64", "neon")],
            "x86_64+avxvnni,aarch64+neon",
        );
        let (mut device, mut variant) = (device(), variant("q8_0", 11.92, 1.4));
        variant.requires.isa = vec![need("aarch64", "neon"), need("x86_64", "avx2")];
        device.budget.p95_ms = Some(1.0);
        device.power_limit_w = Some(0.1);
        assert_eq!(choose(&release(vec![variant]), &device).best, Some(0), "speed is not known yet");
    }

    #[test]
    fn what_was_measured_here_counts_before_what_the_package_says() {
        let mut variant = variant("q8_0", 11.92, 1.4);
        let machine = Digest::of(b"n100");
        let figure = |p95: Option<f64>, joules: Option<f64>| {
            vec![Measurement { machine, cpu: "n100".into(), prompt_ms: None, token_p95_ms: p95, joules }]
        };
        variant.latency = figure(Some(50.0), None);
        variant.energy = figure(None, Some(0.5));
        let digest = variant.manifest.digest;
        let release = release(vec![variant]);
        let mut device = device();
        device.budget.p95_ms = Some(45.0);
        assert_eq!(choose(&release, &device).best, Some(0), "another machine's figure says nothing");
        device.machine = Some(machine);
        assert!(matches!(choose(&release, &device).reasons[0].lacks[..], [Lack::Slow { .. }]));
        device.measured.insert(digest, Measured { p95_ms: 40.0, rss_bytes: 2000, joules: None });
        assert_eq!(choose(&release, &device).best, Some(0));
        device.power_limit_w = Some(12.0); // 0.5 J in 40 ms are 12.5 W
        assert!(matches!(choose(&release, &device).reasons[0].lacks[..], [Lack::Power { .. }]));
        device.power_limit_w = Some(13.0);
        device.budget.rss_bytes = Some(1999);
        assert!(matches!(choose(&release, &device).reasons[0].lacks[..], [Lack::Heavy { .. }]));
    }

    #[test]
    fn better_then_faster_then_smaller() {
        fn check(a: Variant, b: Variant, device: &Device, expected: usize) {
            assert_eq!(choose(&release(vec![a.clone(), b.clone()]), device).best, Some(expected));
            assert_eq!(choose(&release(vec![b, a]), device).best, Some(1 - expected));
        }
        let (a, b) = (variant("a", 12.0, 1.0), variant("b", 11.0, 2.0));
        check(a.clone(), b.clone(), &device(), 1);
        let accurate = |mut variant: Variant| {
            variant.quality.as_mut().unwrap().better = Better::Higher;
            variant
        };
        check(accurate(a.clone()), accurate(b.clone()), &device(), 0);
        check(a.clone(), Variant { quality: None, ..b.clone() }, &device(), 0);
        let alike = Variant { quality: a.quality.clone(), ..b.clone() };
        check(a.clone(), alike.clone(), &device(), 0);
        let mut measured = device();
        measured.measured.insert(b.manifest.digest, Measured { p95_ms: 9.0, rss_bytes: 1, joules: None });
        check(a.clone(), alike, &measured, 1);
        let twin = Variant { name: VariantName::new("c").unwrap(), manifest: b.manifest, ..a.clone() };
        let expected = usize::from(twin.manifest.digest < a.manifest.digest);
        check(a, twin, &device(), expected);
    }
}
