//! Who has a seat at the relay's door, for how long, and how fast what goes over the line may go on: decided purely.
//!
//! A connection takes a seat when it comes. Until it has shown the token and asked for something it is a stranger, and
//! leaves soon; when all seats are taken, the stranger that came first makes room for whoever comes. One in use stays as long
//! as something moves. No address has more than its share, so one that opens connections for fun keeps nobody else out.
//!
//! Whether the hub can be reached is told by what comes back through tunnels: that something on the way took a connection says nothing,
//! and whoever wants to come in speaks first and must be answered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::world::MonoNs;

use crate::pace::Pace;

/// So many addresses are remembered beside those that have a seat.
pub const PEERS_MAX: usize = 256;

/// Who came within this time is not sent away for another: what it says may be on its way.
const GRACE_NS: MonoNs = 250_000_000;

/// A far end that has said nothing to what it was told for so long is no hub that can be reached; a handshake over a slow line takes
/// a second or two.
const ANSWER_NS: MonoNs = 10_000_000_000;

/// What connections may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most at a time.
    pub seats: usize,
    /// The most from one address.
    pub per_address: usize,
    /// How long one may stay without being in use.
    pub opening_ns: MonoNs,
    /// How long one in use may stay while nothing moves.
    pub idle_ns: MonoNs,
    /// The most bytes a second over the line.
    pub bytes_per_s: Option<u64>,
}

/// A connection's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody connected from this address.
    Came(IpAddr),
    /// It showed that it may be here, and is in use from now on.
    Used(Seat),
    /// What it asked for is answered; it may ask again.
    Rests(Seat),
    /// A way to the hub was asked for, and opened or did not.
    Tried {
        /// By whom.
        seat: Seat,
        /// Whether it opened.
        opened: bool,
    },
    /// The far end of its tunnel has said all, or broke.
    Ended(Seat),
    /// Bytes went through its tunnel, so over the line: towards the hub, and back.
    Carried {
        /// Whose.
        seat: Seat,
        /// Towards the hub.
        up: u64,
        /// Back.
        down: u64,
    },
    /// Bytes of the cache went to it.
    Given {
        /// To whom.
        seat: Seat,
        /// How many.
        bytes: u64,
    },
    /// Bytes came over the line for the cache.
    Brought(u64),
    /// It was told no.
    Refused(Refusal),
    /// It is gone.
    Left(Seat),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It has this seat.
    Admit(Seat),
    /// Close it without a word.
    TurnAway,
    /// End a connection.
    Close(Seat),
    /// Go on with this after so long.
    Wait(MonoNs),
}

/// Why somebody did not get what it wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// All seats were taken, by connections in use.
    Full,
    /// Its address had its share.
    Share,
    /// It showed no token, or another.
    Token,
    /// It wanted to go elsewhere than to our hub, or asked for what there is not.
    Target,
    /// The hub could not be reached for it.
    NoHub,
}

/// How often somebody was refused, since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// All seats were taken.
    pub full: u64,
    /// Its address had its share.
    pub share: u64,
    /// No token, or another.
    pub token: u64,
    /// A wish that is none of ours.
    pub target: u64,
    /// The hub could not be reached.
    pub no_hub: u64,
}

/// What there was in all, since the node began; of addresses that were forgotten, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that got a seat.
    pub connections: u64,
    /// Tunnels that opened.
    pub tunnels: u64,
    /// Bytes through tunnels towards the hub.
    pub up_bytes: u64,
    /// Bytes through tunnels back.
    pub down_bytes: u64,
    /// Bytes that the cache gave.
    pub cache_bytes: u64,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its connections.
    pub seats: usize,
    /// What it sent towards the hub.
    pub up_bytes: u64,
    /// What came back for it.
    pub down_bytes: u64,
    /// What it got from the cache.
    pub cache_bytes: u64,
    /// When it was last heard of.
    pub last_ns: MonoNs,
}

#[derive(Debug, Clone, Copy)]
struct Sitting {
    peer: IpAddr,
    is_used: bool,
    /// When it came, rested, or something moved last.
    since_ns: MonoNs,
    answer: Answer,
}

/// What is known of the far end of a seat's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// There is no tunnel, or it was told already what came of it.
    Settled,
    /// It opened, and nothing was said.
    Open,
    /// It was told something then, and has not answered.
    Awaited { since_ns: MonoNs },
}

/// All seats, and who was here.
#[derive(Debug, Clone)]
pub struct Gate {
    limits: Limits,
    next: u64,
    seats: BTreeMap<Seat, Sitting>,
    peers: BTreeMap<IpAddr, Peer>,
    refused: Refused,
    totals: Totals,
    /// When it was last seen whether the hub can be reached, and whether it could.
    tried: Option<(MonoNs, bool)>,
    pace: Pace,
}

impl Gate {
    /// Nobody is here.
    pub fn new(limits: Limits) -> Gate {
        let pace = Pace::new(limits.bytes_per_s);
        Gate {
            limits,
            next: 0,
            seats: BTreeMap::new(),
            peers: BTreeMap::new(),
            refused: Refused::default(),
            totals: Totals::default(),
            tried: None,
            pace,
        }
    }

    /// What follows from an event.
    pub fn step(&mut self, event: Event, now: MonoNs) -> Vec<Effect> {
        match event {
            Event::Came(peer) => self.came(peer, now),
            Event::Used(seat) => self.set(seat, true, now),
            Event::Rests(seat) => self.set(seat, false, now),
            Event::Tried { seat, opened } => {
                self.totals.tunnels = self.totals.tunnels.saturating_add(u64::from(opened));
                match (opened, self.seats.get_mut(&seat)) {
                    (false, _) => self.tried = Some((now, false)),
                    (true, Some(sitting)) => sitting.answer = Answer::Open,
                    (true, None) => {}
                }
                Vec::new()
            }
            Event::Ended(seat) => {
                let answer = self.seats.get_mut(&seat).map(|sitting| &mut sitting.answer);
                if answer.is_some_and(|answer| std::mem::replace(answer, Answer::Settled) != Answer::Settled)
                {
                    self.tried = Some((now, false));
                }
                Vec::new()
            }
            Event::Carried { seat, up, down } => {
                self.totals.up_bytes = self.totals.up_bytes.saturating_add(up);
                self.totals.down_bytes = self.totals.down_bytes.saturating_add(down);
                self.moved(seat, now, |peer| {
                    peer.up_bytes = peer.up_bytes.saturating_add(up);
                    peer.down_bytes = peer.down_bytes.saturating_add(down);
                });
                self.heard(seat, up, down, now);
                self.wait(up.saturating_add(down), now)
            }
            Event::Given { seat, bytes } => {
                self.totals.cache_bytes = self.totals.cache_bytes.saturating_add(bytes);
                self.moved(seat, now, |peer| peer.cache_bytes = peer.cache_bytes.saturating_add(bytes));
                Vec::new()
            }
            Event::Brought(bytes) => self.wait(bytes, now),
            Event::Refused(refusal) => {
                self.count(refusal);
                Vec::new()
            }
            Event::Left(seat) => {
                self.leave(seat, now);
                Vec::new()
            }
            Event::Tick => self.tick(now),
        }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.seats.len()
    }

    /// Whose connections, and what they moved.
    pub fn peers(&self) -> &BTreeMap<IpAddr, Peer> {
        &self.peers
    }

    /// How often somebody was refused.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// What there was in all.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// When it was last seen whether the hub can be reached, and whether it could: its bytes came back, or a tunnel did not open, or
    /// one opened and was never answered. `None`: nobody tried.
    pub fn tried(&self) -> Option<(MonoNs, bool)> {
        self.tried
    }

    fn came(&mut self, peer: IpAddr, now: MonoNs) -> Vec<Effect> {
        let peer = peer.to_canonical();
        if self.peers.get(&peer).is_some_and(|peer| peer.seats >= self.limits.per_address) {
            self.count(Refusal::Share);
            return vec![Effect::TurnAway];
        }
        let mut effects = Vec::new();
        if self.seats.len() >= self.limits.seats {
            let strangers = self.seats.iter().filter(|(_, sitting)| !sitting.is_used);
            let first = strangers.min_by_key(|(_, sitting)| sitting.since_ns);
            let first = first.filter(|(_, sitting)| now.saturating_sub(sitting.since_ns) >= GRACE_NS);
            let Some(seat) = first.map(|(seat, _)| *seat) else {
                self.count(Refusal::Full);
                return vec![Effect::TurnAway];
            };
            self.leave(seat, now);
            effects.push(Effect::Close(seat));
        }
        self.forget(&peer);
        let seat = Seat(self.next);
        self.next += 1;
        self.totals.connections = self.totals.connections.saturating_add(1);
        self.seats.insert(seat, Sitting { peer, is_used: false, since_ns: now, answer: Answer::Settled });
        let known = self.peers.entry(peer).or_default();
        (known.seats, known.last_ns) = (known.seats + 1, now);
        effects.push(Effect::Admit(seat));
        effects
    }

    /// Makes room among the addresses for one more.
    fn forget(&mut self, coming: &IpAddr) {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(coming) {
            return;
        }
        let gone = self.peers.iter().filter(|(_, peer)| peer.seats == 0);
        if let Some(oldest) = gone.min_by_key(|(_, peer)| peer.last_ns).map(|(address, _)| *address) {
            self.peers.remove(&oldest);
        }
    }

    fn set(&mut self, seat: Seat, is_used: bool, now: MonoNs) -> Vec<Effect> {
        match self.seats.get_mut(&seat) {
            Some(sitting) => {
                (sitting.is_used, sitting.since_ns) = (is_used, now);
                Vec::new()
            }
            // It was to go before it said so.
            None => vec![Effect::Close(seat)],
        }
    }

    fn moved(&mut self, seat: Seat, now: MonoNs, count: impl FnOnce(&mut Peer)) {
        let Some(sitting) = self.seats.get_mut(&seat) else { return };
        sitting.since_ns = now;
        if let Some(peer) = self.peers.get_mut(&sitting.peer) {
            peer.last_ns = now;
            count(peer);
        }
    }

    /// What a tunnel carried says of its far end. What comes back says it of tunnels that stood still meanwhile as well.
    fn heard(&mut self, seat: Seat, up: u64, down: u64, now: MonoNs) {
        let Some(sitting) = self.seats.get_mut(&seat) else { return };
        if down > 0 {
            sitting.answer = Answer::Settled;
            self.tried = Some((now, true));
        } else if up > 0 && sitting.answer == Answer::Open {
            sitting.answer = Answer::Awaited { since_ns: now };
        }
    }

    fn wait(&mut self, bytes: u64, now: MonoNs) -> Vec<Effect> {
        match self.pace.wait_ns(bytes, now) {
            0 => Vec::new(),
            wait_ns => vec![Effect::Wait(wait_ns)],
        }
    }

    fn leave(&mut self, seat: Seat, now: MonoNs) {
        let Some(sitting) = self.seats.remove(&seat) else { return };
        if matches!(sitting.answer, Answer::Awaited { .. }) {
            self.tried = Some((now, false));
        }
        if let Some(peer) = self.peers.get_mut(&sitting.peer) {
            (peer.seats, peer.last_ns) = (peer.seats.saturating_sub(1), now);
        }
    }

    fn tick(&mut self, now: MonoNs) -> Vec<Effect> {
        for sitting in self.seats.values_mut() {
            match sitting.answer {
                Answer::Awaited { since_ns } if now.saturating_sub(since_ns) >= ANSWER_NS => {
                    sitting.answer = Answer::Settled;
                    self.tried = Some((now, false));
                }
                _ => {}
            }
        }
        let Limits { opening_ns, idle_ns, .. } = self.limits;
        let is_over = |sitting: &Sitting| {
            let patience_ns = if sitting.is_used { idle_ns } else { opening_ns };
            now.saturating_sub(sitting.since_ns) >= patience_ns
        };
        let over: Vec<Seat> =
            self.seats.iter().filter(|(_, sitting)| is_over(sitting)).map(|(seat, _)| *seat).collect();
        over.iter().for_each(|seat| self.leave(*seat, now));
        over.into_iter().map(Effect::Close).collect()
    }

    fn count(&mut self, refusal: Refusal) {
        let refused = &mut self.refused;
        let count = match refusal {
            Refusal::Full => &mut refused.full,
            Refusal::Share => &mut refused.share,
            Refusal::Token => &mut refused.token,
            Refusal::Target => &mut refused.target,
            Refusal::NoHub => &mut refused.no_hub,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: MonoNs = 1_000_000_000;

    fn limits(seats: usize, per_address: usize) -> Limits {
        let (opening_ns, idle_ns) = (10 * SECOND_NS, 900 * SECOND_NS);
        Limits { seats, per_address, opening_ns, idle_ns, bytes_per_s: None }
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn admitted(effects: &[Effect]) -> Option<Seat> {
        effects.iter().find_map(|effect| match effect {
            Effect::Admit(seat) => Some(*seat),
            _ => None,
        })
    }

    #[test]
    fn strangers_make_room_and_those_in_use_stay() {
        let mut gate = Gate::new(limits(2, 2));
        let stranger = admitted(&gate.step(Event::Came(from(1)), 0)).unwrap();
        let used = admitted(&gate.step(Event::Came(from(1)), 1)).unwrap();
        gate.step(Event::Used(used), 2);
        assert_eq!(gate.step(Event::Came(from(1)), 3), [Effect::TurnAway], "its share");
        assert_eq!(gate.step(Event::Came(from(2)), 3), [Effect::TurnAway], "a moment ago");
        let effects = gate.step(Event::Came(from(2)), GRACE_NS);
        assert_eq!(effects[0], Effect::Close(stranger));
        let other = admitted(&effects).unwrap();
        gate.step(Event::Used(other), GRACE_NS);
        assert_eq!(gate.step(Event::Came(from(3)), 800 * SECOND_NS), [Effect::TurnAway], "all in use");
        assert_eq!(gate.refused(), Refused { full: 2, share: 1, ..Refused::default() });
        // What was said before it heard that it has to go.
        assert_eq!(gate.step(Event::Used(stranger), GRACE_NS), [Effect::Close(stranger)]);
        gate.step(Event::Carried { seat: used, up: 3, down: 4 }, 800 * SECOND_NS);
        assert_eq!(gate.step(Event::Tick, 901 * SECOND_NS), [Effect::Close(other)], "nothing moved in it");
        gate.step(Event::Rests(used), 901 * SECOND_NS);
        assert_eq!(gate.step(Event::Tick, 911 * SECOND_NS), [Effect::Close(used)], "it said nothing more");
        let one = gate.peers()[&from(1)];
        assert_eq!((one.seats, one.up_bytes, one.down_bytes), (0, 3, 4));
        assert_eq!(gate.open(), 0);
        let all = Totals { connections: 3, up_bytes: 3, down_bytes: 4, ..Totals::default() };
        assert_eq!(gate.totals(), all, "who was turned away is none");
    }

    #[test]
    fn what_forgotten_addresses_moved_stays_counted() {
        let mut gate = Gate::new(limits(2, 2));
        assert_eq!(gate.tried(), None);
        for at in 0..PEERS_MAX as u32 + 1 {
            let seat = admitted(&gate.step(Event::Came(IpAddr::from(Ipv4Addr::from(at))), 0)).unwrap();
            gate.step(Event::Tried { seat, opened: at > 0 }, at.into());
            gate.step(Event::Carried { seat, up: 2, down: 3 }, at.into());
            gate.step(Event::Given { seat, bytes: 5 }, 0);
            gate.step(Event::Left(seat), at.into());
            // A last piece may be told after its connection ended.
            gate.step(Event::Carried { seat, up: 0, down: 1 }, 0);
        }
        let (all, tunnels) = (PEERS_MAX as u64 + 1, PEERS_MAX as u64);
        let (up_bytes, down_bytes, cache_bytes) = (2 * all, 4 * all, 5 * all);
        assert_eq!(gate.totals(), Totals { connections: all, tunnels, up_bytes, down_bytes, cache_bytes });
        assert_eq!(gate.tried(), Some((PEERS_MAX as u64, true)));
        assert!(!gate.peers().contains_key(&IpAddr::from(Ipv4Addr::from(0))));
    }

    #[test]
    fn the_hub_is_reached_when_it_answers_and_not_when_something_on_the_way_opens() {
        // What happens to one tunnel a second apart, and what is known after each.
        let check = |what: &str, happens: &[(&str, Option<bool>)]| {
            let mut gate = Gate::new(limits(2, 2));
            let seat = admitted(&gate.step(Event::Came(from(1)), 0)).unwrap();
            gate.step(Event::Used(seat), 0);
            let mut now = 0;
            for (event, expected) in happens {
                now += SECOND_NS;
                let event = match *event {
                    "opens" => Event::Tried { seat, opened: true },
                    "does not open" => Event::Tried { seat, opened: false },
                    "up" => Event::Carried { seat, up: 300, down: 0 },
                    "down" => Event::Carried { seat, up: 0, down: 1200 },
                    "ends" => Event::Ended(seat),
                    "leaves" => Event::Left(seat),
                    "ten seconds" => {
                        now += ANSWER_NS;
                        Event::Tick
                    }
                    "a moment" => Event::Tick,
                    other => panic!("{other}"),
                };
                gate.step(event, now);
                let known = gate.tried();
                assert_eq!(known.map(|(_, reached)| reached), *expected, "{what}: after {event:?}");
                assert!(known.is_none_or(|(at, _)| at <= now), "{what}");
            }
        };
        let (yes, no) = (Some(true), Some(false));
        check("it does not open", &[("does not open", no), ("leaves", no)]);
        check(
            "it is answered, and ends as tunnels do",
            &[("opens", None), ("up", None), ("down", yes), ("up", yes), ("ends", yes), ("leaves", yes)],
        );
        check("it breaks before an answer", &[("opens", None), ("up", None), ("leaves", no)]);
        check(
            "its far end breaks before anything was said",
            &[("opens", None), ("ends", no), ("leaves", no)],
        );
        check("who came said nothing", &[("opens", None), ("a moment", None), ("leaves", None)]);
        check("it is silent", &[("opens", None), ("up", None), ("a moment", None), ("ten seconds", no)]);
        check("it answers late", &[("opens", None), ("up", None), ("ten seconds", no), ("down", yes)]);
        check(
            "a call that is held is no silence",
            &[("opens", None), ("up", None), ("down", yes), ("up", yes), ("ten seconds", yes)],
        );
    }

    #[test]
    fn a_tunnel_that_goes_on_after_others_failed_says_that_the_hub_is_there() {
        let mut gate = Gate::new(limits(2, 2));
        let old = admitted(&gate.step(Event::Came(from(1)), 0)).unwrap();
        gate.step(Event::Tried { seat: old, opened: true }, 0);
        gate.step(Event::Carried { seat: old, up: 1, down: 1 }, 1);
        let new = admitted(&gate.step(Event::Came(from(2)), 2)).unwrap();
        gate.step(Event::Tried { seat: new, opened: false }, 3);
        assert_eq!(gate.tried(), Some((3, false)));
        gate.step(Event::Carried { seat: old, up: 0, down: 1 }, 4);
        assert_eq!(gate.tried(), Some((4, true)));
    }

    #[test]
    fn addresses_are_forgotten_the_oldest_first() {
        let mut gate = Gate::new(limits(4, 4));
        for at in 0..2 * PEERS_MAX as u32 {
            let peer = IpAddr::from(Ipv4Addr::from(at));
            let seat = admitted(&gate.step(Event::Came(peer), at.into())).unwrap();
            gate.step(Event::Left(seat), at.into());
        }
        assert_eq!(gate.peers().len(), PEERS_MAX);
        assert!(gate.peers().contains_key(&IpAddr::from(Ipv4Addr::from(2 * PEERS_MAX as u32 - 1))));
    }

    fn events() -> impl Strategy<Value = Vec<(u8, u8, u64, u64)>> {
        // What, who, how many bytes, how much later.
        prop::collection::vec((0_u8..8, 0_u8..40, 0_u64..200_000, 0_u64..3 * SECOND_NS), 1..400)
    }

    proptest! {
        #[test]
        fn whatever_happens_no_limit_is_broken(
            events in events(), seats in 1_usize..12, per_address in 1_usize..6, rate in 10_000_u64..1_000_000,
        ) {
            let limits = Limits { bytes_per_s: Some(rate), idle_ns: 30 * SECOND_NS, ..limits(seats, per_address) };
            let mut gate = Gate::new(limits);
            let mut now = 7 * SECOND_NS;
            // What the loop around it would know: who has a seat, and since when nothing moved there.
            let mut open: BTreeMap<Seat, (IpAddr, MonoNs, bool)> = BTreeMap::new();
            let (mut paid_ns, mut bytes_of_all) = (now, 0_u128);
            for (what, who, bytes, later) in events {
                now += later;
                let seat = open.keys().nth(usize::from(who) % open.len().max(1)).copied();
                let event = match (what, seat) {
                    (0..=2, _) | (_, None) => Event::Came(from(who)),
                    (3, Some(seat)) => Event::Used(seat),
                    (4, Some(seat)) => Event::Rests(seat),
                    (5, Some(seat)) => Event::Carried { seat, up: bytes / 3, down: bytes - bytes / 3 },
                    (6, Some(seat)) => Event::Left(seat),
                    (_, Some(_)) => Event::Tick,
                };
                let effects = gate.step(event, now);
                match event {
                    Event::Used(seat) => *open.get_mut(&seat).unwrap() = (open[&seat].0, now, true),
                    Event::Rests(seat) => *open.get_mut(&seat).unwrap() = (open[&seat].0, now, false),
                    Event::Carried { seat, .. } => {
                        open.get_mut(&seat).unwrap().1 = now;
                        bytes_of_all += u128::from(bytes);
                        let waits_ns = effects.iter().find_map(|effect| match effect {
                            Effect::Wait(ns) => Some(*ns),
                            _ => None,
                        });
                        paid_ns = paid_ns.max(now + waits_ns.unwrap_or(0));
                    }
                    Event::Left(seat) => drop(open.remove(&seat)),
                    _ => {}
                }
                for effect in &effects {
                    match effect {
                        Effect::Close(seat) => {
                            let (_, since, used) = open.remove(seat).unwrap();
                            let patience = if used { limits.idle_ns } else { limits.opening_ns };
                            let made_room = matches!(event, Event::Came(_)) && !used;
                            prop_assert!(made_room || now - since >= patience, "nobody leaves too early");
                        }
                        Effect::Admit(seat) => {
                            let Event::Came(peer) = event else { panic!("nobody came") };
                            prop_assert!(open.insert(*seat, (peer, now, false)).is_none(), "a seat is one's own");
                        }
                        Effect::TurnAway | Effect::Wait(_) => {}
                    }
                }
                prop_assert_eq!(gate.open(), open.len());
                prop_assert!(open.len() <= seats);
                let mut shares: BTreeMap<IpAddr, usize> = BTreeMap::new();
                open.values().for_each(|(peer, ..)| *shares.entry(*peer).or_default() += 1);
                prop_assert!(shares.values().all(|share| *share <= per_address), "{:?}", shares);
                for (peer, known) in gate.peers() {
                    prop_assert_eq!(known.seats, shares.get(peer).copied().unwrap_or(0));
                }
                if event == Event::Tick {
                    let over: BTreeSet<Seat> = open
                        .iter()
                        .filter(|(_, (_, since, used))| {
                            now - since >= if *used { limits.idle_ns } else { limits.opening_ns }
                        })
                        .map(|(seat, _)| *seat)
                        .collect();
                    prop_assert!(over.is_empty(), "{:?} stay too long", over);
                }
            }
            // Whoever waits as it is told keeps the rate, but for one bucket.
            let took_ns = u128::from(paid_ns - 7 * SECOND_NS) + u128::from(SECOND_NS / 4);
            prop_assert!(bytes_of_all * u128::from(SECOND_NS) <= (took_ns + 1_000) * u128::from(rate) + 400 * u128::from(rate));
        }
    }
}
