//! The envelope of one actuator, as a pure step: who may set it to what, how often, how fast, for how long, and when it goes back
//! to its safe setting.
//!
//! Stands between whoever asks (rules, people, agents) and the guard, which holds the device. What always holds, whatever is
//! asked and whatever fails:
//!
//! - only allowed settings are written; another one than the safe one only while somebody's word stands, the interlock holds, the
//!   rate is not used up and the device was last heard to be where it should be;
//! - the safe setting may be written at any time, and is written as soon as no word stands, the interlock does not hold, or
//!   nothing certain is known of the device;
//! - a word ends by itself: none outlives its lease.
//!
//! Of those who ask, a person's word goes before a rule's, and a rule's before an agent's. A rule that must stand back gets its
//! turn by itself while it fires; people and agents are refused, and hear why. An agent is heard only where the declaration lets
//! agents ask, and by being loud it takes nobody's turn to ask but an agent's.

mod claim;
mod rate;
#[cfg(test)]
mod tests;

use wire::body::act::{Actor, ActorKind, Outcome, Receipt, Setting};
use wire::world::MonoNs;

use self::claim::{Claim, Claims};
use self::rate::Starts;
use crate::act::limits::Limits;

/// A number that moves slowly is moved this often.
pub const STEP_NS: MonoNs = 250_000_000;

/// A write of which nothing is heard for so long never comes back: the guard is replaced.
pub const FLIGHT_NS: MonoNs = 20_000_000_000;

/// People may ask so often within a minute, and agents as often again.
const ASKS: u32 = 60;
const ASKS_PER_NS: MonoNs = 60_000_000_000;

/// A device that failed is left alone for so long, then for twice as long, and so on up to the second.
const RETRY_NS: MonoNs = 1_000_000_000;
const RETRY_MOST_NS: MonoNs = 60_000_000_000;

/// Somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Who.
    pub who: Actor,
    /// For what.
    pub to: Setting,
    /// For how long; absent: for a lease. A rule's word stands for a lease, and is renewed while it fires.
    pub for_ms: Option<u64>,
    /// Why.
    pub why: String,
    /// Under which the answer is waited for, if it is.
    pub ticket: Option<u64>,
}

/// What happens to an envelope.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody asks, or renews what they asked.
    Ask(Asked),
    /// Somebody takes their word back.
    Release {
        /// Who.
        who: Actor,
        /// Why.
        why: String,
    },
    /// The interlock's condition was judged: whether it holds; `None` if a value that matters is missing.
    Interlock(Option<bool>),
    /// The guard did what it was told.
    Wrote {
        /// Which write.
        id: u64,
        /// What the device says, if it can be asked; the error says what failed.
        read: Result<Option<Setting>, String>,
        /// How long it took.
        took_ms: u64,
    },
    /// The guard brought the device back to its safe setting by itself.
    Lapsed {
        /// Why.
        why: String,
    },
    /// The guard is gone, or a new one has begun.
    Lost {
        /// Why.
        why: String,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Have the guard write this to the device.
    Write {
        /// Names the write in [`Event::Wrote`].
        id: u64,
        /// What to set it to.
        to: Setting,
    },
    /// Tell whoever waits, and the journal.
    Tell(Told),
    /// The guard does not answer: another one is needed.
    Replace,
}

/// What came of an asking.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Who asked.
    pub who: Actor,
    /// For what.
    pub asked: Setting,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
    /// What the device says.
    pub receipt: Option<Receipt>,
    /// Until when it stands.
    pub until_ns: Option<MonoNs>,
    /// Who waits for it.
    pub ticket: Option<u64>,
    /// Whether the journal is told, too: a renewal is none of its business.
    pub remember: bool,
    /// Refusals before it of which the journal was not told.
    pub untold: u64,
}

/// What is known of the device.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    /// Nothing certain.
    Nothing,
    /// It took this, at that time.
    At(Setting, MonoNs),
}

/// A write under way.
#[derive(Debug, Clone, PartialEq)]
struct Flight {
    id: u64,
    to: Setting,
    sent_ns: MonoNs,
    /// Who is behind it; `None`: the way back to the safe setting.
    by: Option<Actor>,
}

/// When a device that failed is tried again.
#[derive(Debug, Clone, Default, PartialEq)]
struct Pause {
    until_ns: MonoNs,
    /// How long the next one is; 0 before the first.
    next_ns: MonoNs,
    why: String,
}

impl Pause {
    fn begin(&mut self, now_ns: MonoNs, why: &str) {
        let pause_ns = self.next_ns.max(RETRY_NS);
        self.until_ns = now_ns.saturating_add(pause_ns);
        self.next_ns = (pause_ns * 2).min(RETRY_MOST_NS);
        why.clone_into(&mut self.why);
    }
}

/// How an actuator is, for those who ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// What it is set to, if that is known.
    pub at: Option<Setting>,
    /// Where it is going, if it is not there.
    pub toward: Option<Setting>,
    /// Whose word stands, and until when.
    pub holder: Option<(Actor, Option<MonoNs>)>,
    /// Whether the interlock holds; true without one.
    pub may_act: bool,
    /// What is wrong with the device, if something is.
    pub trouble: Option<String>,
}

/// The envelope of one actuator.
#[derive(Debug)]
pub struct Envelope {
    limits: Limits,
    known: Known,
    /// The interlock held when it was judged last; until then that is believed.
    holds_until_ns: Option<MonoNs>,
    claims: Claims,
    /// Where the device is on its way to, when that is not the safe setting.
    toward: Option<Setting>,
    starts: Starts,
    asks: Starts,
    /// Of agents, who tire less easily than people.
    agents_asks: Starts,
    flight: Option<Flight>,
    /// For the way back to the safe setting.
    back: Pause,
    /// For everything else.
    away: Pause,
    last_id: u64,
    /// Why it goes back to its safe setting, until that was told.
    back_why: String,
    untold: u64,
}

impl Envelope {
    /// Begins: nothing is known of the device, so that it is brought to its safe setting first. Nothing is known of how often it was
    /// set in the life before either, so that its rate begins used up.
    pub fn new(limits: Limits, now_ns: MonoNs) -> Envelope {
        let starts = Starts::used_up(limits.rate.count, limits.rate.per_ms.saturating_mul(1_000_000), now_ns);
        Envelope {
            limits,
            known: Known::Nothing,
            holds_until_ns: None,
            claims: Claims::default(),
            toward: None,
            starts,
            asks: Starts::new(ASKS, ASKS_PER_NS),
            agents_asks: Starts::new(ASKS, ASKS_PER_NS),
            flight: None,
            back: Pause::default(),
            away: Pause::default(),
            last_id: 0,
            back_why: "the node has begun".to_owned(),
            untold: 0,
        }
    }

    /// The declared numbers.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether somebody's word is among those that stand or wait.
    pub fn is_held_by(&self, who: &Actor) -> bool {
        self.claims.has(who)
    }

    /// How it is.
    pub fn stand(&self, now_ns: MonoNs) -> Stand {
        let trouble = [&self.back, &self.away].into_iter().find(|pause| !pause.why.is_empty());
        Stand {
            at: match &self.known {
                Known::At(setting, _) => Some(setting.clone()),
                Known::Nothing => None,
            },
            toward: self.toward.clone(),
            holder: self.claims.top().map(|claim| (claim.who.clone(), Some(claim.until_ns))),
            may_act: self.may_act(now_ns),
            trouble: trouble.map(|pause| pause.why.clone()),
        }
    }

    /// When the next [`Event::Tick`] is due at the latest, after `now_ns`.
    pub fn wakes_ns(&self, now_ns: MonoNs) -> MonoNs {
        let most_ns = now_ns + 1_000_000_000;
        let moving = match (&self.flight, &self.toward, &self.known) {
            (None, Some(toward), Known::At(at, since_ns)) if toward != at => Some(since_ns + STEP_NS),
            _ => None,
        };
        let due = [moving, self.claims.first_end_ns(), self.holds_until_ns];
        due.into_iter().flatten().fold(most_ns, MonoNs::min).max(now_ns + 1_000_000)
    }

    /// Takes an event; gives what is to be done, in order.
    pub fn step(&mut self, event: Event, now_ns: MonoNs) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Ask(asked) => self.ask(asked, now_ns, &mut out),
            Event::Release { who, why } => {
                if let Some(claim) = self.claims.remove(&who) {
                    self.over(claim, &why, &mut out);
                }
            }
            Event::Interlock(holds) => {
                // A condition that was not judged for a lease does not hold.
                let fresh_ns = self.limits.lease_ms.saturating_mul(1_000_000);
                self.holds_until_ns = (holds == Some(true)).then(|| now_ns.saturating_add(fresh_ns));
            }
            Event::Wrote { id, read, took_ms } => self.wrote(id, read, took_ms, now_ns, &mut out),
            Event::Lapsed { why } => self.forget(&why, now_ns, &mut out),
            Event::Lost { why } => {
                self.forget(&why, now_ns, &mut out);
                self.back = Pause::default();
            }
            Event::Tick => {}
        }
        self.settle(now_ns, &mut out);
        out
    }

    /// Whether it may leave its safe setting as far as the interlock is concerned.
    fn may_act(&self, now_ns: MonoNs) -> bool {
        !self.limits.interlocked || self.holds_until_ns.is_some_and(|until_ns| now_ns < until_ns)
    }

    fn ask(&mut self, asked: Asked, now_ns: MonoNs, out: &mut Vec<Effect>) {
        let patient = asked.who.kind == ActorKind::Rule;
        let asks = match asked.who.kind {
            ActorKind::Agent => &mut self.agents_asks,
            ActorKind::Rule | ActorKind::Person | ActorKind::Node => &mut self.asks,
        };
        if !patient && !asks.may(now_ns) {
            self.untold += 1;
            let why = format!("it was asked {ASKS} times within a minute; ask less often");
            out.push(Effect::Tell(Told { remember: false, ..told(&asked, Outcome::Refused, why) }));
            return;
        }
        if !patient {
            asks.begin(now_ns);
        }
        let until_ns = match self.until_ns(&asked, now_ns) {
            Ok(until_ns) => until_ns,
            Err(why) => return self.refuse(&asked, why, out),
        };
        if let Some(claim) = self.claims.of(&asked.who)
            && claim.to == asked.to
        {
            claim.until_ns = until_ns;
            let ticket = asked.ticket;
            if ticket.is_some() {
                let (why, until_ns) = ("renewed".to_owned(), Some(until_ns));
                out.push(Effect::Tell(Told {
                    until_ns,
                    remember: false,
                    ..told(&asked, Outcome::Done, why)
                }));
            }
            return;
        }
        if !patient && let Err(why) = self.now(&asked, now_ns) {
            return self.refuse(&asked, why, out);
        }
        if self.claims.is_full(&asked.who) {
            return self.refuse(&asked, "too many ask for it at once".to_owned(), out);
        }
        if let Some(before) = self.claims.remove(&asked.who) {
            self.over(before, "asked for something else", out);
        }
        if asked.who.kind == ActorKind::Person {
            // The latest word of a person is the word of people.
            for before in self.claims.take_of(ActorKind::Person) {
                self.over(before, &format!("{} has taken over", asked.who), out);
            }
        }
        let Asked { who, to, why, ticket, .. } = asked;
        self.claims.insert(Claim { who, to, until_ns, why, ticket, told: None });
    }

    /// Until when an asking stands; the error is a refusal that time does not mend.
    fn until_ns(&self, asked: &Asked, now_ns: MonoNs) -> Result<MonoNs, String> {
        if asked.who.kind == ActorKind::Agent && !self.limits.agents {
            return Err("agents may not ask for it; its owner can let them, by `agents = true` in the flow"
                .to_owned());
        }
        self.limits.allowed.check(&asked.to)?;
        let most_ms = match asked.who.kind {
            ActorKind::Person => self.limits.longest_ms.max(self.limits.lease_ms),
            ActorKind::Rule | ActorKind::Agent => self.limits.lease_ms,
            ActorKind::Node => return Err("the node asks for nothing by itself".to_owned()),
        };
        match asked.for_ms.unwrap_or(self.limits.lease_ms) {
            0 => Err("it would stand for no time at all".to_owned()),
            for_ms if for_ms > most_ms => {
                let most_s = most_ms as f64 / 1e3;
                let kind = asked.who.kind.as_str();
                Err(format!("the word of a {kind} stands for at most {most_s} s; ask again before it ends"))
            }
            for_ms => Ok(now_ns.saturating_add(for_ms.saturating_mul(1_000_000))),
        }
    }

    /// Whether an asking could be done now; the error says what stands before it.
    fn now(&self, asked: &Asked, now_ns: MonoNs) -> Result<(), String> {
        if let Some(top) = self.claims.top().filter(|top| top.who != asked.who)
            && (top.who.kind > asked.who.kind
                || top.who.kind == asked.who.kind && asked.who.kind != ActorKind::Person)
        {
            return Err(format!("the word of {} stands: {}", top.who, top.to));
        }
        self.obstacle(&asked.to, now_ns).map_or(Ok(()), Err)
    }

    /// What keeps the device from being sent there, whoever asks.
    fn obstacle(&self, to: &Setting, now_ns: MonoNs) -> Option<String> {
        if *to == self.limits.safe {
            return None;
        }
        if !self.may_act(now_ns) {
            return Some("its interlock does not hold".to_owned());
        }
        if self.known == Known::Nothing && self.flight.is_none() || !self.back.why.is_empty() {
            let why = if self.back.why.is_empty() { "nothing is known of it yet" } else { &self.back.why };
            return Some(format!("its device is not ready: {why}"));
        }
        if now_ns < self.away.until_ns {
            return Some(format!("its device failed a moment ago: {}", self.away.why));
        }
        if self.toward.as_ref() != Some(to) && !self.starts.may(now_ns) {
            return Some(format!("its rate of {} is used up", self.limits.rate));
        }
        None
    }

    fn refuse(&mut self, asked: &Asked, why: String, out: &mut Vec<Effect>) {
        let untold = std::mem::take(&mut self.untold);
        out.push(Effect::Tell(Told { untold, ..told(asked, Outcome::Refused, why) }));
    }

    /// A word no longer stands.
    fn over(&mut self, claim: Claim, why: &str, out: &mut Vec<Effect>) {
        self.back_why = format!("{}: {why}", claim.who);
        let Claim { who, to, ticket, .. } = claim;
        let (outcome, why) = (Outcome::Over, why.to_owned());
        out.push(Effect::Tell(Told {
            who,
            asked: to,
            outcome,
            why,
            receipt: None,
            until_ns: None,
            ticket,
            remember: true,
            untold: std::mem::take(&mut self.untold),
        }));
    }

    /// Nothing certain is known of the device any more.
    fn forget(&mut self, why: &str, now_ns: MonoNs, out: &mut Vec<Effect>) {
        if let Some(Flight { by: Some(_), .. }) = self.flight.take() {
            // It may have reached the device just now.
            self.starts.late(now_ns);
        }
        (self.known, self.toward) = (Known::Nothing, None);
        for claim in self.claims.take_impatient(|_| true) {
            self.over(claim, why, out);
        }
        why.clone_into(&mut self.back_why);
    }

    fn wrote(
        &mut self,
        id: u64,
        read: Result<Option<Setting>, String>,
        took_ms: u64,
        now_ns: MonoNs,
        out: &mut Vec<Effect>,
    ) {
        let Some(Flight { to: set, by, .. }) = self.flight.take_if(|flight| flight.id == id) else { return };
        if by.is_some() {
            self.starts.late(now_ns);
        }
        let receipt = |read| Some(Receipt { set: set.clone(), read, took_ms });
        let (read, failed) = match read {
            Ok(Some(read)) if !self.limits.agrees(&set, &read) => {
                let failed = format!("it was set to {set} and says {read}");
                (Some(read), Some(failed))
            }
            Ok(read) => (read, None),
            Err(failed) => (None, Some(failed)),
        };
        let Some(failed) = failed else {
            self.known = Known::At(set.clone(), now_ns);
            self.back = Pause::default();
            match &by {
                Some(who) => {
                    self.away = Pause::default();
                    self.tell_claim(who, Outcome::Done, None, receipt(read), out);
                }
                None => {
                    let why = std::mem::take(&mut self.back_why);
                    if !why.is_empty() {
                        self.tell_node(Outcome::Done, why, receipt(read), out);
                    }
                }
            }
            return;
        };
        (self.known, self.toward) = (Known::Nothing, None);
        match by {
            Some(who) => {
                self.away.begin(now_ns, &failed);
                self.tell_claim(&who, Outcome::Failed, Some(failed.clone()), receipt(read), out);
                if who.kind != ActorKind::Rule {
                    // It was told; it does not come true later by surprise.
                    drop(self.claims.remove(&who));
                }
                self.back_why = format!("it failed: {failed}");
            }
            None => {
                let was_known = self.back.why == failed;
                self.back.begin(now_ns, &failed);
                let safe = self.limits.safe.clone();
                for claim in self.claims.take_impatient(|claim| claim.to != safe) {
                    self.over(claim, &format!("its device is not ready: {failed}"), out);
                }
                if !was_known {
                    self.tell_node(Outcome::Failed, failed, receipt(read), out);
                }
            }
        }
    }

    fn tell_node(&mut self, outcome: Outcome, why: String, receipt: Option<Receipt>, out: &mut Vec<Effect>) {
        out.push(Effect::Tell(Told {
            who: Actor { kind: ActorKind::Node, name: String::new() },
            asked: self.limits.safe.clone(),
            outcome,
            why,
            receipt,
            until_ns: None,
            ticket: None,
            remember: true,
            untold: std::mem::take(&mut self.untold),
        }));
    }

    /// Tells what came of a word, once. `why`: the asker's own if absent.
    fn tell_claim(
        &mut self,
        who: &Actor,
        outcome: Outcome,
        why: Option<String>,
        receipt: Option<Receipt>,
        out: &mut Vec<Effect>,
    ) {
        let untold = &mut self.untold;
        let Some(claim) = self.claims.of(who) else { return };
        let why = why.unwrap_or_else(|| claim.why.clone());
        let said = Some((outcome, why.clone()));
        if claim.told == said {
            return;
        }
        claim.told = said;
        let stands = outcome == Outcome::Done;
        out.push(Effect::Tell(Told {
            who: claim.who.clone(),
            asked: claim.to.clone(),
            outcome,
            why,
            receipt,
            until_ns: stands.then_some(claim.until_ns),
            ticket: claim.ticket.take(),
            remember: true,
            untold: std::mem::take(untold),
        }));
    }

    /// Ends what is over, and sends the device where it should be.
    fn settle(&mut self, now_ns: MonoNs, out: &mut Vec<Effect>) {
        for claim in self.claims.take_ended(now_ns) {
            self.over(claim, "the lease ran out", out);
        }
        self.holds_until_ns = self.holds_until_ns.filter(|until_ns| now_ns < *until_ns);
        if !self.may_act(now_ns) {
            let safe = self.limits.safe.clone();
            for claim in self.claims.take_impatient(|claim| claim.to != safe) {
                self.over(claim, "the interlock does not hold any more", out);
            }
        }
        let top = self.claims.top().map(|top| top.who.clone());
        if let Some(top) = top {
            for claim in self.claims.take_impatient(|claim| claim.who != top) {
                self.over(claim, &format!("{top} has taken over"), out);
            }
        }
        if self.flight.as_ref().is_some_and(|flight| now_ns.saturating_sub(flight.sent_ns) >= FLIGHT_NS) {
            self.forget("nothing was heard of a write", now_ns, out);
            out.push(Effect::Replace);
        }
        if self.flight.is_none() {
            self.move_on(now_ns, out);
        }
        self.tell_who_waits(now_ns, out);
    }

    /// Sends the device where it should be, if it is not there.
    fn move_on(&mut self, now_ns: MonoNs, out: &mut Vec<Effect>) {
        let top = self.claims.top().map(|top| (top.who.clone(), top.to.clone()));
        let away = top.as_ref().filter(|(_, to)| {
            *to != self.limits.safe
                && self.known != Known::Nothing
                && self.back.why.is_empty()
                && self.obstacle(to, now_ns).is_none()
        });
        let Some((who, to)) = away.cloned() else {
            self.toward = None;
            let is_there = matches!(&self.known, Known::At(at, _) if *at == self.limits.safe);
            match top {
                Some((who, to)) if is_there && to == self.limits.safe => {
                    self.tell_claim(&who, Outcome::Done, None, None, out);
                }
                _ if !is_there && now_ns >= self.back.until_ns => {
                    if let (true, Some((who, to))) = (self.back_why.is_empty(), &top) {
                        self.back_why = match *to == self.limits.safe {
                            true => format!("{who} asks for it"),
                            false => self.obstacle(to, now_ns).unwrap_or_default(),
                        };
                    }
                    self.send(self.limits.safe.clone(), None, now_ns, out);
                }
                _ => {}
            }
            return;
        };
        let Known::At(at, since_ns) = self.known.clone() else { return };
        if self.toward.as_ref() != Some(&to) {
            if at != to {
                self.starts.begin(now_ns);
            }
            self.toward = Some(to.clone());
        }
        if at == to {
            self.tell_claim(&who, Outcome::Done, None, None, out);
            return;
        }
        let next = match (self.limits.slew_per_s, &at, &to) {
            (Some(slew), Setting::Number(at), Setting::Number(to)) => {
                if now_ns.saturating_sub(since_ns) < STEP_NS {
                    return;
                }
                let far = slew * (STEP_NS as f64 / 1e9);
                Setting::Number(if (to - at).abs() <= far { *to } else { at + far.copysign(to - at) })
            }
            _ => to,
        };
        self.back_why.clear();
        self.send(next, Some(who), now_ns, out);
    }

    fn send(&mut self, to: Setting, by: Option<Actor>, now_ns: MonoNs, out: &mut Vec<Effect>) {
        self.last_id += 1;
        let id = self.last_id;
        self.flight = Some(Flight { id, to: to.clone(), sent_ns: now_ns, by });
        out.push(Effect::Write { id, to });
    }

    /// Tells rules that must stand back, once for each reason.
    fn tell_who_waits(&mut self, now_ns: MonoNs, out: &mut Vec<Effect>) {
        let top = self.claims.top().map(|top| top.who.clone());
        let waiting: Vec<(Actor, String)> = self
            .claims
            .patient()
            .filter_map(|claim| match &top {
                Some(top) if *top != claim.who => {
                    Some((claim.who.clone(), format!("the word of {top} stands")))
                }
                _ if self.flight.is_some() => None,
                _ => Some((claim.who.clone(), self.obstacle(&claim.to, now_ns)?)),
            })
            .collect();
        for (who, why) in waiting {
            self.tell_claim(&who, Outcome::Waits, Some(why), None, out);
        }
    }
}

/// What is told of an asking that has no claim.
fn told(asked: &Asked, outcome: Outcome, why: String) -> Told {
    Told {
        who: asked.who.clone(),
        asked: asked.to.clone(),
        outcome,
        why,
        receipt: None,
        until_ns: None,
        ticket: asked.ticket,
        remember: true,
        untold: 0,
    }
}
