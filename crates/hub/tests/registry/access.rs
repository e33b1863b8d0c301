//! Who may push and pull: whoever has the token, shown as tools of the field show it.

use package::digest::Digest;
use reqwest::Method;

use crate::pushing::{Client, hub, refusal, repo};

#[tokio::test]
async fn the_token_is_a_password() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "0123456789abcdef").unwrap();
    let (hub, _folder) = hub(|config| config.token_file = Some(secret.path().to_owned())).await;
    let mut client = Client::of(&hub);
    let answer = client.get("/v2/").await;
    assert_eq!(answer.headers()["www-authenticate"], "Basic realm=\"selvedge\", charset=\"UTF-8\"");
    assert_eq!(refusal(answer).await, (401, "UNAUTHORIZED".into()));
    let answer = client.ask(Method::POST, "/v2/a/blobs/uploads/", &[], Vec::new()).await;
    assert_eq!(answer.status(), 401);
    let basic = async |password: &str| {
        let url = format!("{}/v2/", hub.url());
        let request = client.http.get(url).basic_auth("anybody", Some(password));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(basic("0123456789abcdef").await, 200);
    assert_eq!(basic("0123456789abcdeg").await, 401);
    client.token = Some("0123456789abcdef".into());
    client.push_blob(&repo("a"), b"abc", 1 << 20).await;
    let answer = client.get(&format!("/v2/a/blobs/{}", Digest::of(b"abc"))).await;
    let keep = answer.headers()["cache-control"].to_str().unwrap();
    assert!(keep.starts_with("private"), "no cache between hands it to others: {keep}");
    hub.stop().await;
}
