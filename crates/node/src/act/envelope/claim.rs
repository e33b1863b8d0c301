//! Whose word stands for an actuator, in the order in which they go before one another.

use wire::body::act::{Actor, ActorKind, Outcome, Setting};
use wire::world::MonoNs;

/// The most words at a time.
const CLAIMS_MAX: usize = 64;

/// Somebody's word.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    pub(super) who: Actor,
    pub(super) to: Setting,
    /// When it ends by itself.
    pub(super) until_ns: MonoNs,
    pub(super) why: String,
    /// Who waits for what comes of it.
    pub(super) ticket: Option<u64>,
    /// What was last told of it.
    pub(super) told: Option<(Outcome, String)>,
}

/// All words, the one that goes first at the front: the stronger kind, then the older word.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    pub(super) fn top(&self) -> Option<&Claim> {
        self.0.first()
    }

    pub(super) fn of(&mut self, who: &Actor) -> Option<&mut Claim> {
        self.0.iter_mut().find(|claim| claim.who == *who)
    }

    pub(super) fn has(&self, who: &Actor) -> bool {
        self.0.iter().any(|claim| claim.who == *who)
    }

    /// Whether there is no room for one more of this actor.
    pub(super) fn is_full(&self, who: &Actor) -> bool {
        self.0.len() >= CLAIMS_MAX && !self.has(who)
    }

    pub(super) fn insert(&mut self, claim: Claim) {
        let at = self.0.partition_point(|other| other.who.kind >= claim.who.kind);
        self.0.insert(at, claim);
    }

    pub(super) fn remove(&mut self, who: &Actor) -> Option<Claim> {
        let at = self.0.iter().position(|claim| claim.who == *who)?;
        Some(self.0.remove(at))
    }

    pub(super) fn take_of(&mut self, kind: ActorKind) -> Vec<Claim> {
        self.0.extract_if(.., |claim| claim.who.kind == kind).collect()
    }

    pub(super) fn take_ended(&mut self, now_ns: MonoNs) -> Vec<Claim> {
        self.0.extract_if(.., |claim| claim.until_ns <= now_ns).collect()
    }

    /// Takes words of those who do not wait: people and agents.
    pub(super) fn take_impatient(&mut self, which: impl Fn(&Claim) -> bool) -> Vec<Claim> {
        self.0.extract_if(.., |claim| claim.who.kind != ActorKind::Rule && which(claim)).collect()
    }

    /// Words of those who wait: rules.
    pub(super) fn patient(&self) -> impl Iterator<Item = &Claim> {
        self.0.iter().filter(|claim| claim.who.kind == ActorKind::Rule)
    }

    /// When the first of them ends.
    pub(super) fn first_end_ns(&self) -> Option<MonoNs> {
        self.0.iter().map(|claim| claim.until_ns).min()
    }
}
