//! Approved releases as the hub shows them: what they are made of, and which nodes could take them.

use package::digest::Digest;
use reqwest::Method;
use serde_json::{Value, json};

use crate::pushing::{Client, Package, hub, repo};
use crate::tuf::{DAY_MS, House, put, role};

async fn ask(client: &Client, path: &str) -> Value {
    let answer = client.ask(Method::GET, path, &[("accept", "application/json")], Vec::new()).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

async fn page(client: &Client, path: &str) -> String {
    let answer = client.ask(Method::GET, path, &[("accept", "text/html")], Vec::new()).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.unwrap()
}

/// Checks a node in that says this of itself.
pub(crate) async fn tell(client: &Client, node: &str, seed: u8, set: Value) {
    let checkin = json!({
        "v": 1, "node": node, "journal": format!("{seed:032x}"), "boot": format!("{:032x}", seed + 100),
        "version": "0.1.0", "uptime_ms": 1, "wall_ms": 1, "clock": "unchecked",
        "inventory": {"seq": 1, "base": 0, "set": set},
    });
    let body = checkin.to_string().into_bytes();
    let json = [("content-type", "application/json")];
    assert_eq!(client.ask(Method::POST, "/api/v1/checkin", &json, body).await.status(), 200);
}

#[tokio::test]
async fn approved_releases_and_who_could_take_them() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    assert_eq!(ask(&client, "/api/v1/releases").await, json!({"releases": [], "targets_version": null}));

    let package = Package::new("smollm2", 7, 1000);
    client.push(&repo("models/smollm2"), "7", &package).await;
    let mut house = House::new(DAY_MS);
    let described = (package.index.len() as u64, Digest::of(&package.index).hash());
    house.repository.add_target(&role("targets"), "models/smollm2/7", described, None, house.now_ms).unwrap();
    house.delegate("acme", 11, "models/acme/*");
    house.repository.add_target(&role("acme"), "models/acme/3", described, None, house.now_ms).unwrap();
    // Nobody trusted that role with this path.
    house.repository.add_target(&role("acme"), "models/other/4", described, None, house.now_ms).unwrap();
    house.sign("acme", &[11]);
    house.sign("targets", &[4]);
    for file in house.publish() {
        assert!(put(&client, &file, &house.files[&file]).await.0 < 300, "{file}");
    }

    let here = json!({"ram": 2000, "disk": 5000, "arch": "x86_64", "isa": ["avx2"], "version": "0.1.0"});
    tell(&client, "a", 1, here.clone()).await;
    let arm = json!({"ram": 2000, "disk": 5000, "arch": "aarch64", "model.smollm2": 7, "version": "0.1.0"});
    tell(&client, "b", 2, arm).await;
    let small = json!({"ram": 500, "disk": 5000, "arch": "aarch64", "version": "0.1.0"});
    tell(&client, "c", 3, small).await;

    let all = ask(&client, "/api/v1/releases").await;
    let found: Vec<_> =
        all["releases"].as_array().unwrap().iter().map(|it| (&it["model"], &it["role"])).collect();
    assert_eq!(found, [(&json!("acme"), &json!("acme")), (&json!("smollm2"), &json!("targets"))]);
    assert_eq!((&all["releases"][1]["here"], &all["releases"][1]["nodes"]), (&json!(true), &json!(1)));
    let one = ask(&client, "/api/v1/releases/smollm2/7").await;
    assert_eq!((&one["variants"][1]["variant"], &one["provenance"]), (&json!("q4_k_m"), &json!(2)));
    assert_eq!(one["signed_by"].as_array().unwrap().len(), 1);
    let files = one["variants"][0]["files"].as_array().unwrap();
    assert_eq!((&files[0]["role"], &files[1]["path"]), (&json!("weights"), &json!("README.md")));
    let coverage = ask(&client, "/api/v1/releases/smollm2/7/coverage").await;
    assert_eq!((&coverage["nodes"], &coverage["none"]), (&json!(3), &json!(1)));
    assert_eq!(coverage["lacks"][0]["find"], "!(ram >= 1000)");
    let of_arm =
        ask(&client, "/api/v1/releases/smollm2/7/coverage?where=arch%20%3D%3D%20%22aarch64%22").await;
    assert_eq!(of_arm["nodes"], 2);
    for (path, status) in [
        ("/api/v1/releases/smollm2/8", 404),
        ("/api/v1/releases/smollm2/x", 404),
        ("/api/v1/releases/smollm2/7/coverage?where=%3D", 400),
        ("/packages/smollm2/8", 404),
    ] {
        assert_eq!(client.ask(Method::GET, path, &[], Vec::new()).await.status(), status, "{path}");
    }
    assert!(page(&client, "/packages").await.contains("/packages/smollm2/7"));
    let card = page(&client, "/packages/smollm2/7").await;
    for says in ["q4_k_m", "x86_64+avx2", "less than 1 MiB memory", "none fits"] {
        assert!(card.contains(says), "the card does not say {says:?}");
    }
    assert!(page(&client, "/packages/smollm2/7?where=a%20%3D").await.contains("^"));
    hub.stop().await;
}
