//! The first station: readings come in, from wherever they are made.
//!
//! A source that blocks (a file, a simulation, later a bus) runs on a thread of its own and is supervised alone: if it
//! fails or panics it is marked failed, tried again after 1 s, 2 s … 5 min, and the rest of the node goes on. The HTTP
//! source has no thread: whoever has readings brings them to the local API.

pub mod bring;
mod child;
pub mod csv;
pub mod exec;
pub mod frame;
pub mod funnel;
mod gather;
pub mod http;
mod lines;
pub mod measure;
pub mod modbus;
mod moment;
pub mod mqtt;
pub mod opcua;
mod pace;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod payload;
pub mod pictures;
pub mod pump;
pub mod queue;
pub mod recording;
mod refusals;
pub mod replay;
pub mod serial;
pub mod simulated;
pub mod sound;
pub mod table;
pub mod tally;
pub mod time;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use wire::id::NodeId;

use crate::flow::source::{SourceConfig, SourceKind};
use crate::why::why;
use bring::{Source, SourceError};
use exec::Exec;
use modbus::Modbus;
use mqtt::MqttSource;
use opcua::client::Opcua;
use pictures::camera::Camera;
use pictures::folder::Images;
use pictures::rtsp::Rtsp;
use queue::{Event, Inlet, SourceState, Stopped};
use replay::Replay;
use serial::Serial;
use simulated::SimulatedPump;
use sound::Sound;

/// Makes a source that needs a thread; `None` for one that does not. `node`: whose it is; `data`: where it keeps what it must remember.
pub fn build(config: &SourceConfig, node: &NodeId, data: &Path) -> Option<Box<dyn Source>> {
    let declared = config.channels.as_deref();
    match &config.kind {
        SourceKind::Mqtt(settings) => {
            let usual = || format!("selvedge-{node}-{}", config.name);
            let client_id = settings.client_id.clone().unwrap_or_else(usual);
            Some(Box::new(MqttSource::new(settings.clone(), client_id, declared)))
        }
        SourceKind::Modbus(settings) => Some(Box::new(Modbus::new(settings.clone()))),
        SourceKind::Opcua(settings) => {
            let folder = data.join("opcua");
            Some(Box::new(Opcua::new(settings.clone(), node.as_str(), config.name.as_str(), &folder)))
        }
        SourceKind::Exec(settings) => Some(Box::new(Exec::new(settings.clone(), declared))),
        SourceKind::Serial(settings) => Some(Box::new(Serial::new(settings.clone(), declared))),
        SourceKind::Replay(replay) => Some(Box::new(Replay::new(replay.clone()))),
        SourceKind::Simulated(simulated) => Some(Box::new(SimulatedPump::new(simulated.clone()))),
        SourceKind::Images(settings) => Some(Box::new(Images::new(settings.clone(), data, &config.name))),
        SourceKind::Rtsp(settings) => Some(Box::new(Rtsp::new(settings.clone()))),
        SourceKind::Camera(settings) => Some(Box::new(Camera::new(settings.clone()))),
        SourceKind::Sound(settings) => Some(Box::new(Sound::new(settings.clone()))),
        SourceKind::Http => None,
    }
}

/// How long to wait before a source is tried again: doubled with each failure in a row.
#[derive(Debug, Clone, Copy)]
pub struct BackOff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer.
    pub longest: Duration,
}

impl Default for BackOff {
    fn default() -> BackOff {
        BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

impl BackOff {
    /// How many failures in a row it is now, after another run of so long: one that went well for ten times as long as the
    /// last wait begins anew.
    pub fn failures(self, before: u32, ran: Duration) -> u32 {
        let well = self.after(before.max(1)).saturating_mul(10).min(self.longest);
        if ran > well { 1 } else { before.saturating_add(1) }
    }

    /// The wait after so many failures in a row, at least one.
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }
}

/// Runs a source until it ends or the node stops. The body of its thread.
pub fn supervise(mut source: Box<dyn Source>, mut inlet: Inlet, back_off: BackOff) {
    let mut failures = 0;
    loop {
        let began_ns = inlet.clock().mono_ns();
        let reason = match catch_unwind(AssertUnwindSafe(|| source.run(&mut inlet))) {
            Ok(Ok(reason)) => {
                // If the node is stopping nobody needs to know.
                let _ = inlet.tell(Event::State { state: SourceState::Ended, reason });
                return;
            }
            Ok(Err(SourceError::Stopped(Stopped))) => return source.leave(&mut inlet),
            Ok(Err(error)) => why(&error),
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        let ran = Duration::from_nanos(inlet.clock().mono_ns().saturating_sub(began_ns));
        failures = back_off.failures(failures, ran);
        let wait = back_off.after(failures);
        let reason = format!("{reason}; tried again in {} s", wait.as_secs_f64());
        let told = inlet.tell(Event::State { state: SourceState::Failed, reason });
        if told.and_then(|()| inlet.pause(wait)).is_err() {
            return source.leave(&mut inlet);
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    use super::*;
    use csv::CsvError;
    use queue::{Batch, Outlet};
    use recording::RecordingError;
    use wire::world::System;

    /// Gives a reading, then panics, then fails, then comes to its end.
    struct Troubled(u32);

    impl Source for Troubled {
        fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
            self.0 += 1;
            inlet.send(Batch { t_ms: vec![i64::from(self.0)], values: vec![1.0] })?;
            match self.0 {
                1 => panic!("a bad sensor"),
                2 => {
                    let source = std::io::ErrorKind::NotFound.into();
                    Err(RecordingError::from(CsvError::Io { path: "f.csv".into(), source }).into())
                }
                _ => Ok("it is over".to_owned()),
            }
        }
    }

    #[test]
    fn a_source_that_panics_or_fails_is_tried_again() {
        let outlet = Outlet::new(1);
        let inlet = outlet.inlet(0, Box::new(System::new()));
        let back_off = BackOff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
        supervise(Box::new(Troubled(0)), inlet, back_off);
        let told: Vec<String> = std::iter::from_fn(|| outlet.next_now())
            .map(|arrival| match arrival.event {
                Event::Batch(batch) => format!("reading {}", batch.t_ms[0]),
                Event::State { state, reason } => format!("{}: {reason}", state.as_str()),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "reading 1",
                "failed: it panicked: a bad sensor; tried again in 0.001 s",
                "reading 2",
                "failed: f.csv: cannot be read: entity not found; tried again in 0.002 s",
                "reading 3",
                "ended: it is over",
            ]
        );
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let back_off = BackOff::default();
        let waits: Vec<u64> =
            [1, 2, 3, 9, 10, 1_000].map(|failures| back_off.after(failures).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
    }
}
