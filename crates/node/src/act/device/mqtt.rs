//! A device behind a broker of MQTT: a message sets it, and what it says on another topic is read.
//!
//! A thread holds the connection, so that it lives while nothing is asked. With a will the broker itself sends the safe setting when
//! the connection breaks: when the guard dies, or its whole machine. Since the device may then have gone back without anybody
//! here, [`Device::lost`] tells it, and the guard brings it back in earnest. The connection is never ended by a goodbye, which
//! would take the will along.
//!
//! What it says of itself counts from the moment in which it was last told or asked something (`answers`). A device that is asked may
//! answer twice, to what it was told and to the question; so after the first answer there is a moment for a newer one.

mod answers;

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use wire::body::act::Setting;
use wire::world::{Entropy as _, System};

use super::face::{ANSWER_MAX_BYTES, Device, DeviceError};
use super::told::setting;
use crate::act::limits::Allowed;
use crate::mqtt::broker::Broker;
use crate::mqtt::{Event, Exchange, Link, Session, Will};
use crate::why::why;
use answers::Answers;

/// After its first answer a device says something newer within this, or what it said stands.
const NEWER: Duration = Duration::from_millis(20);

/// Topics, payloads, and how long the broker and the device may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mqtt {
    /// Whom it is reached by.
    pub broker: Broker,
    /// Who we are there, the same in every life: then a new guard takes the place of one that hangs.
    pub client_id: Option<String>,
    /// Where the device is told.
    pub topic: String,
    /// What it is told.
    pub payload: Payload,
    /// Whether the broker keeps the last order for a device that comes later.
    pub retain: bool,
    /// Whether the broker sends the safe setting when the connection breaks.
    pub will: bool,
    /// Where the device says what it is set to; absent: it cannot be asked.
    pub read_topic: Option<String>,
    /// Where the setting stands in the JSON that it says, as RFC 6901 has it; empty: all of it, also as plain text.
    pub pointer: String,
    /// The topic and the payload by which it is asked to say it; absent: it does so by itself when it was told.
    pub ask: Option<(String, String)>,
    /// Connecting, telling and being told each end within this.
    pub timeout_ms: u64,
}

/// What a device is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The setting as plain text.
    Plain,
    /// A text in which `{value}` stands for the setting as JSON.
    Form(String),
    /// A text for each word.
    Words(Vec<(String, String)>),
}

impl Payload {
    /// As it is sent.
    pub fn of(&self, to: &Setting) -> String {
        match self {
            Payload::Plain => to.to_string(),
            // A word or a number is always JSON.
            Payload::Form(form) => form.replace("{value}", &serde_json::to_string(to).unwrap_or_default()),
            Payload::Words(words) => {
                let word = to.to_string();
                words.iter().find(|(known, _)| *known == word).map_or(word.clone(), |(_, sent)| sent.clone())
            }
        }
    }
}

/// What came on the connection.
#[derive(Default)]
struct Heard {
    /// What the device said of itself.
    answers: Answers,
    /// Why the connection is over.
    gone: Option<String>,
}

/// The same for the thread and whoever waits for it.
#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// A message on its way out, and who waits for the broker's word.
struct Publish {
    topic: String,
    payload: String,
    retain: bool,
    exchange: Exchange,
    tell: SyncSender<Result<(), String>>,
}

/// The connection.
pub(super) struct Station {
    mqtt: Mqtt,
    allowed: Allowed,
    out: UnboundedSender<Publish>,
    ear: Arc<Ear>,
    /// Drawn for this connection: what its questions are named by.
    life: [u8; 8],
    /// So many questions were asked on it.
    asked: u64,
}

impl Station {
    /// Connects, and listens to the device.
    pub(super) fn open(mqtt: &Mqtt, allowed: &Allowed, safe: &Setting) -> Result<Station, DeviceError> {
        let web = |why: String| DeviceError::Web { host: mqtt.broker.to_string(), why };
        let (out, orders) = unbounded_channel();
        let ear = Arc::new(Ear::default());
        let (begun, begins) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| web(error.to_string()))?;
        let (held, hears) = (mqtt.clone(), Arc::clone(&ear));
        let will = mqtt.will.then(|| Will {
            topic: mqtt.topic.clone(),
            payload: mqtt.payload.of(safe),
            retain: mqtt.retain,
        });
        let run = move || {
            let ended = runtime.block_on(hold(&held, will.as_ref(), orders, &hears, &begun));
            let mut heard = hears.lock();
            heard.gone = Some(ended.clone());
            hears.changed.notify_all();
            drop(heard);
            // Nobody waits for it if it had begun.
            drop(begun.try_send(Err(ended)));
        };
        std::thread::Builder::new()
            .name("act.mqtt".into())
            .spawn(run)
            .map_err(|error| web(error.to_string()))?;
        match begins.recv_timeout(Duration::from_millis(mqtt.timeout_ms)) {
            Ok(Ok(())) => {
                let mut life = [0; 8];
                System::new().fill(&mut life);
                Ok(Station { mqtt: mqtt.clone(), allowed: allowed.clone(), out, ear, life, asked: 0 })
            }
            Ok(Err(why)) => Err(web(why)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(slow(mqtt, "the broker")),
        }
    }

    /// Sends a message, and waits until the broker has it.
    fn publish(
        &self,
        topic: &str,
        payload: String,
        retain: bool,
        exchange: Exchange,
    ) -> Result<(), DeviceError> {
        let (tell, told) = sync_channel(1);
        let publish = Publish { topic: topic.to_owned(), payload, retain, exchange, tell };
        if self.out.send(publish).is_err() {
            return Err(self.gone());
        }
        match told.recv_timeout(Duration::from_millis(self.mqtt.timeout_ms)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(DeviceError::Web { host: self.mqtt.broker.to_string(), why }),
            Err(RecvTimeoutError::Timeout) => Err(slow(&self.mqtt, "the broker")),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    fn gone(&self) -> DeviceError {
        let why = self.ear.lock().gone.clone().unwrap_or_else(|| "the connection is over".to_owned());
        DeviceError::Web { host: self.mqtt.broker.to_string(), why }
    }
}

/// The topic that a question names for its answer: where we listen, unless that is a filter, or a share of what comes.
fn awaited_on(read_topic: &str) -> Option<String> {
    (!read_topic.contains(['+', '#']) && !read_topic.starts_with('$')).then(|| read_topic.to_owned())
}

fn slow(mqtt: &Mqtt, who: &str) -> DeviceError {
    DeviceError::Slow { what: format!("{who} at {}", mqtt.broker), limit_ms: mqtt.timeout_ms }
}

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` was heard, or the time is over, or the connection.
    fn wait<'a>(
        &self,
        heard: MutexGuard<'a, Heard>,
        limit: Duration,
        enough: impl Fn(&Heard) -> bool,
    ) -> MutexGuard<'a, Heard> {
        let waits = |heard: &mut Heard| heard.gone.is_none() && !enough(heard);
        let (heard, _) =
            self.changed.wait_timeout_while(heard, limit, waits).unwrap_or_else(PoisonError::into_inner);
        heard
    }
}

/// Holds the connection until nobody needs it or it breaks; gives why.
async fn hold(
    mqtt: &Mqtt,
    will: Option<&Will>,
    mut orders: UnboundedReceiver<Publish>,
    ear: &Ear,
    begun: &SyncSender<Result<(), String>>,
) -> String {
    let limit = Duration::from_millis(mqtt.timeout_ms);
    let id = mqtt.client_id.as_deref().unwrap_or("selvedge-act");
    let mut link = match Link::open(&mqtt.broker, id, Session::Clean, will) {
        Ok(link) => link,
        Err(error) => return why(&error),
    };
    match timeout(limit, listen(&mut link, mqtt.read_topic.as_deref())).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return why,
        Err(_) => return "it did not answer in time".to_owned(),
    }
    drop(begun.try_send(Ok(())));
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            event = link.next() => match event.map_err(|error| why(&error)).and_then(|event| hear(&link, ear, event)) {
                Ok(()) => continue,
                Err(why) => return why,
            },
        };
        let Some(Publish { topic, payload, retain, exchange, tell }) = order else {
            return "nobody needs it any more".to_owned();
        };
        let sent = match link.publish_in(exchange, topic, payload.into_bytes(), retain).await {
            Ok(sent) => sent,
            Err(error) => return why(&error),
        };
        let mut taken = std::pin::pin!(timeout(limit, sent.taken()));
        let told = loop {
            tokio::select! {
                taken = &mut taken => break taken.unwrap_or_else(|_| Err("the broker did not take it in time".to_owned())),
                event = link.next() => {
                    if let Err(why) = event.map_err(|error| why(&error)).and_then(|event| hear(&link, ear, event)) {
                        return why;
                    }
                }
            }
        };
        // Whoever waited may have given up.
        drop(tell.try_send(told));
    }
}

/// Until the broker has taken us in, and lets us listen.
async fn listen(link: &mut Link, topic: Option<&str>) -> Result<(), String> {
    loop {
        match link.next().await.map_err(|error| why(&error))? {
            Event::Connected { .. } => match topic {
                Some(topic) => {
                    link.subscribe(&[topic.to_owned()], 1).map_err(|error| why(&error))?;
                }
                None => return Ok(()),
            },
            Event::Subscribed { refused } if refused.is_empty() => return Ok(()),
            Event::Subscribed { .. } => return Err(why(&link.refused(topic.unwrap_or_default()))),
            // What the broker kept from before is no receipt.
            Event::Message(message) => {
                if let Some(receipt) = message.receipt {
                    link.acknowledge(receipt).map_err(|error| why(&error))?;
                }
            }
            Event::Other => {}
        }
    }
}

fn hear(link: &Link, ear: &Ear, event: Event) -> Result<(), String> {
    let Event::Message(message) = event else { return Ok(()) };
    if !message.retained {
        let payload = (message.payload.len() <= ANSWER_MAX_BYTES).then_some(message.payload);
        ear.lock().answers.hear(message.exchange.correlation.as_ref(), payload);
        ear.changed.notify_all();
    }
    match message.receipt {
        Some(receipt) => link.acknowledge(receipt).map_err(|error| why(&error)),
        None => Ok(()),
    }
}

impl Device for Station {
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError> {
        self.ear.lock().answers = Answers::default();
        let payload = self.mqtt.payload.of(to);
        self.publish(&self.mqtt.topic, payload, self.mqtt.retain, Exchange::default())
    }

    fn read(&mut self) -> Result<Option<Setting>, DeviceError> {
        let Some(read_topic) = &self.mqtt.read_topic else { return Ok(None) };
        if let Some((topic, payload)) = &self.mqtt.ask {
            self.asked += 1;
            let name = answers::name(self.life, self.asked);
            self.ear.lock().answers = Answers::to(name.clone());
            let exchange = Exchange { response_topic: awaited_on(read_topic), correlation: Some(name) };
            self.publish(topic, payload.clone(), false, exchange)?;
        }
        let limit = Duration::from_millis(self.mqtt.timeout_ms);
        let has_said = |heard: &Heard| heard.answers.best().is_some();
        let mut heard = self.ear.wait(self.ear.lock(), limit, has_said);
        if has_said(&heard) {
            heard = self.ear.wait(heard, NEWER, |_| false);
        }
        let (answer, is_gone) = (heard.answers.best().cloned(), heard.gone.is_some());
        drop(heard);
        let Some(answer) = answer else {
            let who = "what the device says of itself";
            return Err(if is_gone { self.gone() } else { slow(&self.mqtt, who) });
        };
        let Some(payload) = answer.payload else {
            let why = format!("it has more than {ANSWER_MAX_BYTES} bytes");
            return Err(DeviceError::Answer { why });
        };
        setting(&payload, &self.mqtt.pointer, &self.allowed)
            .map(Some)
            .map_err(|why| DeviceError::Answer { why })
    }

    fn lost(&mut self) -> Option<String> {
        let gone = self.ear.lock().gone.clone().filter(|_| self.mqtt.will)?;
        Some(format!(
            "the connection to {} broke, on which the broker sends the safe setting: {gone}",
            self.mqtt.broker
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_is_told() {
        let open = Setting::Word("open".into());
        assert_eq!(Payload::Plain.of(&open), "open");
        assert_eq!(Payload::Plain.of(&Setting::Number(2.5)), "2.5");
        assert_eq!(Payload::Form("{\"state\":{value}}".into()).of(&open), "{\"state\":\"open\"}");
        let words = Payload::Words(vec![("open".into(), "{\"data\":\"AQ==\"}".into())]);
        assert_eq!(words.of(&open), "{\"data\":\"AQ==\"}");
    }

    #[test]
    fn where_an_answer_is_awaited() {
        assert_eq!(awaited_on("valve/state").as_deref(), Some("valve/state"));
        for filter in ["valve/+", "valve/#", "$share/farm/valve/state"] {
            assert_eq!(awaited_on(filter), None, "{filter}");
        }
    }
}
