//! Turns what was sent (messages, lines of text) into readings on their way to the pipeline: read, dated, gathered, handed
//! over when there is room. What cannot be understood is counted, and told now and then with its reason.

use std::time::Duration;

use super::gather::Gather;
use super::moment::moment;
use super::payload::{Form, Reader, Sample};
use super::queue::{Batch, Event, Inlet, SourceState, Stopped};

/// Readings in one batch, at most; and values, so that a batch never needs more than half the allowance.
const BATCH_READINGS: usize = 256;
const BATCH_VALUES: usize = 1 << 14;

/// How payloads become readings.
#[derive(Debug, Clone, PartialEq)]
pub struct FunnelSettings {
    /// How payloads are written.
    pub form: Form,
    /// Values of so long a time become one reading; 0: each payload is one.
    pub gather_ms: i64,
    /// Larger payloads are refused.
    pub max_payload_bytes: usize,
}

/// What stands between payloads and the pipeline.
pub(crate) struct Funnel {
    settings: FunnelSettings,
    reader: Reader,
    gather: Option<Gather>,
    batch: Batch,
    samples: Vec<Sample>,
    refused: u64,
    misdated: u64,
}

impl Funnel {
    /// `declared`: channels that the flow names by themselves.
    pub(crate) fn new(settings: FunnelSettings, declared: Option<&[String]>) -> Funnel {
        let reader = Reader::new(settings.form.clone(), declared);
        let (batch, samples) = (Batch::default(), Vec::new());
        Funnel { settings, reader, gather: None, batch, samples, refused: 0, misdated: 0 }
    }

    /// Begins anew after a failure: what was not handed over is given up, for whoever sent it sends it again or never will.
    /// Says what the channels are, if they are known.
    pub(crate) fn begin(&mut self, waiting: String, inlet: &mut Inlet) -> Result<(), Stopped> {
        (self.gather, self.batch) = (None, Batch::default());
        match self.reader.channels() {
            Some(channels) => {
                self.gather = Some(Gather::new(channels.len(), self.settings.gather_ms));
                inlet.tell(Event::Opened { channels: channels.to_vec() })
            }
            None => inlet.tell(Event::State { state: SourceState::Waiting, reason: waiting }),
        }
    }

    /// Takes one payload. `place`: its topic, or what else says where it came from.
    pub(crate) fn take(&mut self, place: &str, payload: &[u8], inlet: &mut Inlet) -> Result<(), Stopped> {
        self.samples.clear();
        let most = self.settings.max_payload_bytes;
        let read = if payload.len() > most {
            Err(format!("it has {} bytes, the most is {most}", payload.len()))
        } else {
            self.reader.read(place, payload, &mut self.samples).map_err(|bad| bad.to_string())
        };
        match read {
            Ok(()) => self.arrange(inlet),
            Err(why) => self.refuse(place, &why, inlet),
        }
    }

    fn arrange(&mut self, inlet: &mut Inlet) -> Result<(), Stopped> {
        let Some(channels) = self.reader.channels() else { return Ok(()) };
        let gather = match &mut self.gather {
            Some(gather) => gather,
            None => {
                // The first payload has just said what the channels are.
                inlet.tell(Event::Opened { channels: channels.to_vec() })?;
                self.gather.insert(Gather::new(channels.len(), self.settings.gather_ms))
            }
        };
        let (now_ns, now_ms) = (inlet.clock().mono_ns(), inlet.clock().wall_ms());
        for sample in &self.samples {
            let (t_ms, misdated) = moment(sample.device_ms, now_ms);
            self.misdated += u64::from(misdated);
            if misdated && self.misdated == 1 {
                tracing::warn!(
                    "a device's clock cannot be believed: its readings get the time of their arrival"
                );
            }
            gather.push(t_ms, sample, now_ns, &mut self.batch);
        }
        Ok(())
    }

    /// Counts what cannot be used; the 1st, 10th, 100th … is told with its reason.
    pub(crate) fn refuse(&mut self, place: &str, why: &str, inlet: &mut Inlet) -> Result<(), Stopped> {
        self.refused += 1;
        inlet.set_refused(self.refused);
        if self.refused == 10u64.pow(self.refused.ilog10()) {
            let shown: String = place.chars().take(100).collect();
            let reason = format!("{} refused; the last, of {shown:?}: {why}", self.refused);
            let state = match self.reader.channels() {
                Some(_) => SourceState::Running,
                None => SourceState::Waiting,
            };
            inlet.tell(Event::State { state, reason })?;
        }
        Ok(())
    }

    /// Which reading, counted as [`Inlet::sent`] counts, is the last that what was taken has a part in.
    pub(crate) fn reaches(&self, inlet: &Inlet) -> u64 {
        let open = self.gather.as_ref().is_some_and(Gather::is_open);
        inlet.sent() + self.batch.t_ms.len() as u64 + u64::from(open)
    }

    /// Whether more fits into the batch.
    pub(crate) fn has_space(&self) -> bool {
        self.batch.t_ms.len() < BATCH_READINGS && self.batch.values.len() < BATCH_VALUES
    }

    /// Hands over what is there, if there is room; whether more can be taken.
    pub(crate) fn hand_over(&mut self, inlet: &mut Inlet) -> Result<bool, Stopped> {
        if self.gather.as_ref().is_some_and(|gather| gather.due(inlet.clock().mono_ns())) {
            self.close();
        }
        if self.batch.t_ms.is_empty() {
            return Ok(true);
        }
        if !inlet.has_room(self.batch.t_ms.len() + self.batch.values.len()) {
            return Ok(false);
        }
        inlet.send(std::mem::take(&mut self.batch))?;
        Ok(true)
    }

    /// When [`Funnel::hand_over`] must be called next because a reading is over, if one is under way.
    pub(crate) fn due(&self, inlet: &Inlet) -> Option<Duration> {
        let due_ns = self.gather.as_ref().and_then(Gather::due_ns)?;
        Some(Duration::from_nanos(due_ns.saturating_sub(inlet.clock().mono_ns())))
    }

    /// Ends the reading under way.
    pub(crate) fn close(&mut self) {
        if let Some(gather) = &mut self.gather {
            gather.close(&mut self.batch);
        }
    }
}
