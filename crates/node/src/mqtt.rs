//! One face to brokers of MQTT 3.1.1 and 5, for the source that listens, the sink that publishes, and actuators behind a broker.
//!
//! A [`Link`] is one attempt at one connection: its first event is [`Event::Connected`], its first error its end. Who
//! holds it makes another one, and says by that how long to wait. What the broker sends is acknowledged by hand, when
//! it is safe on disk here.

pub mod broker;
mod tls;

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, unfold};
use mqtt_v4 as v4;
use mqtt_v5 as v5;
use v5::Packet as Packet5;

use crate::config::token::{TokenError, read_token};
use crate::why::why;
use broker::{Broker, Version};
pub use tls::TlsError;

/// Nothing larger is read from a connection: what comes above ends it. MQTT 5 brokers are told, and hold such messages back.
pub const PACKET_MAX_BYTES: u32 = 4 << 20;
/// Messages that a broker of MQTT 5 may send before the first of them is acknowledged. Others have limits of their own.
const IN_FLIGHT: u16 = 8_192;
/// Messages of ours that may be under way. The library has a place for each and goes through all of them at every turn: without a limit
/// 65 535 places, 14 MB and 0.3 ms for each message that comes.
const OUTGOING: u16 = 100;
/// Requests (acknowledgements, messages) that wait for the connection. As many acknowledgements as there are packet ids fit, so that
/// none is ever refused.
const REQUESTS: usize = 1 << 16;
/// Packets read, and acknowledgements written, at a time.
const AT_ONCE: usize = 256;
/// The connection proves itself this often when nothing is said.
const KEEP_ALIVE_S: u16 = 30;

/// Why there is no connection, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The password cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker refuses, cannot be reached, or the connection broke.
    #[error("{broker}: {why}")]
    Lost {
        /// As configured.
        broker: String,
        /// What happened.
        why: String,
    },
    /// The broker does not let us listen.
    #[error("{broker} does not let this node listen to `{filter}`")]
    Refused {
        /// As configured.
        broker: String,
        /// The filter.
        filter: String,
    },
    /// The connection does not take what it is given.
    #[error("{broker} takes nothing: {why}")]
    Stuck {
        /// As configured.
        broker: String,
        /// Why.
        why: String,
    },
}

/// How a broker keeps what is meant for us while we are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Not at all.
    Clean,
    /// For so long; brokers of 3.1.1 have a limit of their own.
    Kept {
        /// Seconds; `u32::MAX` for ever.
        seconds: u32,
    },
}

/// What the broker says when we are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
    /// Whether the broker keeps it for whoever comes later.
    pub retain: bool,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// The broker took us in.
    Connected {
        /// It still has our session.
        resumed: bool,
    },
    /// The broker answered our wish to listen: the places of the filters that it refused.
    Subscribed {
        /// Places in the list that was asked for.
        refused: Vec<usize>,
    },
    /// A message.
    Message(Message),
    /// Something that only the protocol is interested in.
    Other,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: bytes::Bytes,
    /// The broker kept it from before we listened: nobody knows how old it is.
    pub retained: bool,
    /// By what it is acknowledged, unless it came at QoS 0.
    pub receipt: Option<Receipt>,
    /// What makes a question or an answer of it.
    pub exchange: Exchange,
}

/// What makes a question or an answer of a message, as MQTT 5 has it. 3.1.1 has no place for it: there it is left out, and is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    /// Of a question: the topic on which the answer is awaited; one topic, no filter.
    pub response_topic: Option<String>,
    /// What names a question; its answer carries the same bytes.
    pub correlation: Option<bytes::Bytes>,
}

/// By what a message is acknowledged; good on the link that brought it.
#[derive(Debug)]
pub struct Receipt(Ack);

#[derive(Debug)]
enum Ack {
    V4(v4::ManualAck),
    V5(v5::ManualAck),
}

/// One connection.
pub struct Link {
    name: String,
    client: Client,
    /// A stream, since it keeps what it is doing when nobody waits for it: the libraries' own `poll` may not be dropped
    /// half-way without losing what was on its way out.
    events: Pin<Box<dyn Stream<Item = Result<Event, String>>>>,
}

#[derive(Clone)]
enum Client {
    V4(v4::AsyncClient),
    V5(v5::AsyncClient),
}

enum Events {
    V4(Box<v4::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// A message that was handed over; waits for the broker's word.
pub enum Sent {
    /// As 3.1.1 has it.
    V4(v4::PublishNotice),
    /// As 5 has it.
    V5(v5::PublishNotice),
}

impl Link {
    /// Begins to connect; [`Link::next`] does it.
    pub fn open(
        broker: &Broker,
        client_id: &str,
        session: Session,
        will: Option<&Will>,
    ) -> Result<Link, LinkError> {
        let password = broker.password_file.as_deref().map(read_token).transpose()?;
        let tls = broker.tls.as_ref().map(tls::settings).transpose()?;
        let at = (broker.host.clone(), broker.port);
        let (client, events) = match broker.version {
            Version::V3 => {
                let mut options = v4::MqttOptions::new(client_id, at);
                options.set_keep_alive(KEEP_ALIVE_S);
                options.set_max_packet_size(PACKET_MAX_BYTES as usize, PACKET_MAX_BYTES as usize);
                options.set_request_channel_capacity(REQUESTS);
                options.set_max_request_batch(AT_ONCE);
                options.set_read_batch_size(AT_ONCE);
                options.set_inflight(OUTGOING);
                options.set_clean_session(session == Session::Clean);
                options.set_ack_mode(v4::AckMode::Manual);
                if let Some(user) = &broker.user {
                    options.set_credentials(user.clone(), password.unwrap_or_default());
                }
                if let Some(tls) = tls {
                    options.set_transport(v4::Transport::tls_with_config(v4::TlsConfiguration::Rustls(tls)));
                }
                if let Some(Will { topic, payload, retain }) = will {
                    let payload = payload.clone().into_bytes();
                    let will = v4::LastWill::new(topic, payload, v4::QoS::AtLeastOnce, *retain);
                    options.set_last_will(will);
                }
                let (client, events) = v4::AsyncClient::builder(options).capacity(REQUESTS).build();
                (Client::V4(client), Events::V4(Box::new(events)))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(client_id, at);
                options.set_keep_alive(KEEP_ALIVE_S);
                options.set_max_packet_size(Some(PACKET_MAX_BYTES));
                options.set_receive_maximum(Some(IN_FLIGHT));
                options.set_outgoing_inflight_upper_limit(OUTGOING);
                options.set_request_channel_capacity(REQUESTS);
                options.set_max_request_batch(AT_ONCE);
                options.set_read_batch_size(AT_ONCE);
                options.set_clean_start(session == Session::Clean);
                if let Session::Kept { seconds } = session {
                    options.set_session_expiry_interval(Some(seconds));
                    // What is under way at our end is what the journal does not have yet: the broker has it all.
                    options.set_broker_session_resume_policy(v5::BrokerSessionResumePolicy::AllowBrokerOnly);
                }
                options.set_ack_mode(v5::AckMode::Manual);
                if let Some(user) = &broker.user {
                    options.set_credentials(user.clone(), password.unwrap_or_default());
                }
                if let Some(tls) = tls {
                    options.set_transport(v5::Transport::tls_with_config(v5::TlsConfiguration::Rustls(tls)));
                }
                if let Some(Will { topic, payload, retain }) = will {
                    let payload = payload.clone().into_bytes();
                    options.set_last_will(v5::LastWill::new(
                        topic,
                        payload,
                        v5::mqttbytes::QoS::AtLeastOnce,
                        *retain,
                        None,
                    ));
                }
                let (client, events) = v5::AsyncClient::builder(options).capacity(REQUESTS).build();
                (Client::V5(client), Events::V5(Box::new(events)))
            }
        };
        let state = (client.clone(), events);
        let events = unfold(state, |(client, mut events)| async {
            let event = poll(&client, &mut events).await;
            Some((event, (client, events)))
        });
        Ok(Link { name: broker.to_string(), client, events: Box::pin(events) })
    }

    /// The next event. Nothing is lost if the caller stops waiting for it.
    pub async fn next(&mut self) -> Result<Event, LinkError> {
        match self.events.next().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(why)) => Err(LinkError::Lost { broker: self.name.clone(), why }),
            None => unreachable!("the stream has no end"),
        }
    }

    /// Asks for messages at QoS 0 or 1; answered by [`Event::Subscribed`].
    pub fn subscribe(&self, filters: &[String], qos: u8) -> Result<(), LinkError> {
        let filters = filters.iter().cloned();
        let asked = match &self.client {
            Client::V4(client) => {
                let qos = if qos == 0 { v4::QoS::AtMostOnce } else { v4::QoS::AtLeastOnce };
                let asked = client
                    .try_subscribe_many(filters.map(|filter| v4::SubscribeFilterInput::new(filter, qos)));
                asked.map_err(|error| why(&error))
            }
            Client::V5(client) => {
                let qos =
                    if qos == 0 { v5::mqttbytes::QoS::AtMostOnce } else { v5::mqttbytes::QoS::AtLeastOnce };
                let asked = client
                    .try_subscribe_many(filters.map(|filter| v5::SubscribeFilterInput::new(filter, qos)));
                asked.map_err(|error| why(&error))
            }
        };
        asked.map_err(|why| self.stuck(why))
    }

    /// Acknowledges a message that this link brought.
    pub fn acknowledge(&self, receipt: Receipt) -> Result<(), LinkError> {
        let sent = match (&self.client, receipt.0) {
            (Client::V4(client), Ack::V4(ack)) => client.try_manual_ack(ack).map_err(|error| why(&error)),
            (Client::V5(client), Ack::V5(ack)) => client.try_manual_ack(ack).map_err(|error| why(&error)),
            _ => unreachable!("a receipt is given to the link that it came from"),
        };
        sent.map_err(|why| self.stuck(why))
    }

    /// Hands over a message at QoS 1. [`Link::next`] must go on being asked, or it goes nowhere.
    pub async fn publish(&self, topic: String, payload: Vec<u8>, retain: bool) -> Result<Sent, LinkError> {
        self.publish_in(Exchange::default(), topic, payload, retain).await
    }

    /// The same for a question or an answer.
    pub async fn publish_in(
        &self,
        exchange: Exchange,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
    ) -> Result<Sent, LinkError> {
        let sent = match &self.client {
            Client::V4(client) => {
                let options = v4::PublishOptions::new(v4::QoS::AtLeastOnce).retain(retain);
                let notice = client.publish_tracked(topic, payload, options).await;
                notice.map(Sent::V4).map_err(|error| why(&error))
            }
            Client::V5(client) => {
                let mut options = v5::PublishOptions::new(v5::mqttbytes::QoS::AtLeastOnce).retain(retain);
                if exchange != Exchange::default() {
                    let Exchange { response_topic, correlation: correlation_data } = exchange;
                    let more =
                        v5::PublishProperties { response_topic, correlation_data, ..Default::default() };
                    options = options.properties(more);
                }
                let notice = client.publish_tracked(topic, payload, options).await;
                notice.map(Sent::V5).map_err(|error| why(&error))
            }
        };
        sent.map_err(|why| self.stuck(why))
    }

    /// Says goodbye; [`Link::next`] then comes to its end.
    pub fn leave(&self) -> Result<(), LinkError> {
        let left = match &self.client {
            Client::V4(client) => client.try_disconnect().map_err(|error| why(&error)),
            Client::V5(client) => client.try_disconnect().map_err(|error| why(&error)),
        };
        left.map_err(|why| self.stuck(why))
    }

    /// The broker does not let us listen to a filter.
    pub fn refused(&self, filter: &str) -> LinkError {
        LinkError::Refused { broker: self.name.clone(), filter: filter.to_owned() }
    }

    fn stuck(&self, why: String) -> LinkError {
        LinkError::Stuck { broker: self.name.clone(), why }
    }
}

impl Sent {
    /// The broker's word; the error in words.
    pub async fn taken(self) -> Result<(), String> {
        match self {
            Sent::V4(notice) => notice.wait_async().await.map(|_| ()).map_err(|error| error.to_string()),
            Sent::V5(notice) => notice.wait_async().await.map(|_| ()).map_err(|error| error.to_string()),
        }
    }
}

async fn poll(client: &Client, events: &mut Events) -> Result<Event, String> {
    match events {
        Events::V4(events) => match events.poll().await {
            Ok(v4::Event::Incoming(packet)) => Ok(from_v4(client, packet)),
            Ok(v4::Event::Outgoing(_)) => Ok(Event::Other),
            Err(error) => Err(why(&error)),
        },
        Events::V5(events) => match events.poll().await {
            Ok(v5::Event::Incoming(Packet5::Disconnect(bye))) => {
                Err(format!("the broker ended the connection: {:?}", bye.reason_code))
            }
            Ok(v5::Event::Incoming(packet)) => Ok(from_v5(client, packet)),
            Ok(_) => Ok(Event::Other),
            Err(error) => Err(why(&error)),
        },
    }
}

fn from_v4(client: &Client, packet: v4::Packet) -> Event {
    match packet {
        v4::Packet::ConnAck(answer) => Event::Connected { resumed: answer.session_present },
        v4::Packet::SubAck(answer) => {
            let codes = answer.return_codes.iter().enumerate();
            let refused =
                codes.filter(|(_, code)| !matches!(code, v4::mqttbytes::v4::SubscribeReasonCode::Success(_)));
            Event::Subscribed { refused: refused.map(|(at, _)| at).collect() }
        }
        v4::Packet::Publish(publish) => {
            let receipt = match client {
                Client::V4(client) => client.prepare_ack(&publish).map(|ack| Receipt(Ack::V4(ack))),
                Client::V5(_) => None,
            };
            Event::Message(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                retained: publish.retain,
                receipt,
                exchange: Exchange::default(),
            })
        }
        _ => Event::Other,
    }
}

fn from_v5(client: &Client, packet: Packet5) -> Event {
    match packet {
        Packet5::ConnAck(answer) => Event::Connected { resumed: answer.session_present },
        Packet5::SubAck(answer) => {
            let codes = answer.return_codes.iter().enumerate();
            let refused =
                codes.filter(|(_, code)| !matches!(code, v5::mqttbytes::v5::SubscribeReasonCode::Success(_)));
            Event::Subscribed { refused: refused.map(|(at, _)| at).collect() }
        }
        Packet5::Publish(publish) => {
            let receipt = match client {
                Client::V5(client) => client.prepare_ack(&publish).map(|ack| Receipt(Ack::V5(ack))),
                Client::V4(_) => None,
            };
            Event::Message(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                retained: publish.retain,
                receipt,
                exchange: publish.properties.map(exchange).unwrap_or_default(),
            })
        }
        _ => Event::Other,
    }
}

fn exchange(properties: v5::PublishProperties) -> Exchange {
    Exchange { response_topic: properties.response_topic, correlation: properties.correlation_data }
}

/// What a connection that says goodbye may take.
pub const LEAVE: Duration = Duration::from_secs(1);
