//! The people's door with TLS, and sessions that any replica takes.

use hub::config::HubConfig;
use hub::config::people::TlsConfig;
use hub::server::{Hub, HubError};
use reqwest::{Client, Method};
use rustls::pki_types::CertificateDer;
use wire::world::Simulated;

use crate::door::{Stand, certificate};

const TOKEN: &str = "0123456789abcdef";

fn config(stand: &std::path::Path, data: &str, tls: &TlsConfig) -> HubConfig {
    std::fs::write(stand.join("token"), TOKEN).unwrap();
    let mut config = HubConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: stand.join(data),
        token_file: Some(stand.join("token")),
        tls: Some(tls.clone()),
        ..HubConfig::default()
    };
    config.identity.keys = Some(stand.join("keys"));
    config
}

fn client(believed: &CertificateDer<'static>) -> Client {
    let root = reqwest::Certificate::from_der(believed).unwrap();
    let redirects = reqwest::redirect::Policy::none();
    Client::builder().tls_certs_only([root]).redirect(redirects).build().unwrap()
}

#[tokio::test]
async fn people_come_over_tls_and_stay_signed_in_wherever_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, believed) = certificate(folder.path(), 41);
    let start = async |data: &str, seed: u64| {
        // Each replica draws what it draws for itself; the clock is one.
        Hub::start(config(folder.path(), data, &tls), Simulated::new(seed)).await.unwrap()
    };
    let first = start("one", 1).await;
    assert!(first.url().starts_with("https://127.0.0.1:"));
    let http = client(&believed);
    let plain = Client::new().get(first.url().replace("https", "http")).send().await;
    assert!(plain.is_err(), "nothing is said in the open");
    let form = http.post(format!("{}/login", first.url()));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body(format!("token={TOKEN}")).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Secure") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = async |http: &Client, url: String| {
        let page = http.get(format!("{url}/nodes")).header("cookie", &cookie).header("accept", "text/html");
        page.send().await.unwrap().status().as_u16()
    };
    assert_eq!(page(&http, first.url()).await, 200);
    let second = start("two", 2).await;
    assert_eq!(page(&http, second.url()).await, 200, "another replica");
    first.stop().await;
    let first = start("one", 3).await;
    assert_eq!(page(&http, first.url()).await, 200, "the same one, started again");

    // Half of another pair is none: the one before goes on. Then the other half comes.
    let key = std::fs::read(&tls.key).unwrap();
    let (_, next) = certificate(folder.path(), 42);
    let next_key = std::fs::read(&tls.key).unwrap();
    std::fs::write(&tls.key, key).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_eq!(page(&client(&believed), first.url()).await, 200);
    std::fs::write(&tls.key, next_key).unwrap();
    for wait in 0.. {
        let seen = client(&next).get(format!("{}/health", first.url())).send().await;
        if seen.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        assert!(wait < 100, "another certificate is seen");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(client(&believed).get(first.url()).send().await.is_err(), "the one before is gone");
    first.stop().await;
    second.stop().await;

    std::fs::write(&tls.key, "nothing").unwrap();
    let refused = Hub::start(config(folder.path(), "one", &tls), Simulated::new(1)).await;
    assert!(matches!(refused, Err(HubError::People(_))));
}

#[tokio::test]
async fn where_others_can_reach_it_nothing_is_said_in_the_open() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(folder.path(), 41);
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let config = HubConfig { listen: everywhere, tls: None, ..config(folder.path(), "hub", &tls) };
    let refused = Hub::start(config.clone(), Simulated::new(1)).await.err().unwrap().to_string();
    assert!(refused.contains("without TLS") && refused.contains("behind_proxy"), "{refused}");
    let hub = Hub::start(HubConfig { behind_proxy: true, ..config }, Simulated::new(1)).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_may_be_open_to_its_machine_and_know_its_nodes() {
    let stand = Stand::set(1, tempfile::tempdir().unwrap(), |config| config.open = true).await;
    assert_eq!(stand.admin, "", "nobody has to be made");
    let (status, me) = stand.ask("", Method::GET, "/api/v1/me", None).await;
    assert_eq!((status, me["role"].as_str()), (200, Some("admin")));
    let device = stand.enrolled("pump-7", 1).await;
    // What nodes do, nodes do.
    let url = "/api/v1/checkin";
    let said = stand.ask("", Method::POST, url, Some(serde_json::json!({}))).await;
    assert_eq!((said.0, said.1["error"]["code"].as_str()), (403, Some("only-nodes")));
    let asked = device.client(&stand).get(format!("{}/api/v1/me", stand.nodes_url())).send().await.unwrap();
    assert_eq!(asked.status().as_u16(), 403);
    stand.hub.stop().await;
}
