//! Who may do what, as a table that a person reads: every route for everybody who may come. `tests/golden/matrix.txt`.

use std::fmt::Write as _;
use std::time::Duration;

use hub::access::rules::{Needs, RULES};
use hub::access::session::Sealer;
use hub::access::who::Role;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use wire::class::Class;
use wire::world::Clock as _;
use zeroize::Zeroizing;

use crate::door::{DAY_MS, Stand, certificate, told};
use crate::fleet::FakeNode;

/// Somebody who asks: a client, where, and a token or a cookie.
struct Caller {
    name: &'static str,
    client: Client,
    url: String,
    token: Option<String>,
    cookie: Option<String>,
}

#[tokio::test]
async fn every_route_for_everybody() {
    // Both doors speak TLS, so that a node's certificate can be shown at the wrong one.
    let folder = tempfile::tempdir().unwrap();
    let (tls, believed) = certificate(folder.path(), 31);
    let mut stand = Stand::set(1, folder, |config| config.tls = Some(tls)).await;
    stand.believed = Some(believed);
    let old = stand.enrolled("old", 1).await;
    let ask = json!({ "role": "admin" });
    assert_eq!(stand.ask(&stand.admin, Method::PUT, "/api/v1/operators/a-late", Some(ask)).await.0, 204);
    let ask = json!({ "operator": "a-late", "days": 1 });
    let (_, late) = stand.ask(&stand.admin, Method::POST, "/api/v1/tokens", Some(ask)).await;
    assert!(late["token"].is_string(), "{late}");
    stand.world.advance_ms(2 * DAY_MS);
    let (itself, other, denied) = (
        stand.enrolled("itself", 2).await,
        stand.enrolled("other", 3).await,
        stand.enrolled("denied", 4).await,
    );
    let ask = json!({ "node": "denied" });
    assert_eq!(stand.ask(&stand.admin, Method::POST, "/api/v1/denied", Some(ask)).await.0, 200);

    let person =
        |name, token| Caller { name, client: stand.client(None), url: stand.hub.url(), token, cookie: None };
    let mut callers = vec![
        person("nobody", None),
        person("wrong token", Some(format!("svt_0000000000_{}", "0".repeat(40)))),
    ];
    for role in ["viewer", "operator", "approver", "admin", "disabled"] {
        let (as_role, path) =
            (if role == "disabled" { "admin" } else { role }, format!("/api/v1/operators/a-{role}"));
        let ask = json!({ "role": as_role });
        assert_eq!(stand.ask(&stand.admin, Method::PUT, &path, Some(ask)).await.0, 204);
        let ask = json!({ "operator": format!("a-{role}") });
        let (_, made) = stand.ask(&stand.admin, Method::POST, "/api/v1/tokens", Some(ask)).await;
        callers.push(person(role, made["token"].as_str().map(str::to_owned)));
    }
    let ask = json!({ "role": "admin", "disabled": true });
    assert_eq!(stand.ask(&stand.admin, Method::PUT, "/api/v1/operators/a-disabled", Some(ask)).await.0, 204);
    callers.push(person("late token", late["token"].as_str().map(str::to_owned)));
    let strange = Sealer::new(Zeroizing::new([7; 32]), true);
    let cookie = strange.cookie("a-admin", Role::Admin, stand.world.wall_ms() / 1000);
    callers.push(Caller { cookie: Some(cookie), ..person("strange cookie", None) });
    callers.push(Caller { client: itself.client(&stand), ..person("node's cert", None) });
    let foreign = Stand::with(2).await;
    let foreigner = foreign.enrolled("itself", 5).await;
    let nodes = [
        ("no cert", stand.client(None)),
        ("itself", itself.client(&stand)),
        ("other", other.client(&stand)),
        ("expired", old.client(&stand)),
        ("denied", denied.client(&stand)),
        ("foreign CA", foreigner.client(&stand)),
    ];
    for (name, client) in nodes {
        callers.push(Caller { name, client, url: stand.nodes_url(), token: None, cookie: None });
    }

    let mut table = String::from(
        "Who may do what. `+` is let through to the route itself, 401 is asked who it is; a word is the code of a refusal,\n\
         in capitals in the registry's own words; `-` is no connection. The first ten come to the people's door, the others to\n\
         the nodes'.\n\n",
    );
    let width = 15;
    let _ = write!(table, "{:<62}", "");
    callers.iter().for_each(|caller| _ = write!(table, "{:<width$}", caller.name));
    table.push('\n');
    for (method, route, _) in RULES {
        let _ = write!(table, "{:<62}", format!("{method} {route}"));
        for caller in &callers {
            let said = ask_as(&stand, caller, method, route).await;
            let _ = write!(table, "{said:<width$}");
        }
        while table.ends_with(' ') {
            table.pop();
        }
        table.push('\n');
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == table,
        "who may do what changed:\n{table}\nif that is meant: UPDATE_GOLDEN=1 cargo test -p hub --test identity"
    );
    foreign.hub.stop().await;
    stand.hub.stop().await;
}

/// What the guard says, or the route itself where it asks who is there.
async fn ask_as(stand: &Stand, caller: &Caller, method: &str, route: &str) -> String {
    let path = route.replace("{*path}", "a/b").replace("{name}", "x").replace("{file}", "1.root.json");
    let path = path.replace("{node}", "itself").replace(['{', '}'], "");
    let request = caller.client.request(method.parse().unwrap(), format!("{}{path}", caller.url));
    let request = match &caller.token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let request = match &caller.cookie {
        Some(cookie) => request.header("cookie", cookie.split(';').next().unwrap()),
        None => request,
    };
    // What `itself` would say, whoever says it.
    let mut node = FakeNode::new("", "itself", 2);
    let request = match (method, route) {
        ("POST", "/api/v1/checkin") => request.json(&node.checkin(stand.world.wall_ms())),
        ("POST", "/api/v1/records") => {
            node.write_text("events", Class::Event, "note", 1, "1");
            let json = serde_json::to_vec(&node.batch("events", 1)).unwrap();
            let request = request.header("content-type", wire::batch::CONTENT_TYPE);
            request.body(zstd::encode_all(&json[..], 3).unwrap())
        }
        ("GET", "/api/v1/wait") => request.timeout(Duration::from_secs(1)),
        ("GET", _) => request,
        _ => request.json(&json!({})),
    };
    let answer = match request.send().await {
        // It was let through, and waits for news.
        Err(error) if error.is_timeout() && route == "/api/v1/wait" => return "+".to_owned(),
        Err(_) => return "-".to_owned(),
        Ok(answer) => answer,
    };
    let status = answer.status().as_u16();
    if !matches!(status, 401 | 403) {
        return "+".to_owned();
    }
    match told(answer).await.1 {
        // The page that asks for a token again, which everybody may see.
        Value::String(_) => "+".to_owned(),
        body => {
            let ours = body["error"]["code"].as_str();
            match ours.or_else(|| body["errors"][0]["code"].as_str()).unwrap_or("?") {
                "token-needed" | "certificate-needed" | "UNAUTHORIZED" => "401".to_owned(),
                word => word.to_owned(),
            }
        }
    }
}

#[test]
fn the_description_and_the_rules_know_the_same_routes() {
    let description = serde_json::to_value(hub::api::description::description()).unwrap();
    let mut described = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.push((method.to_uppercase(), path.clone()));
        }
    }
    for (method, path) in &described {
        let ruled = RULES.iter().any(|(m, p, _)| m == method && p == path);
        assert!(ruled, "{method} {path} is described and has no rule");
    }
    for (method, path, needs) in RULES.iter().filter(|(_, path, _)| path.starts_with("/api/v1/")) {
        let known = described.iter().any(|(m, p)| m == method && p == path);
        assert!(known, "{method} {path} has a rule ({needs:?}) and is not described");
    }
    let open = RULES.iter().filter(|(_, _, needs)| *needs == Needs::Nothing);
    assert_eq!(open.count(), 9, "what everybody may do is counted by hand");
}
