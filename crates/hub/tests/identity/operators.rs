//! Operators, their tokens and sessions: from the first admin on.

use reqwest::{Client, Method};
use serde_json::json;

use crate::door::{Stand, word};

#[tokio::test]
async fn an_admin_gives_roles_and_takes_them() {
    let stand = Stand::new().await;
    let (status, me) = stand.ask(&stand.admin, Method::GET, "/api/v1/me", None).await;
    assert_eq!((status, me), (200, json!({ "name": "operator:first-admin", "role": "admin" })));
    let put = async |token: &str, name: &str, ask: serde_json::Value| {
        let path = format!("/api/v1/operators/{name}");
        word(stand.ask(token, Method::PUT, &path, Some(ask)).await)
    };
    let admin = stand.admin.as_str();
    assert_eq!(put(admin, "first-admin", json!({ "role": "viewer" })).await, (409, "last-admin".into()));
    assert_eq!(put(admin, "token-file", json!({ "role": "viewer" })).await, (400, "bad-name".into()));
    assert_eq!(put(admin, "Ann", json!({ "role": "viewer" })).await, (400, "bad-name".into()));
    assert_eq!(put(admin, "ann", json!({ "role": "king" })).await, (400, "bad-json".into()));
    assert_eq!(put(admin, "ann", json!({ "role": "operator" })).await.0, 204);
    let token = async |ask| stand.ask(admin, Method::POST, "/api/v1/tokens", Some(ask)).await;
    assert_eq!(token(json!({ "operator": "eve" })).await.0, 404);
    let (status, made) = token(json!({ "operator": "ann", "role": "admin", "name": "laptop" })).await;
    assert_eq!(status, 201);
    let ann = made["token"].as_str().unwrap();
    let me = async || stand.ask(ann, Method::GET, "/api/v1/me", None).await;
    assert_eq!(me().await.1["role"], "operator", "no token is worth more than its operator");
    assert_eq!(put(ann, "ann", json!({ "role": "admin" })).await, (403, "role".into()));

    // A session is worth what the token is, and goes with its operator.
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = client.post(format!("{}/login", stand.hub.url()));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let cookie = form.body(format!("token={ann}")).send().await.unwrap().headers()["set-cookie"].clone();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = async || {
        let page = client.get(format!("{}/nodes", stand.hub.url())).header("cookie", &cookie);
        page.send().await.unwrap().status().as_u16()
    };
    assert_eq!(page().await, 200);
    assert_eq!(put(admin, "ann", json!({ "role": "operator", "disabled": true })).await.0, 204);
    assert_eq!((me().await.0, page().await), (401, 401));
    assert_eq!(put(admin, "ann", json!({ "role": "viewer" })).await.0, 204);
    assert_eq!((me().await.1["role"].clone(), page().await), (json!("viewer"), 200));
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(stand.ask(admin, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(stand.ask(admin, Method::DELETE, &path, None).await.0, 404);
    assert_eq!(me().await.0, 401);
    stand.hub.stop().await;
}

#[tokio::test]
async fn the_first_admin_is_made_once() {
    let stand = Stand::new().await;
    let path = stand.folder.path().join("first-admin.token");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    std::fs::remove_file(&path).unwrap();
    let Stand { hub, folder, world, admin, believed } = stand;
    hub.stop().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config =
        hub::config::HubConfig { listen: any, data: folder.path().to_owned(), ..Default::default() };
    let nodes = hub::config::nodes::NodesConfig { listen: any, names: Vec::new(), connections_max: 64 };
    config.nodes = Some(nodes);
    let hub = hub::server::Hub::start(config, world.clone()).await.unwrap();
    assert!(!path.exists());
    let stand = Stand { hub, folder, world, admin, believed };
    assert_eq!(stand.ask(&stand.admin, Method::GET, "/api/v1/me", None).await.0, 200);
    stand.hub.stop().await;
}
