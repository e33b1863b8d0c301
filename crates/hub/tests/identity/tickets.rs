//! Tokens: several nodes come in by one, and a person looks at each.

use reqwest::Method;
use serde_json::{Value, json};

use crate::door::{Device, Stand, word};

async fn tickets(stand: &Stand) -> Vec<Value> {
    let (status, tickets) = stand.ask(&stand.admin, Method::GET, "/api/v1/tickets", None).await;
    assert_eq!(status, 200, "{tickets}");
    tickets.as_array().unwrap().clone()
}

async fn order(stand: &Stand, id: &str, what: &str) -> (u16, Value) {
    let path = format!("/api/v1/tickets/{id}/{what}");
    stand.ask(&stand.admin, Method::POST, &path, Some(json!({ "why": "seen on the bench" }))).await
}

fn good() -> (u16, String) {
    (201, String::new())
}

fn no(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_person_looks_at_each_node_of_a_token() {
    let stand = Stand::new().await;
    let ask = json!({ "uses": 2, "pattern": "pump-*", "labels": { "site": "oslo" } });
    let token = stand.code(ask).await;
    let (one, two, three) = (Device::new(1), Device::new(2), Device::new(3));
    assert_eq!(word(one.enrol(&stand, &token, Some("fan-1")).await), no(403, "other-name"));
    assert_eq!(word(one.enrol(&stand, &token, None).await), no(403, "no-name"));
    let (status, waits) = one.enrol(&stand, &token, Some("pump-1")).await;
    assert_eq!((status, &waits["retry_s"]), (202, &json!(2)));
    let ticket = waits["ticket"].as_str().unwrap();
    // Asked again in either way, it is the same ticket; and it is nobody else's.
    assert_eq!(one.enrol(&stand, &token, Some("pump-1")).await.1["ticket"], ticket);
    stand.world.advance_ms(60_000);
    assert_eq!(one.asks_again(&stand, ticket).await, (202, json!({ "ticket": ticket, "retry_s": 15 })));
    assert_eq!(word(two.asks_again(&stand, ticket).await), no(404, "not-found"));
    assert_eq!(word(one.asks_again(&stand, "x").await), no(404, "not-found"));

    let waiting = tickets(&stand).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!((&waiting[0]["node"], &waiting[0]["id"]), (&json!("pump-1"), &json!(ticket)));
    assert_eq!(waiting[0]["labels"], json!({ "site": "oslo" }));
    let (status, admitted) = order(&stand, ticket, "admit").await;
    assert_eq!((status, &admitted["state"]), (200, &json!("admitted")));
    assert_eq!(order(&stand, ticket, "admit").await.0, 200, "told twice");
    assert_eq!(word(order(&stand, ticket, "refuse").await), no(409, "settled"));
    assert_eq!(word(order(&stand, "x", "admit").await), no(404, "not-found"));
    let (status, answer) = one.asks_again(&stand, ticket).await;
    assert_eq!((status, &answer["node"]), (201, &json!("pump-1")));
    assert_eq!(word(one.asks_again(&stand, ticket).await), good(), "an answer that was lost");
    assert_eq!(word(one.enrol(&stand, &token, Some("pump-1")).await), good());
    let facts = stand.ask(&stand.admin, Method::GET, "/api/v1/nodes/pump-1/facts", None).await.1;
    assert_eq!(facts["set_here"]["set"], json!({ "site": "oslo" }));

    // Who is refused stays out, and uses nothing.
    let (_, waits) = two.enrol(&stand, &token, Some("pump-2")).await;
    let refused = waits["ticket"].as_str().unwrap();
    assert_eq!(order(&stand, refused, "refuse").await.0, 200);
    assert_eq!(word(two.asks_again(&stand, refused).await), no(403, "refused"));
    assert_eq!(word(two.enrol(&stand, &token, Some("pump-2")).await), no(403, "refused"));

    // A name that lives is nobody else's, whoever waits for it.
    assert_eq!(word(three.enrol(&stand, &token, Some("pump-1")).await), no(403, "name-taken"));
    let mut waiting = Vec::new();
    for (device, name) in [(&three, "pump-3"), (&Device::new(4), "pump-3"), (&Device::new(5), "pump-5")] {
        let (status, waits) = device.enrol(&stand, &token, Some(name)).await;
        assert_eq!(status, 202, "{waits}");
        waiting.push(waits["ticket"].as_str().unwrap().to_owned());
    }
    // Nobody looked before the token ran out; the one who asked in time is admitted still.
    stand.world.advance_ms(2 * 3_600_000);
    assert_eq!(word(Device::new(6).enrol(&stand, &token, Some("pump-6")).await), no(403, "code-expired"));
    assert_eq!(order(&stand, &waiting[0], "admit").await.0, 200);
    assert_eq!(word(three.asks_again(&stand, &waiting[0]).await), good());
    assert_eq!(word(order(&stand, &waiting[1], "admit").await), no(409, "code-used"));
    let (_, all) = stand.ask(&stand.admin, Method::GET, "/api/v1/enrolments", None).await;
    assert_eq!((&all[0]["used"], &all[0]["approve"]), (&json!(2), &json!(true)));

    // A token that is taken back takes with it who waits by it.
    let path = format!("/api/v1/enrolments/{}", all[0]["id"].as_str().unwrap());
    assert_eq!(stand.ask(&stand.admin, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(tickets(&stand).await, Vec::<Value>::new());
    let (_, log) = stand.ask(&stand.admin, Method::GET, "/api/v1/audit", None).await;
    let told = log.to_string();
    for act in ["ticket.admit", "ticket.refuse", "enrolment.make"] {
        assert!(told.contains(act), "{act} in {told}");
    }
    stand.hub.stop().await;
}

#[tokio::test]
async fn what_a_token_cannot_be() {
    let stand = Stand::new().await;
    for (ask, code) in [
        (json!({ "pattern": "pump-*" }), "bad-pattern"),
        (json!({ "uses": 2, "pattern": "*-*" }), "bad-pattern"),
        (json!({ "uses": 2, "labels": { "": "x" } }), "bad-labels"),
        (json!({ "uses": 2, "name": "a" }), "token-with-name"),
        (json!({ "uses": 0 }), "out-of-range"),
        (json!({ "name": "a", "replace": true, "approve": true }), "replace-with-approve"),
    ] {
        let answer = stand.ask(&stand.admin, Method::POST, "/api/v1/enrolments", Some(ask)).await;
        assert_eq!(word(answer), no(400, code));
    }
    // A code for one may wait for a person, too.
    let code = stand.code(json!({ "name": "a", "approve": true })).await;
    assert_eq!(Device::new(1).enrol(&stand, &code, None).await.0, 202);
    stand.hub.stop().await;
}
