//! The workshop: from a stranger's model to one that fits the device, with measured quality.
//!
//! Floor 4. The stations of the flow of models, in order:
//!
//! - [`import`]: a Hugging Face folder becomes a GGUF file;
//! - [`compress`]: its weights become fewer bits; [`mix`]: which tensor gets how many;
//!   [`importance`]: which inputs matter, measured on text;
//! - [`evaluate`]: what that cost, as perplexity;
//! - [`fit`]: which of several files a machine can run;
//! - [`pack`]: files and what was measured of them become a package;
//! - [`parcel`]: a package as it lies here, a folder or a `.tar`; [`sign`]: who made it; [`verify`]: whether it is whole and
//!   vouched for; [`repository`]: a TUF repository in a folder, to write and to follow; [`grant`]: which nodes may open what is
//!   sealed; `pkcs11`, if built with it: keys in tokens;
//! - [`publish`]: it goes to a registry; [`announce`]: a hub hears that it is approved, and for whom.

pub mod announce;
pub mod compress;
pub mod evaluate;
pub mod fit;
pub mod grant;
pub mod import;
pub mod importance;
pub mod mix;
pub mod pack;
pub mod parcel;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod publish;
pub mod repository;
pub mod sign;
pub mod verify;
