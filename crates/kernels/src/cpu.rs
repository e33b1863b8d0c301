//! What this processor can do, as values: only the value opens the door to its instructions.
//!
//! `Avx2::detect()` gives a token if the processor has what the path needs; `arch/avx2.rs` runs only for who shows it.
//! All paths give the same bits (see `simd`), so which one is taken decides about speed alone.

use std::fmt;
use std::sync::OnceLock;

use crate::simd::{Body, Simd};

/// Plain Rust, for every processor; the definition of what the other paths must give.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Proof of AVX2, FMA and F16C: x86-64 from 2013 (Haswell, Zen) on.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The proof, if this processor and the operating system give it.
    pub fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

/// Proof of AVX2, FMA, F16C and AVX-VNNI: x86-64 clients from 2021 (Alder Lake, N100) on, which have no AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct AvxVnni(());

#[cfg(target_arch = "x86_64")]
impl AvxVnni {
    /// The proof, if this processor and the operating system give it.
    pub fn detect() -> Option<AvxVnni> {
        // Tests of this crate take another encoding, see `arch/avx_vnni.rs`.
        let vnni = match cfg!(test) {
            true => is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni"),
            false => is_x86_feature_detected!("avxvnni"),
        };
        (Avx2::detect().is_some() && vnni).then_some(AvxVnni(()))
    }
}

/// Proof of AVX-512 F, BW, VL, DQ and VNNI: x86-64 servers from 2019 (Cascade Lake), Zen 4, Tiger Lake on.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// The proof, if this processor and the operating system give it.
    pub fn detect() -> Option<Avx512> {
        let has = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Avx512(()))
    }
}

/// Proof of NEON with the dot product: Armv8.2 cores from 2018 (Cortex-A75, Raspberry Pi 5, Apple M1) on.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

#[cfg(target_arch = "aarch64")]
impl Neon {
    /// The proof, if this processor and the operating system give it.
    pub fn detect() -> Option<Neon> {
        let has = std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod");
        has.then_some(Neon(()))
    }
}

/// Proof of NEON with the dot product and int8 matrices: Armv8.6 cores from 2021 (Cortex-A510, Neoverse V1, Apple M2) on.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub struct I8mm(());

#[cfg(target_arch = "aarch64")]
impl I8mm {
    /// The proof, if this processor and the operating system give it.
    pub fn detect() -> Option<I8mm> {
        let has = Neon::detect().is_some() && std::arch::is_aarch64_feature_detected!("i8mm");
        has.then_some(I8mm(()))
    }
}

/// The instructions that a computation uses.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// Plain Rust.
    Scalar(Scalar),
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX2 with AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// NEON with the dot product.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// NEON with the dot product and int8 matrices.
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

/// Why the wanted instructions cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The word is not one of ours.
    #[error("KERNELS_ISA={0}: unknown, must be one of scalar, avx2, avxvnni, avx512, neon, i8mm")]
    Unknown(String),
    /// The word is right, but the processor (or this build's target) cannot.
    #[error("KERNELS_ISA={wanted}: this processor cannot; possible here: {possible}")]
    Impossible {
        /// What was asked for.
        wanted: String,
        /// What could be asked for, separated by commas.
        possible: String,
    },
}

impl Isa {
    /// The fastest that this processor can.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::all_here().pop().unwrap_or(Isa::Scalar(Scalar)))
    }

    /// All that this processor can, slowest first.
    pub fn all_here() -> Vec<Isa> {
        let mut all = vec![Isa::Scalar(Scalar)];
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx2::detect().map(Isa::Avx2));
        #[cfg(target_arch = "x86_64")]
        all.extend(AvxVnni::detect().map(Isa::AvxVnni));
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx512::detect().map(Isa::Avx512));
        #[cfg(target_arch = "aarch64")]
        all.extend(Neon::detect().map(Isa::Neon));
        #[cfg(target_arch = "aarch64")]
        all.extend(I8mm::detect().map(Isa::I8mm));
        all
    }

    /// What the environment variable `KERNELS_ISA` forces, the best where it is not set.
    pub fn from_environment() -> Result<Isa, IsaError> {
        match std::env::var_os("KERNELS_ISA") {
            Some(wanted) if !wanted.is_empty() => Isa::from_name(&wanted.to_string_lossy()),
            _ => Ok(Isa::best()),
        }
    }

    /// The one of this name (`scalar`, `avx2`, `avxvnni`, `avx512`, `neon`, `i8mm`), if this processor can.
    pub fn from_name(wanted: &str) -> Result<Isa, IsaError> {
        if !["scalar", "avx2", "avxvnni", "avx512", "neon", "i8mm"].contains(&wanted) {
            return Err(IsaError::Unknown(wanted.to_owned()));
        }
        let here = Isa::all_here();
        here.iter().copied().find(|isa| isa.name() == wanted).ok_or_else(|| IsaError::Impossible {
            wanted: wanted.to_owned(),
            possible: here.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Its name, as `KERNELS_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm(_) => "i8mm",
        }
    }

    /// Runs a piece of arithmetic with these instructions.
    pub(crate) fn run<B: Body>(self, body: B) -> B::Output {
        match self {
            Isa::Scalar(token) => token.enter(body),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => token.enter(body),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni(token) => token.enter(body),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => token.enter(body),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(token) => token.enter(body),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm(token) => token.enter(body),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Isa, IsaError};

    #[test]
    fn names_lead_back_to_what_they_name() {
        for isa in Isa::all_here() {
            assert_eq!(Isa::from_name(isa.name()).map(Isa::name), Ok(isa.name()));
        }
        assert_eq!(Isa::all_here().last().map(|isa| isa.name()), Some(Isa::best().name()));
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(Isa::from_name("sse9").err(), Some(IsaError::Unknown("sse9".into())));
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let error = Isa::from_name(foreign).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(foreign) && error.contains("scalar"), "{error}");
    }
}
