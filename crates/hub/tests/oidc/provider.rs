//! At a provider that nobody here wrote: `oidc-provider-mock` from PyPI, in Python (`SELVEDGE_PYTHON`).

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use wire::world::System;

use crate::browser::{Browser, hub_at};

struct Provider {
    process: Child,
    url: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Provider {
    /// `None`, and says so, where there is none.
    async fn start() -> Option<Provider> {
        let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
        let has =
            Command::new(&python).args(["-c", "import oidc_provider_mock"]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            println!("skipped: signing in elsewhere: oidc-provider-mock is not there (set SELVEDGE_PYTHON)");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&python);
        command.args(["-m", "oidc_provider_mock", "--port", &port.to_string(), "--require-nonce", "true"]);
        for claims in [
            r#"{"sub": "7", "preferred_username": "Ann", "groups": ["staff", "fleet"]}"#,
            r#"{"sub": "8", "preferred_username": "eve", "groups": ["staff"]}"#,
            r#"{"sub": "9", "preferred_username": "ann", "groups": ["fleet"]}"#,
        ] {
            command.args(["--user-claims", claims]);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let provider = Provider { process, url: format!("http://127.0.0.1:{port}") };
        let metadata = format!("{}/.well-known/openid-configuration", provider.url);
        for _ in 0..300 {
            if Client::new().get(&metadata).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Some(provider);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the provider does not begin");
    }

    /// Signs `subject` in and gives what the browser goes back with.
    async fn sign_in(browser: &mut Browser, subject: &str) -> (String, String) {
        let (url, asked) = browser.begin().await;
        assert_eq!(asked["redirect_uri"], "https://hub.example.org/login/oidc/callback");
        let form = browser.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        let answer = form.body(format!("sub={subject}")).send().await.unwrap();
        let back = reqwest::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        let word = |name: &str| back.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        (word("code"), word("state"))
    }
}

#[tokio::test]
async fn people_sign_in_at_a_provider_of_others() {
    let Some(provider) = Provider::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let hub = hub_at(&provider.url, folder.path(), System::new()).await;
    let mut ann = Browser::new(&hub);
    let (_, _, page) = ann.get("/login").await;
    assert!(page.contains("/login/oidc") && page.contains("Example &#38; Sons"), "{page}");
    assert_eq!(ann.get("/nodes").await.0, 303, "nobody is let in yet");
    let (code, state) = Provider::sign_in(&mut ann, "7").await;
    let (status, page) = ann.back(&[("code", &code), ("state", &state)]).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(ann.me().await, "operator:ann operator");
    // Once: the browser is back.
    let (status, page) = ann.back(&[("code", &code), ("state", &state)]).await;
    assert!(status == 403 && page.contains("(state-wrong)"), "{status} {page}");

    let refused = async |subject: &str, word: &str| {
        let mut browser = Browser::new(&hub);
        let (code, state) = Provider::sign_in(&mut browser, subject).await;
        let (status, page) = browser.back(&[("code", &code), ("state", &state)]).await;
        assert!(status == 403 && page.contains(word), "{status} {page}");
        assert_eq!(browser.me().await, "- -");
    };
    refused("8", "no-role").await;
    // Another person whom the provider calls so, too.
    refused("9", "another operator of your name").await;
    // And the first one again, from another browser.
    let mut again = Browser::new(&hub);
    let (code, state) = Provider::sign_in(&mut again, "7").await;
    assert_eq!(again.back(&[("code", &code), ("state", &state)]).await.0, 200);
    assert_eq!(again.me().await, "operator:ann operator");
    hub.stop().await;
}
