//! A source that listens to a real broker: nothing is lost while either end restarts.

use std::collections::BTreeMap;

use node::mqtt::broker::Version;
use wire::world::{Clock as _, System};

use crate::broker::mosquitto;
use crate::stand::{folder, reasons, records, run, until, values};

fn flow(port: u16, rest: &str) -> String {
    format!("[source.plant]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\n{rest}")
}

/// Counts how often each number is in the journal.
fn counted(values: &[f64]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(*value as u64).or_insert(0) += 1;
    }
    counts
}

#[test]
fn nothing_is_lost_while_broker_and_node_restart() {
    for (version, word) in [(Version::V5, "5"), (Version::V3, "3.1.1")] {
        let Some(mut broker) = mosquitto(false) else { return };
        let rest = format!("version = \"{word}\"\ntopics = [\"plant/#\"]\nvalues = {{ n = \"data.n\" }}\n");
        let dir = folder(&flow(broker.port, &rest));
        let messages = |from: u64, to: u64| -> Vec<(String, String)> {
            (from..to).map(|n| ("plant/pump".to_owned(), format!("{{\"data\":{{\"n\":{n}}}}}"))).collect()
        };
        let node = run(dir.path());
        until("the connection", || node.status().sources[0].state == "running");
        broker.publish(version, &messages(0, 1_000));
        // The broker goes away while the node takes messages.
        for round in 0..4 {
            broker.publish(version, &messages(1_000 + round * 500, 1_500 + round * 500));
            broker.stop();
            broker.start();
        }
        // The node stops in the middle of what comes.
        broker.publish(version, &messages(3_000, 4_000));
        node.stop().unwrap();
        broker.publish(version, &messages(4_000, 5_000));
        let node = run(dir.path());
        broker.publish(version, &messages(5_000, 6_000));
        until("all messages", || counted(&values(dir.path(), "plant", "n")).len() == 6_000);
        node.stop().unwrap();
        let counts = counted(&values(dir.path(), "plant", "n"));
        let twice = counts.values().filter(|count| **count > 1).count();
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (0..6_000).collect::<Vec<_>>());
        eprintln!("MQTT {word}: 6000 messages over restarts, none lost, {twice} came more than once");
        // At least once: what was under way at one of the five cuts comes again, from the broker or from its publisher.
        assert!(twice < 1_000, "{twice}");
    }
}

#[test]
fn tls_with_certificates_at_both_ends() {
    let Some(broker) = mosquitto(true) else { return };
    let at = broker.dir.path().display();
    let with = |authority: &str| {
        format!(
            "[source.plant]\ntype = \"mqtt\"\nbroker = \"mqtts://127.0.0.1:{}\"\ntopics = [\"plant/#\"]\n\
             ca_file = \"{at}/{authority}.pem\"\ncertificate_file = \"{at}/node.pem\"\nkey_file = \"{at}/node.key\"\n",
            broker.port
        )
    };
    let dir = folder(&with("ca"));
    let node = run(dir.path());
    until("the connection", || node.status().sources[0].reason.contains("is reached"));
    broker.publish(Version::V5, &[("plant/a".to_owned(), "{\"n\":7,\"unit\":\"bar\"}".to_owned())]);
    until("the message", || values(dir.path(), "plant", "n") == [7.0]);
    node.stop().unwrap();

    let dir = folder(&with("stranger"));
    let node = run(dir.path());
    until("the refusal", || node.status().sources[0].state == "failed");
    assert!(node.status().sources[0].reason.contains("certificate"), "{}", node.status().sources[0].reason);
    node.stop().unwrap();
}

#[test]
fn topics_of_single_numbers_become_one_reading() {
    let Some(broker) = mosquitto(false) else { return };
    let rest =
        "topics = [\"plant/+/+\"]\npayload = \"number\"\nchannels = [\"t\", \"p\"]\ngather = \"300ms\"\n";
    let dir = folder(&flow(broker.port, rest));
    let node = run(dir.path());
    until("the connection", || node.status().sources[0].state == "running");
    let say = |topic: &str, payload: &str| {
        broker.publish(Version::V5, &[(format!("plant/1/{topic}"), payload.to_owned())]);
    };
    say("t", "20.5");
    say("p", "1.5");
    say("t", "21.5");
    say("x", "1");
    say("p", "much");
    until("both readings", || values(dir.path(), "plant", "t").len() == 2);
    until("a refusal", || node.status().sources[0].refused >= 1);
    node.stop().unwrap();
    assert_eq!(values(dir.path(), "plant", "t"), [20.5, 21.5]);
    let p = values(dir.path(), "plant", "p");
    assert!(p[0] == 1.5 && p[1].is_nan(), "{p:?}");
    assert!(reasons(dir.path()).contains("no channel \"x\""), "{}", reasons(dir.path()));
}

#[test]
fn uplinks_of_a_lorawan_network_have_the_networks_time() {
    let Some(broker) = mosquitto(false) else { return };
    let rest = "payload = \"chirpstack\"\ndevices = { north = \"24e124136b502217\" }\n\
        values = { moisture = \"soil.moisture\", rssi = \"rssi\" }\n\
        [rule.dry]\ninputs = [\"source.plant\"]\nwhen = \"plant.north_moisture < 20\"\n";
    let dir = folder(&flow(broker.port, rest));
    let node = run(dir.path());
    until("the connection", || node.status().sources[0].state == "running");
    let now = jiff::Timestamp::from_millisecond(System::new().wall_ms()).unwrap();
    let uplink = format!(
        "{{\"time\":\"{now}\",\"deviceInfo\":{{\"devEui\":\"24e124136b502217\",\"deviceName\":\"n\"}},\
         \"fCnt\":1,\"fPort\":2,\"object\":{{\"soil\":{{\"moisture\":12.5}}}},\"rxInfo\":[{{\"rssi\":-90,\"snr\":7}}]}}"
    );
    let topic = "application/5c/device/24e124136b502217/event/up";
    broker.publish(Version::V5, &[(topic.to_owned(), uplink)]);
    until("the decision", || !records(dir.path(), "decisions").is_empty());
    let decision = &records(dir.path(), "decisions")[0];
    assert_eq!(decision["at_ms"].as_i64(), Some(now.as_millisecond()));
    assert_eq!(decision["value"].as_f64(), Some(12.5));
    node.stop().unwrap();
}

/// Where the process of a node that is to be killed finds its folder.
const FOLDER: &str = "PLANT_NODE";

/// Not a test: the process that [`a_node_that_is_killed_loses_nothing`] kills.
#[test]
fn a_node_to_be_killed() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let _node = run(std::path::Path::new(&dir));
    loop {
        std::thread::park();
    }
}

#[test]
fn a_node_that_is_killed_loses_nothing() {
    let Some(broker) = mosquitto(false) else { return };
    let dir = folder(&flow(broker.port, "topics = [\"plant/#\"]\nvalues = { n = \"n\" }\n"));
    let begin = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mqtt::a_node_to_be_killed"])
            .env(FOLDER, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut node = begin();
    until("the connection", || reasons(dir.path()).contains("1 channels"));
    for round in 0..5u64 {
        let messages: Vec<(String, String)> = (round * 400..(round + 1) * 400)
            .map(|n| ("plant/pump".to_owned(), format!("{{\"n\":{n}}}")))
            .collect();
        broker.publish(Version::V5, &messages);
        // As the kernel does it when memory is short, in the middle of what is under way.
        node.kill().unwrap();
        node.wait().unwrap();
        node = begin();
    }
    until("all messages", || counted(&values(dir.path(), "plant", "n")).len() == 2_000);
    node.kill().unwrap();
    node.wait().unwrap();
    let counts = counted(&values(dir.path(), "plant", "n"));
    let twice = counts.values().filter(|count| **count > 1).count();
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (0..2_000).collect::<Vec<_>>());
    eprintln!("killed 5 times: 2000 messages, none lost, {twice} came more than once");
}
