//! Proves a network: it is loaded by the runtime that will run it, and answers its golden set of tensors.
//!
//! Without a golden set it is asked once about zeros, if its inputs have fixed shapes: a network that this machine cannot run
//! is found out before it is on trial.

use lm::memory::machine::peak_bytes;
use net::golden::{answer, dry_run};
use net::network::{Network, Options};
use package::golden::{Answer, Case, Golden};
use package::manifest::Manifest;
use package::media;
use package::requirement::Kind;
use wire::world::Clock;

use super::answers::{Answers, ms_since};
use crate::network::FILE_MAX_BYTES;
use crate::why::why;

/// Whether a manifest is that of a network.
pub fn is_one(manifest: &Manifest) -> bool {
    manifest.annotation(media::KIND).is_some_and(|word| Kind::of_word(word) == Kind::Net)
}

/// How networks of releases are loaded.
pub fn options() -> Options {
    Options { file_bytes_max: FILE_MAX_BYTES, ..Options::default() }
}

/// Loads a network from bytes that were checked, and lets it answer; the error says why there are no answers.
pub(super) fn answers(bytes: &[u8], golden: Option<&Golden>, clock: &dyn Clock) -> Result<Answers, String> {
    let now_ns = || clock.mono_ns();
    let begun_ns = clock.mono_ns();
    let mut network = Network::load(bytes, &options()).map_err(|error| why(&error))?;
    let load_ms = ms_since(&now_ns, begun_ns);
    let (mut answers, mut answer_ms) = (Vec::new(), Vec::new());
    for (at, case) in golden.iter().flat_map(|golden| &golden.cases).enumerate() {
        let begun_ns = clock.mono_ns();
        let answered = answer_case(&mut network, case)?;
        // The first run of a shape compiles for it.
        if at > 0 || golden.is_some_and(|golden| golden.cases.len() == 1) {
            answer_ms.push(ms_since(&now_ns, begun_ns));
        }
        answers.push(answered);
    }
    if golden.is_none() {
        dry_run(&mut network).map_err(|error| why(&error))?;
    }
    Ok(Answers { answers, load_ms, answer_ms, rss_bytes: peak_bytes(), own_bytes: None })
}

/// The answer of a loaded network to one case; the error says why there is none.
pub fn answer_case(network: &mut Network, case: &Case) -> Result<Answer, String> {
    match case {
        Case::Tensors(tensors) => {
            answer(network, &tensors.input).map(Answer::Tensors).map_err(|error| why(&error))
        }
        Case::Text(_) | Case::Embedding(_) => {
            Err("its golden set asks for words or vectors of texts, which a network has not".into())
        }
    }
}
