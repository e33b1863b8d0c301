//! The ways by which readings come: a broker that keeps what is not acknowledged, a device that is polled, a program that brings
//! its readings to the local API. The node's ends of them are its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::plant::CHANNELS;
use crate::source::BackOff;
use crate::source::funnel::{Funnel, FunnelSettings};
use crate::source::http::{Form as Body, HttpSource};
use crate::source::payload::Form;
use crate::source::payload::place::Place;
use crate::source::queue::{Batch, Event, Inlet, SourceState};

/// Messages that a broker gives in a second.
const A_SECOND: usize = 200;

/// One reading: the plant's time, and what each sensor says; NaN: nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) wall_ms: i64,
    pub(super) values: [f64; 3],
}

impl Said {
    fn fields(&self) -> String {
        let there = CHANNELS.iter().zip(self.values).filter(|(_, value)| value.is_finite());
        there.map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>().join(",")
    }
}

/// A broker: what it keeps lives on when the node dies.
#[derive(Default)]
pub(super) struct Broker {
    kept: VecDeque<String>,
    /// How many of these it has given to whom it is connected with.
    given: usize,
}

impl Broker {
    pub(super) fn take(&mut self, said: &Said) {
        self.kept.push_back(format!("{{\"at\":{},{}}}", said.wall_ms, said.fields()));
    }
}

/// How often a source was tried, as `source::supervise` does it.
struct Tries {
    failures: u32,
    began_s: u64,
    again_s: u64,
    /// Whether it is tried again at all.
    any: bool,
}

impl Tries {
    fn new(any: bool) -> Tries {
        Tries { failures: 0, began_s: 0, again_s: 0, any }
    }

    fn fail(&mut self, reason: &str, now_s: u64, inlet: &mut Inlet) {
        let back_off = BackOff::default();
        self.failures = back_off.failures(self.failures, Duration::from_secs(now_s - self.began_s));
        let wait = back_off.after(self.failures);
        self.again_s = if self.any { now_s + wait.as_secs().max(1) } else { u64::MAX };
        let reason = format!("{reason}; tried again in {} s", wait.as_secs_f64());
        inlet.tell(Event::State { state: SourceState::Failed, reason }).unwrap();
    }
}

/// The node's end of the broker.
pub(super) struct Listener {
    inlet: Inlet,
    funnel: Funnel,
    waiting: VecDeque<u64>,
    connected: bool,
    tries: Tries,
}

impl Listener {
    pub(super) fn new(inlet: Inlet, tries: bool) -> Listener {
        let place = |name: &&str| ((*name).to_owned(), Place::read(name).unwrap());
        let form = Form::Json {
            values: CHANNELS.iter().map(place).collect(),
            time: Some(Place::read("at").unwrap()),
        };
        let settings = FunnelSettings { form, gather_ms: 0, max_payload_bytes: 1 << 16 };
        let funnel = Funnel::new(settings, None);
        Listener { inlet, funnel, waiting: VecDeque::new(), connected: false, tries: Tries::new(tries) }
    }

    /// A second: connects if it can, takes what the broker gives.
    pub(super) fn second(&mut self, now_s: u64, is_up: bool, broker: &mut Broker) {
        if self.connected && !is_up {
            self.connected = false;
            self.tries.fail("the broker is gone", now_s, &mut self.inlet);
        }
        if !self.connected {
            if now_s < self.tries.again_s {
                return;
            }
            self.tries.began_s = now_s;
            if !is_up {
                return self.tries.fail("the broker cannot be reached", now_s, &mut self.inlet);
            }
            self.connected = true;
            // What was given and not acknowledged is given again.
            broker.given = 0;
            self.waiting.clear();
            self.funnel.begin("the broker is reached".to_owned(), &mut self.inlet).unwrap();
        }
        for payload in broker.kept.iter().skip(broker.given).take(A_SECOND) {
            if !self.funnel.has_space() {
                break;
            }
            self.funnel.take("plant/line", payload.as_bytes(), &mut self.inlet).unwrap();
            self.waiting.push_back(self.funnel.reaches(&self.inlet));
            broker.given += 1;
        }
        self.funnel.hand_over(&mut self.inlet).unwrap();
    }

    /// Acknowledges what is settled.
    pub(super) fn acknowledge(&mut self, broker: &mut Broker) {
        while self.waiting.front().is_some_and(|needs| *needs <= self.inlet.settled()) {
            self.waiting.pop_front();
            broker.kept.pop_front();
            broker.given -= 1;
        }
    }
}

/// The node's end of a device that is polled.
pub(super) struct Poller {
    inlet: Inlet,
    is_open: bool,
    tries: Tries,
}

impl Poller {
    pub(super) fn new(inlet: Inlet, tries: bool) -> Poller {
        Poller { inlet, is_open: false, tries: Tries::new(tries) }
    }

    /// Polls once, if it is not waiting to be tried again.
    pub(super) fn poll(&mut self, now_s: u64, is_up: bool, said: &Said) {
        if !self.is_open && now_s < self.tries.again_s {
            return;
        }
        if !is_up {
            self.is_open = false;
            return self.tries.fail("the device does not answer", now_s, &mut self.inlet);
        }
        if !self.is_open {
            (self.is_open, self.tries.began_s) = (true, now_s);
            let channels = CHANNELS.map(str::to_owned).to_vec();
            self.inlet.tell(Event::Opened { channels }).unwrap();
        }
        // Dated by the node, as a device without a clock is.
        let batch = Batch { t_ms: vec![self.inlet.clock().wall_ms()], values: said.values.to_vec() };
        self.inlet.offer(batch).unwrap();
    }
}

/// A program brings a reading, without a time.
pub(super) fn bring(source: &Arc<Mutex<HttpSource>>, said: &Said, now_ms: i64) {
    let body = format!("{{\"values\":{{{}}}}}", said.fields());
    source.lock().unwrap().take(Body::Json, body.as_bytes(), now_ms).unwrap();
}
