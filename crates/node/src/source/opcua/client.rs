//! A source that listens to variables of an OPC UA server.
//!
//! The server samples, and sends at each interval what changed, or that nothing did; `Hold` makes a reading of each message. A
//! variable whose status is not good, or that holds no number, is missing until it is well again, and counted with the server's own word.
//!
//! While the node has no room, nothing is read from the connection: the server holds back, and says so if it had to drop
//! values. What happens while there is no connection is lost: a new subscription begins with what is true then.

use std::path::Path;
use std::time::Duration;

use opcua::types::{DataValue, StatusCode};
use tokio::time::sleep;

use super::hold::{Came, Change, Hold};
use super::line::{Caller, Heard, Line};
use super::settings::OpcuaSettings;
use super::value;
use crate::source::bring::{Source, SourceError};
use crate::source::child::stopped;
use crate::source::queue::{Batch, Event, Inlet, SourceState, Stopped};
use crate::source::refusals::Refusals;

/// Listens.
pub struct Opcua {
    settings: OpcuaSettings,
    caller: Caller,
    hold: Hold,
    batch: Batch,
    refusals: Refusals,
    misdated: bool,
}

impl Opcua {
    /// A source. `node`, `name`: who asks; `folder`: where certificates are kept.
    pub fn new(settings: OpcuaSettings, node: &str, name: &str, folder: &Path) -> Opcua {
        let hold = Hold::new(settings.nodes.len());
        let caller = Caller { node: node.to_owned(), source: name.to_owned(), folder: folder.to_path_buf() };
        Opcua {
            settings,
            caller,
            hold,
            batch: Batch::default(),
            refusals: Refusals::default(),
            misdated: false,
        }
    }

    async fn watch(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let reason = format!("{} is called", self.settings.endpoint);
        inlet.tell(Event::State { state: SourceState::Waiting, reason })?;
        let now_ms = inlet.clock().wall_ms();
        let called = tokio::select! {
            biased;
            () = stopped(inlet) => return Err(Stopped.into()),
            called = Line::open(&self.settings, &self.caller, now_ms) => called,
        };
        let mut line = called.map_err(SourceError::Outside)?;
        let ended = self.listen(&mut line, inlet).await;
        line.leave().await;
        ended
    }

    async fn listen(&mut self, line: &mut Line, inlet: &mut Inlet) -> Result<String, SourceError> {
        self.hold.begin();
        self.batch = Batch::default();
        let channels = self.settings.nodes.iter().map(|(channel, _)| channel.clone()).collect();
        inlet.tell(Event::Opened { channels })?;
        for (channel, status) in std::mem::take(&mut line.refused) {
            let node = &self.settings.nodes[channel].1;
            self.refuse(
                channel,
                &format!("the server does not give {node}: {}", value::name(status)),
                inlet,
            )?;
        }
        let silence = self.settings.silence.max(line.beat.saturating_mul(3));
        let mut last_ns = inlet.clock().mono_ns();
        loop {
            if inlet.stopping() {
                return Err(Stopped.into());
            }
            let room = self.hand_over(inlet)?;
            let now_ns = inlet.clock().mono_ns();
            if !room {
                // Nobody listens, so nobody is silent.
                last_ns = now_ns;
            }
            let since = Duration::from_nanos(now_ns.saturating_sub(last_ns));
            let Some(left) = silence.checked_sub(since) else {
                let message = format!("the server said nothing for {} s", silence.as_secs_f64());
                return Err(SourceError::Outside(message));
            };
            tokio::select! {
                biased;
                stepped = line.step(), if room => stepped.map_err(SourceError::Outside)?,
                () = inlet.stirred() => {}
                () = sleep(left) => {}
            }
            for heard in line.heard() {
                last_ns = inlet.clock().mono_ns();
                self.take(heard, inlet)?;
            }
        }
    }

    /// Takes one message.
    fn take(&mut self, heard: Heard, inlet: &mut Inlet) -> Result<(), SourceError> {
        let Heard { server_ms, values, ended } = heard;
        if let Some(status) = ended {
            let message = format!("the server ended the subscription: {}", value::name(status));
            return Err(SourceError::Outside(message));
        }
        let came = Came { server_ms, wall_ms: inlet.clock().wall_ms(), mono_ns: inlet.clock().mono_ns() };
        let mut changes = Vec::with_capacity(values.len());
        for (channel, told) in values {
            let value = self.number(channel, &told, inlet)?;
            let source_ms =
                value::wall_ms(told.source_timestamp).or_else(|| value::wall_ms(told.server_timestamp));
            changes.push(Change { channel, value, source_ms });
        }
        let misdated = self.hold.message(changes, came, &mut self.batch);
        if misdated && !std::mem::replace(&mut self.misdated, true) {
            tracing::warn!("a server's clock cannot be believed: its readings get the time of their arrival");
        }
        Ok(())
    }

    /// A channel's number; NaN, and a count, where there is none.
    fn number(&mut self, channel: usize, told: &DataValue, inlet: &mut Inlet) -> Result<f64, Stopped> {
        if value::is_overflow(told) {
            self.refuse(channel, "values before it were lost at the server, whose queue was full", inlet)?;
        }
        if told.status == Some(StatusCode::BadWaitingForInitialData) {
            return Ok(f64::NAN);
        }
        match value::number(told) {
            Ok(number) => Ok(number),
            Err(why) => self.refuse(channel, &why, inlet).map(|()| f64::NAN),
        }
    }

    fn refuse(&mut self, channel: usize, why: &str, inlet: &mut Inlet) -> Result<(), Stopped> {
        self.refusals.refuse(&self.settings.nodes[channel].0, why, SourceState::Running, inlet)
    }

    /// Hands over what is there, if there is room; whether more can be taken.
    fn hand_over(&mut self, inlet: &mut Inlet) -> Result<bool, Stopped> {
        if self.batch.t_ms.is_empty() {
            return Ok(true);
        }
        if !inlet.has_room(self.batch.t_ms.len() + self.batch.values.len()) {
            return Ok(false);
        }
        inlet.send(std::mem::take(&mut self.batch))?;
        Ok(true)
    }
}

impl Source for Opcua {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SourceError::Runtime)?;
        runtime.block_on(self.watch(inlet))
    }
}
