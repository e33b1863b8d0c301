//! Keeps the node's certificate in force while the node runs, and its time right enough for that. Nothing waits for it.
//!
//! A node that was told how it comes in does so here, at its first start: what it does without a hub, it does from then on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use package::trust::canonical::Value;
use package::trust::key::PublicKey;
use rustls::pki_types::CertificateDer;
use wire::facts::Facts;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::{RENEW_PATH, RenewAnswer, RenewAsk, TIME_PATH, TimeAnswer, TimeAsk, time_message};
use wire::world::{Clock, Entropy, World};

use crate::config::{EnrolBy, HubConfig};
use crate::identity::call::{CallError, Caller};
use crate::identity::csr::csr;
use crate::identity::enrol::{Comer, EnrolError, Waits, Way, enrol};
use crate::identity::files::{Files, FilesError, HubFacts, Life, public_of};
use crate::identity::tls::{HubTls, undated};
use crate::identity::{Effect, State, coming_in_pause_ms, step};
use crate::judged::Judged;
use crate::via::{Via, ViaError};
use crate::why::why;

/// Why the node's identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error(
        "{url} is a hub's door for nodes, and this node has not come in yet; run: selvedge node enrol --hub {url} --code …, \
         or write `code_file` into [hub]"
    )]
    NotEnrolled {
        /// The hub, as configured.
        url: String,
    },
    /// It is another's.
    #[error(
        "this node is called {configured} in its settings, and was enrolled as {enrolled}; give it the same name"
    )]
    OtherName {
        /// In `node.toml`.
        configured: NodeId,
        /// In the certificate.
        enrolled: NodeId,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What says how it comes in.
    #[error(transparent)]
    Way(#[from] EnrolError),
    /// What the hub said at enrolment is no authority.
    #[error("the hub's authority in {folder} cannot be read; remove the folder and enrol the node again")]
    Authority {
        /// The folder.
        folder: String,
    },
    /// TLS does not take it.
    #[error("TLS does not take this node's certificate")]
    Tls(#[from] rustls::Error),
    /// The way to the hub.
    #[error(transparent)]
    Via(#[from] ViaError),
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the request for a certificate could not be made")]
    Csr(#[from] rcgen::Error),
    #[error("TLS towards the hub could not be set up")]
    Tls(#[from] rustls::Error),
    #[error("the hub's answer is not what was asked for: {0}")]
    Answer(&'static str),
}

/// This node's identity, as it runs.
#[derive(Debug)]
pub struct Identity {
    files: Files,
    url: String,
    name: NodeId,
    facts: Facts,
    way: Option<EnrolBy>,
    held: Option<Held>,
    /// Settings of TLS to the hub, for whoever asks it anything.
    pub tls: HubTls,
    judged: Arc<Judged>,
}

/// What a node has that came in.
#[derive(Debug)]
struct Held {
    facts: HubFacts,
    authority: CertificateDer<'static>,
    life: Life,
}

impl Held {
    /// What stands in the folder, shown to the hub from now on.
    fn open(files: &Files, name: &NodeId, tls: &HubTls) -> Result<Option<Held>, IdentityError> {
        let Some((facts, pair)) = files.open()? else { return Ok(None) };
        if facts.node != *name {
            return Err(IdentityError::OtherName { configured: name.clone(), enrolled: facts.node });
        }
        let authority = BASE64_STANDARD.decode(&facts.authority).map(CertificateDer::from);
        let folder = || files.folder().display().to_string();
        let authority = authority.map_err(|_| IdentityError::Authority { folder: folder() })?;
        tls.open(&pair, authority.clone())?;
        Ok(Some(Held { facts, authority, life: pair.life }))
    }
}

impl Identity {
    /// The one in the node's data folder, for this hub; or none yet, if the settings say how it comes in. `facts`: what the
    /// node then says of itself.
    pub fn open(
        data: &Path,
        hub: &HubConfig,
        name: &NodeId,
        facts: Facts,
        clock: impl Clock + Clone + 'static,
    ) -> Result<Identity, IdentityError> {
        let files = Files::of(data);
        let via = hub.via.as_ref().map(|via| Via::open(via, clock.clone())).transpose()?;
        let judged = Judged::new(clock, 0);
        let tls = HubTls::closed(judged.clone())?.through(via);
        let held = Held::open(&files, name, &tls)?;
        let (url, way) = (hub.url.clone(), hub.enrol.clone());
        match (&held, &way) {
            (Some(held), _) => judged.raise(held.life.not_before_ms),
            (None, Some(way)) => drop(Way::open(way)?),
            (None, None) => return Err(IdentityError::NotEnrolled { url }),
        }
        Ok(Identity { files, url, name: name.clone(), facts, way, held, tls, judged })
    }

    /// Does what is due, for ever.
    pub async fn tend(mut self, mut world: impl World) {
        let mut held = match self.held.take() {
            Some(held) => held,
            None => self.come_in(&mut world).await,
        };
        self.forget_code();
        let mut state = State {
            not_before_ms: held.life.not_before_ms,
            not_after_ms: held.life.not_after_ms,
            share: world.unit(),
            failures: 0,
            tried_ms: None,
            is_doubted: false,
        };
        let mut may_ask_at_once = true;
        loop {
            state.is_doubted = self.judged.is_doubted();
            let now_ms = self.judged.now_ms();
            let done = match step(&state, now_ms) {
                Effect::Wait { ms } => {
                    let resting = state.failures > 0;
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
                        () = self.judged.doubted(), if !resting => {}
                    }
                    continue;
                }
                Effect::AskTime => self.ask_time(&held, &mut world).await,
                Effect::Renew => self.renew(&mut held, &mut world).await,
            };
            state.tried_ms = Some(self.judged.now_ms());
            match done {
                Ok(()) => {
                    let Life { not_before_ms, not_after_ms } = held.life;
                    if not_before_ms != state.not_before_ms {
                        state.share = world.unit();
                        may_ask_at_once = true;
                    }
                    state = State { not_before_ms, not_after_ms, failures: 0, ..state };
                }
                // The hub's certificate did not fit our time, which is seen only now: the time is asked for without a rest, once.
                Err(error) if may_ask_at_once && !state.is_doubted && self.judged.is_doubted() => {
                    may_ask_at_once = false;
                    tracing::info!(%error, "the clock or the hub's certificate is wrong; the hub is asked for the time");
                }
                Err(error) => {
                    state.failures = state.failures.saturating_add(1);
                    tracing::warn!(%error, failures = state.failures, "the certificate is not renewed yet, or the time not known");
                }
            }
        }
    }

    /// Comes in, however long that takes. The files that say how are read for each try: somebody may put another code there.
    async fn come_in(&self, world: &mut impl World) -> Held {
        let mut failures = 0;
        loop {
            let error = match self.try_to_come_in(world).await {
                Ok(held) => return held,
                Err(error) => error,
            };
            failures += 1;
            tracing::warn!(error = why(&*error), failures, "this node has not come in yet");
            tokio::time::sleep(Duration::from_millis(coming_in_pause_ms(failures, world.unit()))).await;
        }
    }

    async fn try_to_come_in(
        &self,
        entropy: &mut dyn Entropy,
    ) -> Result<Held, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(way) = &self.way {
            let way = Way::open(way)?;
            let Identity { files, url, name, facts, judged, tls, .. } = self;
            let via = tls.via().cloned();
            let comer = Comer { files, url, name, facts, judged: judged.clone(), via };
            let waits = |waits: &Waits| {
                tracing::warn!(ticket = waits.ticket, key = %waits.key, "somebody at the hub has to admit this node");
            };
            match enrol(&comer, &way, entropy, waits).await {
                Ok(facts) => tracing::info!(hub = facts.url, "this node came in"),
                // By hand, beside the running node.
                Err(EnrolError::Already { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let held = Held::open(&self.files, &self.name, &self.tls)?;
        let held = held.ok_or_else(|| IdentityError::NotEnrolled { url: self.url.clone() })?;
        self.judged.raise(held.life.not_before_ms);
        Ok(held)
    }

    /// A code is of no use to anybody now, and a token to others than this node.
    fn forget_code(&self) {
        let Some(EnrolBy::Code(path)) = &self.way else { return };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "the code is still there; remove it");
            }
            _ => {}
        }
    }

    /// The one call that a wrong clock allows: what it says counts only with the hub's signature over our nonce.
    async fn ask_time(&self, held: &Held, entropy: &mut dyn Entropy) -> Result<(), StepError> {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let nonce = Hash::from_slice(&bytes).ok_or(StepError::Answer("no nonce"))?;
        let settings = undated(held.authority.clone(), self.judged.clone())?;
        let caller = Caller::new(&self.url, settings, self.tls.via().cloned())?;
        let answer: TimeAnswer = caller.post(TIME_PATH, &TimeAsk { nonce }).await?;
        let key = Value::object([
            ("keytype", "ed25519".into()),
            ("scheme", "ed25519".into()),
            ("keyval", Value::object([("public", held.facts.time_key.as_str().into())])),
        ]);
        let signature = Value::object([("sig", answer.signature.as_str().into())]);
        let message = time_message(answer.hub_ms, nonce);
        if !PublicKey::read(&key).is_some_and(|key| key.verifies(&message, &signature)) {
            return Err(StepError::Answer("the time is not signed with the hub's key"));
        }
        tracing::warn!(
            hub_ms = answer.hub_ms,
            "this machine's clock is wrong; certificates are judged by the hub's time"
        );
        self.judged.set(answer.hub_ms);
        Ok(())
    }

    async fn renew(&self, held: &mut Held, entropy: &mut dyn Entropy) -> Result<(), StepError> {
        let key = self.files.next_key(entropy)?;
        let ask = RenewAsk { csr: BASE64_STANDARD.encode(csr(&key)?), extra: serde_json::Map::new() };
        let caller = Caller::new(&self.url, self.tls.settings(), self.tls.via().cloned())?;
        let answer: RenewAnswer = caller.post(RENEW_PATH, &ask).await?;
        let certificate = BASE64_STANDARD.decode(&answer.certificate).map(CertificateDer::from);
        let certificate = certificate.map_err(|_| StepError::Answer("the certificate is none"))?;
        if public_of(&certificate).as_deref() != Some(key.public()) {
            return Err(StepError::Answer("the certificate is for another key"));
        }
        let life = Life { not_before_ms: answer.not_before_ms, not_after_ms: answer.not_after_ms };
        let pair = self.files.take(&certificate, life, None)?;
        self.tls.show(&pair)?;
        self.judged.raise(life.not_before_ms);
        held.life = life;
        tracing::info!(until_ms = life.not_after_ms, "this node has its next certificate");
        Ok(())
    }
}
