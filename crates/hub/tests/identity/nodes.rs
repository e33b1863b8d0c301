//! A node's life with its certificate, from the code to the day it is denied; and who is not let in.

use package::trust::canonical;
use package::trust::key::PublicKey;
use reqwest::Method;
use serde_json::json;
use wire::batch::BatchAnswer;
use wire::class::Class;
use wire::hash::Hash;
use wire::identity::time_message;
use wire::world::Clock as _;

use crate::door::{DAY_MS, Device, Stand, told, word};
use crate::fleet::FakeNode;

async fn check_in(stand: &Stand, device: &Device, name: &str) -> (u16, String) {
    let node = FakeNode::with(device.client(stand), &stand.nodes_url(), name, 7);
    let body = serde_json::to_vec(&node.checkin(stand.world.wall_ms())).unwrap();
    word(told(node.post("/api/v1/checkin", "application/json", body).await).await)
}

fn good() -> (u16, String) {
    (200, String::new())
}

fn no(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_node_comes_in_speaks_renews_and_is_denied() {
    let stand = Stand::new().await;
    let mut device = stand.enrolled("pump-7", 1).await;
    assert_eq!(check_in(&stand, &device, "pump-7").await, good());
    let mut node = FakeNode::with(device.client(&stand), &stand.nodes_url(), "pump-7", 7);
    node.write_text("events", Class::Event, "note", 1, "\"here\"");
    let answer = node.send(&node.batch("events", 10)).await;
    assert_eq!(answer.json::<BatchAnswer>().await.unwrap().watermark.seq, 1);

    // In another's name: neither how it is, nor what it wrote.
    let other = stand.enrolled("pump-8", 2).await;
    assert_eq!(check_in(&stand, &other, "pump-7").await, no(403, "other-node"));
    let liar = FakeNode::with(other.client(&stand), &stand.nodes_url(), "pump-8", 8);
    assert_eq!(word(told(liar.send(&node.batch("events", 10)).await).await), no(403, "other-node"));

    // The same key again, and another one; both count until they run out.
    let (status, answer) = device.renew(&stand, &device).await;
    assert_eq!(status, 200, "{answer}");
    device.take(&answer["certificate"]);
    let mut next = Device::new(3);
    let (status, answer) = device.renew(&stand, &next).await;
    assert_eq!(status, 200, "{answer}");
    next.take(&answer["certificate"]);
    assert_eq!(check_in(&stand, &device, "pump-7").await, good());
    assert_eq!(check_in(&stand, &next, "pump-7").await, good());
    assert_eq!(word(device.renew(&stand, &other).await), no(403, "key-refused"));

    // Off for two days: it may renew, and nothing else.
    stand.world.advance_ms(2 * DAY_MS);
    assert_eq!(check_in(&stand, &next, "pump-7").await, no(403, "expired"));
    let held = FakeNode::with(next.client(&stand), &stand.nodes_url(), "pump-7", 7);
    let body = serde_json::to_vec(&held.checkin(1)).unwrap();
    let answer = held.post("/api/v1/checkin", "application/json", body).await;
    assert_eq!(answer.headers()["connection"], "close", "the next certificate needs another connection");
    let (status, answer) = next.renew(&stand, &next).await;
    assert_eq!(status, 200, "{answer}");
    next.take(&answer["certificate"]);
    assert_eq!(check_in(&stand, &next, "pump-7").await, good());

    // Denied: also on the connection that stands.
    let held = FakeNode::with(next.client(&stand), &stand.nodes_url(), "pump-7", 7);
    held.check_in(stand.world.wall_ms()).await;
    let ask = json!({ "node": "pump-7", "why": "stolen" });
    let (status, answer) = stand.ask(&stand.admin, Method::POST, "/api/v1/denied", Some(ask)).await;
    assert_eq!((status, &answer["keys"]), (200, &json!(2)));
    let body = serde_json::to_vec(&held.checkin(1)).unwrap();
    let answer = told(held.post("/api/v1/checkin", "application/json", body).await).await;
    assert_eq!(word(answer), no(403, "denied"));
    assert_eq!(word(next.renew(&stand, &next).await), no(403, "denied"));
    assert_eq!(word(next.renew(&stand, &Device::new(9)).await), no(403, "denied"));

    // And in again.
    let (_, keys) = stand.ask(&stand.admin, Method::GET, "/api/v1/keys?node=pump-7", None).await;
    for key in keys.as_array().unwrap() {
        assert_eq!(key["why"], "stolen");
        let path = format!("/api/v1/denied/{}", key["id"].as_str().unwrap());
        assert_eq!(stand.ask(&stand.admin, Method::DELETE, &path, None).await.0, 204);
    }
    assert_eq!(check_in(&stand, &next, "pump-7").await, good());
    stand.hub.stop().await;
}

#[tokio::test]
async fn who_is_not_let_in() {
    let stand = Stand::new().await;
    let device = Device::new(1);
    let code = stand.code(json!({ "name": "pump-7" })).await;
    let enrol = async |device: &Device, code: &str, name| word(device.enrol(&stand, code, name).await);
    let wrong = format!("00000-00000-00000-00000{}", &code[23..]);
    assert_eq!(enrol(&device, &wrong, None).await, no(403, "code-unknown"));
    assert_eq!(enrol(&device, "hello", None).await, no(400, "bad-code"));
    assert_eq!(enrol(&device, &code, Some("pump-8")).await, no(403, "other-name"));
    assert_eq!(enrol(&device, &code, None).await, no(201, ""));
    // The answer was lost, and is given again; to nobody else.
    assert_eq!(enrol(&device, &code, None).await, no(201, ""));
    assert_eq!(enrol(&Device::new(2), &code, None).await, no(403, "code-used"));

    let late = stand.code(json!({ "minutes": 5 })).await;
    assert_eq!(enrol(&Device::new(3), &late, None).await, no(403, "no-name"));
    stand.world.advance_ms(5 * 60_000);
    assert_eq!(enrol(&Device::new(3), &late, Some("pump-9")).await, no(403, "code-expired"));

    // A name that lives is not taken over, unless an admin says so; then the one before is out.
    let again = stand.code(json!({})).await;
    assert_eq!(enrol(&Device::new(4), &again, Some("pump-7")).await, no(403, "name-taken"));
    let replacing = stand.code(json!({ "name": "pump-7", "replace": true })).await;
    assert_eq!(enrol(&Device::new(4), &replacing, None).await, no(201, ""));
    assert_eq!(enrol(&device, &again, Some("pump-7")).await, no(403, "key-refused"));

    let token = stand.code(json!({ "uses": 2, "approve": false })).await;
    assert!(token.starts_with("T."));
    assert_eq!(enrol(&Device::new(5), &token[2..], Some("a")).await, no(403, "code-unknown"));
    assert_eq!(enrol(&Device::new(5), &token, Some("a")).await, no(201, ""));
    assert_eq!(enrol(&Device::new(6), &token, Some("b")).await, no(201, ""));
    assert_eq!(enrol(&Device::new(7), &token, Some("c")).await, no(403, "code-used"));

    // No certificate, one of another authority, and one that this hub's authority made and its store does not know.
    assert_eq!(check_in(&stand, &Device::new(8), "pump-7").await, no(401, "certificate-needed"));
    let foreign = Stand::with(2).await;
    let stranger = foreign.enrolled("pump-7", 9).await;
    let url = format!("{}/api/v1/checkin", stand.nodes_url());
    assert!(stranger.client(&stand).post(url).send().await.is_err(), "the handshake fails");

    // What belongs to the nodes' door is not to be had elsewhere, whatever the token.
    let ask = json!({ "code": again, "csr": device.csr(), "name": "x" });
    let answer = stand.ask(&stand.admin, Method::POST, "/api/v1/enrol", Some(ask)).await;
    assert_eq!(word(answer), no(403, "nodes-door"));
    let mut plain = FakeNode::new(&stand.hub.url(), "pump-7", 1);
    plain.token = Some(stand.admin.clone());
    let body = serde_json::to_vec(&plain.checkin(1)).unwrap();
    let answer = told(plain.post("/api/v1/checkin", "application/json", body).await).await;
    assert_eq!(word(answer), no(403, "only-nodes"), "no token acts for nodes any more");
    foreign.hub.stop().await;
    stand.hub.stop().await;
}

#[tokio::test]
async fn the_time_is_signed_with_the_asker_s_nonce() {
    let stand = Stand::new().await;
    let code = stand.code(json!({})).await;
    let (_, enrolled) = Device::new(1).enrol(&stand, &code, Some("a")).await;
    let key = canonical::Value::object([
        ("keytype", "ed25519".into()),
        ("scheme", "ed25519".into()),
        ("keyval", canonical::Value::object([("public", enrolled["time_key"].as_str().unwrap().into())])),
    ]);
    let key = PublicKey::read(&key).unwrap();
    let (nonce, url) = (Hash::of(b"nonce"), format!("{}/api/v1/time", stand.nodes_url()));
    let ask = stand.client(None).post(url).json(&json!({ "nonce": nonce }));
    let (status, told) = told(ask.send().await.unwrap()).await;
    assert_eq!((status, &told["hub_ms"]), (200, &json!(stand.world.wall_ms())));
    let signature = canonical::Value::object([("sig", told["signature"].as_str().unwrap().into())]);
    assert!(key.verifies(&time_message(stand.world.wall_ms(), nonce), &signature));
    assert!(!key.verifies(&time_message(stand.world.wall_ms(), Hash::of(b"another")), &signature));
    stand.hub.stop().await;
}
