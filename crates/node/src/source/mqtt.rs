//! A source that listens to topics of an MQTT broker.
//!
//! A message at QoS 1 is acknowledged when the readings it brought are in the journal, and not before: until then the broker has it,
//! and gives it again after whatever happens to either end. So nothing is lost, and a message may come twice. The
//! broker keeps the session while the node is away.
//!
//! While the node has no room, nothing is read from the connection: the broker holds back, not our memory.

pub mod settings;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::bring::{Source, SourceError, wait_for};
use super::funnel::Funnel;
use super::queue::{Event, Inlet, Stopped};
use crate::mqtt::{self as broker, LEAVE, Link, Message, Receipt, Session};
use settings::MqttSettings;

/// The broker has been silent for so long: perhaps because it waits for us.
const SILENCE: Duration = Duration::from_millis(5);
/// So many messages without acknowledgement may be all that the broker lets be under way (mosquitto: 20).
const HURRY_AT: usize = 8;
/// When the node stops, what is on its way into the journal has so long to get there.
const SETTLE: Duration = Duration::from_secs(3);

/// Listens.
pub struct MqttSource {
    settings: MqttSettings,
    client_id: String,
    funnel: Funnel,
}

/// One connection.
struct Listening {
    link: Link,
    /// What is to be acknowledged, once so many readings are settled.
    waiting: VecDeque<(u64, Receipt)>,
    /// A hurry was asked for when so many readings had been sent.
    hurried: u64,
}

impl MqttSource {
    /// A source. `client_id`: who it is to the broker, the same after every restart; `declared`: channels that the flow
    /// names by themselves.
    pub fn new(settings: MqttSettings, client_id: String, declared: Option<&[String]>) -> MqttSource {
        let funnel = Funnel::new(settings.funnel.clone(), declared);
        MqttSource { settings, client_id, funnel }
    }

    async fn listen(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let session = Session::Kept { seconds: self.settings.session_s };
        let link = Link::open(&self.settings.broker, &self.client_id, session, None)?;
        let mut on = Listening { link, waiting: VecDeque::new(), hurried: inlet.sent() };
        self.connect(&mut on, inlet).await?;
        let ended = self.attend(&mut on, inlet).await;
        if let Err(SourceError::Stopped(Stopped)) = ended {
            on.leave(inlet).await;
        }
        ended
    }

    /// Until the broker has taken us in.
    async fn connect(&mut self, on: &mut Listening, inlet: &mut Inlet) -> Result<(), SourceError> {
        loop {
            tokio::select! {
                event = on.link.next() => if let broker::Event::Connected { resumed } = event? {
                    let kept = if resumed { "kept" } else { "had not" };
                    let reason = format!("{} is reached; it {kept} what came while we were away", self.settings.broker);
                    tracing::info!(reason, "a source listens");
                    self.funnel.begin(reason, inlet)?;
                    // Also to a broker that kept the session: the topics may be others now.
                    return Ok(on.link.subscribe(&self.settings.topics, self.settings.qos)?);
                },
                () = inlet.stirred() => if inlet.stopping() {
                    return Err(Stopped.into());
                },
            }
        }
    }

    /// Takes messages and gives acknowledgements, until something breaks or the node stops.
    async fn attend(&mut self, on: &mut Listening, inlet: &mut Inlet) -> Result<String, SourceError> {
        loop {
            on.acknowledge(inlet)?;
            if inlet.stopping() {
                return Err(Stopped.into());
            }
            let room = self.funnel.hand_over(inlet)?;
            let due = self.funnel.due(inlet);
            let hurry = on.waiting.len() >= HURRY_AT && on.hurried < inlet.sent();
            tokio::select! {
                biased;
                event = on.link.next(), if room => {
                    self.happened(event?, on, inlet)?;
                    // What has come with it travels with it.
                    while self.funnel.has_space() {
                        match on.link.next().now_or_never() {
                            Some(event) => self.happened(event?, on, inlet)?,
                            None => break,
                        }
                    }
                }
                () = inlet.stirred() => {}
                () = sleep(due.unwrap_or_default()), if due.is_some() => {}
                () = sleep(SILENCE), if hurry => {
                    on.hurried = inlet.sent();
                    inlet.tell(Event::Settle)?;
                }
            }
        }
    }

    fn happened(
        &mut self,
        event: broker::Event,
        on: &mut Listening,
        inlet: &mut Inlet,
    ) -> Result<(), SourceError> {
        match event {
            broker::Event::Message(Message { topic, payload, retained, receipt, .. }) => {
                if !retained || self.settings.retained {
                    self.funnel.take(&topic, &payload, inlet)?;
                }
                if let Some(receipt) = receipt {
                    // Refused ones too wait for those before them: a broker hears of its messages in their order.
                    on.waiting.push_back((self.funnel.reaches(inlet), receipt));
                }
                Ok(())
            }
            broker::Event::Subscribed { refused } => match refused.first() {
                Some(at) => Err(on.link.refused(&self.settings.topics[*at]).into()),
                None => Ok(()),
            },
            broker::Event::Connected { .. } | broker::Event::Other => Ok(()),
        }
    }
}

impl Listening {
    /// Acknowledges what is settled.
    fn acknowledge(&mut self, inlet: &Inlet) -> Result<(), SourceError> {
        let settled = inlet.settled();
        while self.waiting.front().is_some_and(|(needs, _)| *needs <= settled) {
            if let Some((_, receipt)) = self.waiting.pop_front() {
                self.link.acknowledge(receipt)?;
            }
        }
        Ok(())
    }

    /// The node stops: what is on its way into the journal gets there and is acknowledged; the rest comes again.
    async fn leave(&mut self, inlet: &Inlet) {
        let settle = async {
            while self.waiting.front().is_some_and(|(needs, _)| *needs <= inlet.sent()) {
                if self.acknowledge(inlet).is_err() {
                    return;
                }
                tokio::select! {
                    () = inlet.stirred() => {}
                    // The connection lives on; what it still brings is not taken, so it comes again.
                    event = self.link.next() => if event.is_err() { return },
                }
            }
        };
        if timeout(SETTLE, settle).await.is_err() {
            tracing::warn!("some messages were not acknowledged: the broker will give them again");
        }
        if self.acknowledge(inlet).is_ok() && self.link.leave().is_ok() {
            // Its end is an error: the connection is gone.
            let _ = timeout(LEAVE, async { while self.link.next().await.is_ok() {} }).await;
        }
    }
}

impl Source for MqttSource {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        wait_for(self.listen(inlet))
    }
}
