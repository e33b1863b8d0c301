//! A hub whose people sign in elsewhere, and a browser that goes there and back.

use std::collections::HashMap;

use hub::access::who::Role;
use hub::config::HubConfig;
use hub::config::people::OidcConfig;
use hub::server::{Hub, Running};
use reqwest::{Client, Url};
use wire::world::World;

/// A hub whose people sign in at `issuer`.
pub async fn hub_at(
    issuer: &str,
    folder: &std::path::Path,
    world: impl World + Clone + Sync + 'static,
) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = HubConfig { listen: any, data: folder.join("hub"), ..HubConfig::default() };
    std::fs::write(folder.join("secret"), "s/e+c r=et\n").unwrap();
    config.oidc = Some(OidcConfig {
        issuer: issuer.to_owned(),
        client_id: "selvedge".into(),
        client_secret_file: Some(folder.join("secret")),
        // Where a browser would come back; the test itself goes there.
        url: "https://hub.example.org".into(),
        roles: [("fleet".to_owned(), Role::Operator), ("watchers".to_owned(), Role::Viewer)].into(),
        label: "Example & Sons".into(),
        ..OidcConfig::default()
    });
    Hub::start(config, world).await.unwrap()
}

/// A browser that follows nothing by itself.
pub struct Browser {
    pub client: Client,
    hub: String,
    pub cookies: HashMap<String, String>,
}

impl Browser {
    pub fn new(hub: &Running) -> Browser {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, hub: hub.url(), cookies: HashMap::new() }
    }

    /// Asks the hub; status, where it sends the browser, and the page.
    pub async fn get(&mut self, path: &str) -> (u16, Option<String>, String) {
        let shown: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ask = self.client.get(format!("{}{path}", self.hub)).header("cookie", shown.join("; "));
        let answer = ask.header("accept", "text/html").send().await.unwrap();
        for set in answer.headers().get_all("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(set.contains("HttpOnly"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").map(|at| at.to_str().unwrap().to_owned());
        (status, location, answer.text().await.unwrap())
    }

    /// Begins; where the provider is, and what it is asked.
    pub async fn begin(&mut self) -> (Url, HashMap<String, String>) {
        let (status, location, page) = self.get("/login/oidc").await;
        assert_eq!(status, 303, "{page}");
        let url = Url::parse(&location.unwrap()).unwrap();
        let asked = url.query_pairs().into_owned().collect();
        (url, asked)
    }

    /// Comes back with these words.
    pub async fn back(&mut self, words: &[(&str, &str)]) -> (u16, String) {
        let mut url = Url::parse("http://hub/login/oidc/callback").unwrap();
        url.query_pairs_mut().extend_pairs(words);
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let (status, _, page) = self.get(&path).await;
        (status, page)
    }

    /// What the hub takes this browser for.
    pub async fn me(&mut self) -> String {
        let (_, _, me) = self.get("/api/v1/me").await;
        let me: serde_json::Value = serde_json::from_str(&me).unwrap_or_default();
        format!("{} {}", me["name"].as_str().unwrap_or("-"), me["role"].as_str().unwrap_or("-"))
    }
}
