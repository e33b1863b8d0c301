//! Rollouts by the API: a plan goes in, its documents are signed elsewhere, and only what follows from it is handed out.

use hub::rollout::documents;
use hub::rollout::plan::{Gate, Plan, Target, Wave};
use hub::rollout::text;
use package::name::ModelName;
use package::trust::canonical::{Value, canonical, parse, to_json};
use package::trust::sign::{HybridSigner, Signer};
use reqwest::Method;
use serde_json::{Value as Json, json};
use wire::hash::Hash;

use crate::pushing::{Client, Package, hub, repo};
use crate::tuf::{DAY_MS, House, key, put_all, role};

pub(crate) fn target(release: u64, index: &[u8]) -> Target {
    let (model, size) = (ModelName::new("smollm2").unwrap(), index.len() as u64);
    Target { model, release, index: Hash::of(index), size, variant: None }
}

pub(crate) fn plan(what: Target, revert: Target, created_ms: i64) -> Plan {
    let wave = |to| Wave { to, gate: Gate { min_reports: 1, ..Gate::of_first_wave() } };
    let made_ms = created_ms / 1000 * 1000;
    let mut plan = Plan::to_all(vec![what], vec![revert], "operator:everybody", made_ms);
    plan.group = "name ~ \"pump-*\"".to_owned();
    (plan.waves, plan.valid_s) = (vec![wave(2047), wave(2048)], 86_400);
    plan.salt = text::salt(&plan);
    plan
}

/// As `selvedge rollout sign` does it.
pub(crate) fn sign(value: &Value, signer: &HybridSigner) -> String {
    let signature = signer.sign(&canonical(value)).unwrap();
    let signatures = Value::List(vec![signature]);
    let signed = Value::object([("signed", value.clone()), ("signatures", signatures)]);
    String::from_utf8(to_json(&signed)).unwrap()
}

pub(crate) async fn ask(client: &Client, method: Method, path: &str, body: Vec<u8>) -> (u16, Json) {
    let headers = [("content-type", "application/json")];
    let answer = client.ask(method, &format!("/api/v1{path}"), &headers, body).await;
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn check_in(client: &Client, hub: Option<&str>) -> Json {
    let said = json!({"v": 1, "node": "pump-1", "journal": "00000000000000000000000000000001",
        "boot": "00000000000000000000000000000002", "version": "0.1.0", "uptime_ms": 1, "wall_ms": 0,
        "clock": "unchecked", "hub": hub});
    let (status, answer) = ask(client, Method::POST, "/checkin", said.to_string().into()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn only_what_follows_from_the_plan_and_is_signed_is_taken_and_handed_out() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let mut house = House::new(7 * DAY_MS);
    let package = Package::new("smollm2", 7, 1000);
    client.push(&repo("smollm2"), "7", &package).await;
    let plan = plan(target(7, &package.index), target(6, b"six"), house.now_ms);
    let bytes = text::write(&plan);
    let id = text::id(&plan).to_string();
    // Told what it is before it can be anything.
    let (status, answer) = ask(&client, Method::POST, "/plans", bytes.clone()).await;
    assert_eq!((status, &answer["id"], &answer["documents"]), (200, &json!(id), &json!(5)), "{answer}");
    assert!(answer["problems"][0].as_str().unwrap().contains("no targets are published"), "{answer}");
    assert_eq!(ask(&client, Method::POST, "/rollouts", bytes.clone()).await.0, 400);
    assert_eq!(ask(&client, Method::POST, "/plans", b"{}".to_vec()).await.0, 400);
    house.delegate("assignments", 10, "assignments/*");
    for target in [&plan.what[0], &plan.revert[0]] {
        let path = format!("models/smollm2/{}", target.release);
        let facts = (target.size, target.index);
        house.repository.add_target(&role("targets"), &path, facts, None, house.now_ms).unwrap();
    }
    house.sign("targets", &[4]);
    let files = house.publish();
    put_all(&client, &house, &files).await;
    for _ in 0..2 {
        let (status, answer) = ask(&client, Method::POST, "/rollouts", bytes.clone()).await;
        assert_eq!(
            (status, &answer["phase"], &answer["revision"]),
            (201, &json!("draft"), &json!(0)),
            "{answer}"
        );
    }

    // What is signed is what the hub says, or what anybody reckons from the plan.
    let at = format!("/rollouts/{id}");
    let (_, listed) = ask(&client, Method::GET, &format!("{at}/documents"), Vec::new()).await;
    let planned = documents::of(&plan);
    let values: Vec<Value> = planned.iter().map(|one| one.value.clone()).collect();
    for (document, value) in listed["documents"].as_array().unwrap().iter().zip(&values) {
        assert_eq!(parse(document["value"].to_string().as_bytes()).as_ref(), Ok(value));
        assert_eq!(document["signed"], json!(false));
    }
    let put = async |documents: &[String]| {
        let body = format!("{{\"documents\":[{}]}}", documents.join(","));
        let (status, answer) = ask(&client, Method::PUT, &format!("{at}/documents"), body.into()).await;
        let why = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
        (status, why, answer)
    };
    let (status, why, _) = put(&[sign(&values[0], &key(4))]).await;
    assert!(status == 400 && why.contains("signature"), "{status} {why}");
    let mut wider = values[0].clone();
    wider.as_object_mut().unwrap().insert("subject".into(), values[2].get("subject").unwrap().clone());
    let (status, why, _) = put(&[sign(&wider, &key(10))]).await;
    assert!(status == 400 && why.contains("subject differs"), "{status} {why}");
    assert_eq!(put(&[]).await.0, 400);
    let signed: Vec<String> = values.iter().map(|value| sign(value, &key(10))).collect();
    let (status, why, answer) = put(&signed).await;
    assert_eq!((status, why.as_str(), &answer["phase"]), (200, "", &json!("ready")));

    // Nothing goes out before somebody says so, and who looked at an older state is told of the newer.
    let order = async |order: &str, revision: Json| {
        let body = json!({"do": order, "why": "it is time", "revision": revision}).to_string();
        ask(&client, Method::POST, &format!("{at}/order"), body.into()).await
    };
    let ours = check_in(&client, None).await["hub"].as_str().unwrap().to_owned();
    assert_eq!(check_in(&client, Some(&ours)).await["desired"], Json::Null);
    let (status, answer) = order("start", json!(0)).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("stale")));
    let newest = answer["rollout"]["revision"].clone();
    let (status, answer) = order("start", newest).await;
    assert_eq!((status, &answer["phase"], &answer["wave"]), (200, &json!("running"), &json!(1)), "{answer}");
    let (status, answer) = order("start", Json::Null).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("not-now")));
    assert_eq!(order("dance", Json::Null).await.0, 400);

    // A program that understands gets it, byte for byte, and is counted.
    assert_eq!(check_in(&client, None).await["desired"], Json::Null, "an older program");
    let desired = check_in(&client, Some(&ours)).await["desired"].clone();
    assert_eq!(desired["documents"], json!([serde_json::from_str::<Json>(&signed[0]).unwrap()]));
    assert_eq!(check_in(&client, Some(&ours)).await["desired"], desired);
    let (_, members) = ask(&client, Method::GET, &format!("{at}/members?standing=offered"), Vec::new()).await;
    assert_eq!(
        (&members["members"][0]["node"], members["members"].as_array().unwrap().len()),
        (&json!("pump-1"), 1)
    );
    let (_, view) = ask(&client, Method::GET, &at, Vec::new()).await;
    assert_eq!((&view["members"], &view["plan"]["note"]), (&json!({"offered": 1}), &json!("")));
    assert_eq!(view["plan"].to_string().len(), bytes.len());
    let (_, evidence) = ask(&client, Method::GET, &format!("{at}/evidence"), Vec::new()).await;
    assert_eq!(evidence["now"], json!("waits"));
    let (_, why) = ask(&client, Method::GET, &format!("{at}/why/pump-1"), Vec::new()).await;
    assert_eq!(why["why"], json!("it is offered, and gets wave 1 unless it says that it has it"));
    assert_eq!(ask(&client, Method::GET, &format!("{at}/why/pump-2"), Vec::new()).await.0, 404);
    let (_, listed) = ask(&client, Method::GET, &format!("{at}/documents"), Vec::new()).await;
    let released: Vec<bool> =
        listed["documents"].as_array().unwrap().iter().map(|it| it["released_ms"].is_i64()).collect();
    assert_eq!(released, [true, false, false, false, false], "the next waves wait");
    let (_, page) = ask(&client, Method::GET, "/rollouts?phase=running&limit=1", Vec::new()).await;
    assert_eq!((&page["rollouts"][0]["id"], &page["next_after"]), (&json!(id), &json!(id)));
    let (_, page) = ask(&client, Method::GET, &format!("/rollouts?after={id}"), Vec::new()).await;
    assert_eq!(page, json!({"rollouts": [], "next_after": null}));
    let (_, audit) =
        ask(&client, Method::GET, &format!("/audit?about={id}&act=rollout.start"), Vec::new()).await;
    let entry = &audit["entries"][0];
    assert_eq!((&entry["who"], &entry["entry"]["why"]), (&json!("operator:everybody"), &json!("it is time")));
    assert_eq!(ask(&client, Method::GET, "/rollouts/00", Vec::new()).await.0, 404);
    hub.stop().await;
}
