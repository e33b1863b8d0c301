//! A sink that publishes each record to a broker, at QoS 1: it is passed on when the broker has it.
//!
//! With discovery, rules and channels also appear in Home Assistant. That the node is there is said by a retained
//! message, that it is gone by the broker itself (the last will).

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use wire::body::{Decision, RuleState};
use wire::id::StreamName;

use super::choose::Item;
use super::feed::Feed;
use super::homeassistant::{Announcer, Retained};
use super::pass::Sink;
use super::trouble::SinkError;
use crate::mqtt::broker::Broker;
use crate::mqtt::{Event, LEAVE, Link, Session, Will};

/// The broker has so long to take a group.
const TAKE: Duration = Duration::from_secs(30);
/// Topics without a template of their own.
pub const TOPIC: &str = "selvedge/{node}/{kind}/{part}";

/// Where records are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSinkSettings {
    /// Whom it tells.
    pub broker: Broker,
    /// Who it is there; without it the node's name and its own.
    pub client_id: Option<String>,
    /// Where: `{node}`, `{kind}`, `{part}` (`rule/hot`) and `{stream}` stand for what they say.
    pub topic: String,
    /// Whether the broker keeps the last message of each topic.
    pub retain: bool,
    /// The prefix of Home Assistant's discovery, if that is wanted.
    pub discovery: Option<String>,
    /// The rules of the flow, for discovery.
    pub rules: Vec<String>,
}

/// Publishes.
pub struct MqttSink {
    settings: MqttSinkSettings,
}

impl MqttSink {
    /// A sink.
    pub fn new(settings: MqttSinkSettings) -> MqttSink {
        MqttSink { settings }
    }

    async fn pass(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let MqttSinkSettings { broker, client_id, discovery, rules, .. } = &self.settings;
        let base = format!("selvedge/{}", feed.node());
        let mut announcer = discovery.as_ref().map(|prefix| Announcer::new(prefix, &base, feed.node()));
        let will = announcer.as_ref().map(|announcer| Will {
            topic: announcer.availability(),
            payload: "offline".to_owned(),
            retain: true,
        });
        let id =
            client_id.clone().unwrap_or_else(|| format!("selvedge-{}-sink-{}", feed.node(), feed.name()));
        let mut link = Link::open(broker, &id, Session::Clean, will.as_ref())?;
        while !matches!(link.next().await?, Event::Connected { .. }) {}
        feed.tell("running", format!("{broker} takes records"));
        if let (Some(announcer), Some(Will { topic, .. })) = (&mut announcer, &will) {
            // Announced first and available last: what appears is there.
            let mut first: Vec<Retained> = rules.iter().filter_map(|rule| announcer.rule(rule)).collect();
            let firing = firing(feed)?;
            first.extend(rules.iter().map(|rule| announcer.rule_is(rule, firing.contains(rule))));
            first.push(Retained { topic: topic.clone(), payload: "online".to_owned() });
            let first =
                first.into_iter().map(|Retained { topic, payload }| (topic, payload.into_bytes(), true));
            publish(&mut link, first.collect()).await?;
        }
        loop {
            let group = tokio::select! {
                group = feed.next() => group?,
                event = link.next() => {
                    event?;
                    continue;
                }
            };
            let Some(group) = group else { break };
            let mut messages = Vec::new();
            for item in &group.items {
                messages.push((self.topic_of(item), item.json(), self.settings.retain));
                let said = announcer.as_mut().map(|announcer| announcer.say(item)).unwrap_or_default();
                messages.extend(said.into_iter().map(|it| (it.topic, it.payload.into_bytes(), true)));
            }
            publish(&mut link, messages).await?;
            feed.done(group)?;
        }
        if let Some(Will { topic, payload, .. }) = will {
            // A goodbye is no death: the broker says nothing, so we do.
            publish(&mut link, vec![(topic, payload.into_bytes(), true)]).await?;
        }
        link.leave()?;
        // Its end is an error: the connection is gone.
        let _ = timeout(LEAVE, async { while link.next().await.is_ok() {} }).await;
        Ok(())
    }

    fn topic_of(&self, item: &Item) -> String {
        let part = item.part.as_deref().unwrap_or("node").replace('.', "/");
        let topic = self.settings.topic.replace("{node}", item.node.as_str()).replace("{kind}", &item.kind);
        topic.replace("{part}", &part).replace("{stream}", item.stream.as_str())
    }
}

/// The rules that fire, as far as the last thousand decisions tell.
fn firing(feed: &mut Feed) -> Result<BTreeSet<String>, SinkError> {
    let decisions = StreamName::new("decisions").expect("our own streams have good names");
    let mut firing = BTreeSet::new();
    for record in feed.latest(&decisions, 1_000)? {
        if let Ok(Decision { rule, state, .. }) = serde_json::from_str(record.body.get()) {
            match state {
                RuleState::Firing => firing.insert(rule.to_string()),
                RuleState::Cleared => firing.remove(rule.as_str()),
            };
        }
    }
    Ok(firing)
}

/// Hands messages over, and waits until the broker has all of them.
async fn publish(link: &mut Link, messages: Vec<(String, Vec<u8>, bool)>) -> Result<(), SinkError> {
    let mut sent = Vec::new();
    for (topic, payload, retain) in messages {
        sent.push(link.publish(topic, payload, retain).await?);
    }
    let mut taken = pin!(async {
        for sent in sent {
            sent.taken().await?;
        }
        Ok::<(), String>(())
    });
    let all = async {
        loop {
            tokio::select! {
                taken = &mut taken => return taken.map_err(SinkError::Outside),
                event = link.next() => { event?; }
            }
        }
    };
    match timeout(TAKE, all).await {
        Ok(taken) => taken,
        Err(_) => {
            Err(SinkError::Outside(format!("the broker did not take records within {} s", TAKE.as_secs())))
        }
    }
}

impl Sink for MqttSink {
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SinkError::Runtime)?;
        runtime.block_on(self.pass(feed))
    }
}
