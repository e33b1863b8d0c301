//! A hub that lost its database and kept its keys: who knocks is shown, and let in by an admin; who follows the hub that it was gets
//! nothing until somebody says so.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use wire::world::Clock as _;

use crate::door::{Device, Stand, told};
use crate::fleet::FakeNode;

/// A check-in that names the hub which it follows.
async fn check_in(stand: &Stand, device: &Device, hub: &str) -> (u16, Value) {
    let node = FakeNode::with(device.client(stand), &stand.nodes_url(), "pump-7", 7);
    let mut checkin = node.checkin(stand.world.wall_ms());
    (checkin.hub, checkin.revision) = (Some(hub.to_owned()), Some(40));
    let body = serde_json::to_vec(&checkin).unwrap();
    told(node.post("/api/v1/checkin", "application/json", body).await).await
}

async fn recovery(stand: &Stand) -> Value {
    stand.ask(&stand.admin, Method::GET, "/api/v1/recovery", None).await.1
}

#[tokio::test]
async fn keys_of_our_authority_are_let_in_and_nodes_of_the_hub_before_are_believed() {
    let before = Stand::new().await;
    let device = before.enrolled("pump-7", 1).await;
    let stand = Stand::restored(&before, 2).await;
    assert_eq!(recovery(&stand).await["behind"], false);
    assert_eq!(check_in(&stand, &device, "before").await.0, 401);
    let mut view = recovery(&stand).await;
    for _ in 0..100 {
        if view["keys"].as_array().is_some_and(|keys| !keys.is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        view = recovery(&stand).await;
    }
    assert_eq!((&view["keys"][0]["node"], &view["behind"]), (&json!("pump-7"), &json!(true)), "{view:#}");
    let ask = |body| stand.ask(&stand.admin, Method::POST, "/api/v1/recovery", Some(body));
    assert_eq!(ask(json!({})).await.0, 400, "it asks for nothing");
    let (status, done) = ask(json!({ "all_keys": true, "why": "a new disk" })).await;
    assert_eq!((status, &done["keys"]), (200, &json!(1)), "{done}");

    // It follows the hub that this one was: nothing for it, and nothing is learnt of it, until somebody believes it.
    let (status, answer) = check_in(&stand, &device, "before").await;
    assert_eq!((status, &answer["paused"]), (200, &json!("hub-behind")), "{answer}");
    let view = recovery(&stand).await;
    assert!(view["ahead"][0]["why"].as_str().unwrap().contains("another hub"), "{view:#}");
    let (_, done) = ask(json!({ "adopt": true })).await;
    assert_eq!(done["nodes"], 1, "{done}");
    let (_, answer) = check_in(&stand, &device, "before").await;
    assert_eq!(answer["paused"], Value::Null, "{answer}");
    let view = recovery(&stand).await;
    assert_eq!((&view["behind"], &view["count"]), (&json!(false), &json!(0)), "{view:#}");
}
