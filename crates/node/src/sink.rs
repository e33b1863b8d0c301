//! Where records go besides the hub: a broker, a web address, a collector, a file, the standard output.
//!
//! A sink reads the journal as the uplink does, by a cursor of its own that outlives restarts: each record is passed on at least once,
//! in the order of its stream, and what was evicted before is passed on as a gap. Each runs on a thread of its own and is
//! supervised alone: one that fails is tried again after 1 s, 2 s … 5 min, and nothing waits for it.

pub mod choose;
pub mod cursor;
pub mod feed;
pub mod file;
pub mod homeassistant;
pub mod mqtt;
pub mod otlp;
pub mod pass;
mod post;
pub mod trouble;
pub mod webhook;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wire::id::PartName;

use crate::source::{BackOff, panic_text};
use crate::why::why;
use choose::Choice;
use cursor::From;
use feed::Feed;
use file::{FileSettings, FileSink, Stdout};
use mqtt::{MqttSink, MqttSinkSettings};
use otlp::{Otlp, OtlpSettings};
use pass::Sink;
use trouble::SinkError;
use webhook::{Webhook, WebhookSettings};

/// A sink of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name.
    pub name: PartName,
    /// What it passes on.
    pub choice: Choice,
    /// Where it begins if it has never run.
    pub from: From,
    /// Where to.
    pub kind: SinkKind,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// To a broker.
    Mqtt(MqttSinkSettings),
    /// To a web address.
    Webhook(WebhookSettings),
    /// To a collector of OpenTelemetry.
    Otlp(OtlpSettings),
    /// To a file.
    File(FileSettings),
    /// To the standard output.
    Stdout,
}

impl SinkKind {
    /// Whether what goes there leaves the node.
    pub fn sends(&self) -> bool {
        match self {
            SinkKind::Mqtt(_) | SinkKind::Webhook(_) | SinkKind::Otlp(_) => true,
            SinkKind::File(_) | SinkKind::Stdout => false,
        }
    }
}

/// Makes a sink.
pub fn build(config: &SinkConfig) -> Box<dyn Sink> {
    match &config.kind {
        SinkKind::Mqtt(settings) => Box::new(MqttSink::new(settings.clone())),
        SinkKind::Webhook(settings) => Box::new(Webhook::new(settings.clone())),
        SinkKind::Otlp(settings) => Box::new(Otlp::new(settings.clone())),
        SinkKind::File(settings) => Box::new(FileSink::new(settings.clone())),
        SinkKind::Stdout => Box::new(Stdout),
    }
}

/// Runs a sink until the node stops. The body of its thread.
pub fn supervise(mut sink: Box<dyn Sink>, mut feed: Feed, back_off: BackOff) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let mut failures = 0;
    loop {
        let began_ns = feed.now_ns();
        let (reason, asked) = match catch_unwind(AssertUnwindSafe(|| sink.run(&mut feed))) {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                let asked = match &error {
                    SinkError::Later { seconds, .. } => Duration::from_secs(*seconds),
                    _ => Duration::ZERO,
                };
                (why(&error), asked)
            }
            Err(panic) => (format!("it panicked: {}", panic_text(&*panic)), Duration::ZERO),
        };
        // What was delivered before it failed is not delivered again.
        if let Err(error) = feed.save(true) {
            tracing::warn!(sink = %feed.name(), error = why(&error), "how far a sink is cannot be kept");
        }
        let ran = Duration::from_nanos(feed.now_ns().saturating_sub(began_ns));
        failures = back_off.failures(failures, ran);
        let wait = back_off.after(failures).max(asked);
        feed.tell("failed", format!("{reason}; tried again in {} s", wait.as_secs_f64()));
        let goes_on = runtime.as_ref().is_ok_and(|runtime| runtime.block_on(feed.pause(wait)));
        if !goes_on {
            break;
        }
    }
    if let Err(error) = feed.save(true) {
        tracing::warn!(sink = %feed.name(), error = why(&error), "how far a sink is cannot be kept");
    }
}
