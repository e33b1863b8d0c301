//! A hub, a package, and a client that pushes it as `package::registry` says. For the tests of the registry.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use hub::config::HubConfig;
use hub::server::{Hub, Running};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::Annotations;
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::ModelName;
use package::registry::{Reference, RepoName, Told, Upload, UploadStep};
use reqwest::{Method, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::world::System;

pub async fn hub(change: impl FnOnce(&mut HubConfig)) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = HubConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: folder.path().to_owned(),
        ..HubConfig::default()
    };
    change(&mut config);
    (Hub::start(config, System::new()).await.unwrap(), folder)
}

pub fn repo(name: &str) -> RepoName {
    RepoName::new(name).unwrap()
}

/// Bytes that are like nothing else, the same for a seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// A release with two variants and who made each.
pub struct Package {
    pub blobs: Vec<Vec<u8>>,
    pub manifests: Vec<Vec<u8>>,
    pub index: Vec<u8>,
}

impl Package {
    pub fn new(model: &str, release: u64, weights_bytes: usize) -> Package {
        let (mut blobs, mut manifests) = (vec![b"{}".to_vec()], Vec::new());
        let (mut variants, mut provenance) = (Vec::new(), Vec::new());
        for (seed, name) in ["q8_0", "q4_k_m"].into_iter().enumerate() {
            let mut layer = |role: Role, path: &str, bytes: Vec<u8>| {
                let layer = Descriptor::of(role.media_type(), &bytes);
                blobs.push(bytes);
                layer.with(media::FILEPATH, path).with(media::ROLE, role.word())
            };
            let config = Descriptor::of(media::MODEL_CONFIG, b"{}");
            let mut manifest = Manifest::new(media::MODEL_MANIFEST, config);
            manifest.layers = vec![
                layer(Role::Weights, "model.gguf", noise(seed as u64 + release, weights_bytes >> seed)),
                layer(Role::Card, "README.md", format!("{model} as {name}").into_bytes()),
            ];
            let notes = [
                (media::FORM, "1"),
                (media::MODEL, model),
                (media::RELEASE, &release.to_string()),
                (media::VARIANT, name),
                (media::KIND, "lm"),
                (media::RUNTIME, "lm"),
                (media::REQUIRES_RAM, "1000"),
                (media::REQUIRES_DISK, "1000"),
                (media::REQUIRES_ISA, if seed == 0 { "x86_64+avx2" } else { "any" }),
                (media::REQUIRES_ACCELERATOR, "none"),
                (media::REQUIRES_SELVEDGE, "0.1.0"),
            ];
            let notes = notes.map(|(key, value)| (key.to_owned(), value.to_owned()));
            manifest.annotations = Annotations::from(notes);
            let variant = Variant::of(&manifest).unwrap();
            let bundle = format!("{{\"bundle\":\"of {name}\"}}").into_bytes();
            let made =
                Manifest::provenance(&Descriptor::of(media::SIGSTORE_BUNDLE, &bundle), &variant.manifest);
            blobs.push(bundle);
            let mut entry = Descriptor::of(media::OCI_MANIFEST, &made.to_bytes());
            entry.artifact_type.clone_from(&made.artifact_type);
            manifests.extend([manifest.to_bytes(), made.to_bytes()]);
            variants.push(variant);
            provenance.push(entry);
        }
        let model = ModelName::new(model).unwrap();
        let annotations = Annotations::from([(media::OCI_VERSION.to_owned(), release.to_string())]);
        let index = Release { model, release, variants, provenance, annotations }.to_bytes();
        Package { blobs, manifests, index }
    }
}

pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub token: Option<String>,
}

impl Client {
    pub fn of(hub: &Running) -> Client {
        Client { http: reqwest::Client::new(), url: hub.url(), token: None }
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let url = if path.starts_with('/') { format!("{}{path}", self.url) } else { path.to_owned() };
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[], Vec::new()).await
    }

    /// Pushes a blob in pieces; gives how many bytes went.
    pub async fn push_blob(&self, name: &RepoName, bytes: &[u8], piece_bytes: u64) -> u64 {
        let mut upload = Upload::new(name, Digest::of(bytes), bytes.len() as u64, piece_bytes);
        let mut sent = 0;
        loop {
            let answer = match upload.step().clone() {
                UploadStep::Done => return sent,
                UploadStep::Look { path } => self.ask(Method::HEAD, &path, &[], Vec::new()).await,
                UploadStep::Begin { path } => self.ask(Method::POST, &path, &[], Vec::new()).await,
                UploadStep::Ask { location } => self.get(&location).await,
                UploadStep::Finish { location } => self.ask(Method::PUT, &location, &[], Vec::new()).await,
                UploadStep::Send { location, range } => {
                    let place = format!("{}-{}", range.start, range.end - 1);
                    let piece = bytes[range.start as usize..range.end as usize].to_vec();
                    sent += piece.len() as u64;
                    self.ask(Method::PATCH, &location, &[("content-range", &place)], piece).await
                }
            };
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let status = answer.status().as_u16();
            upload.take(Told { status, location: header("location"), range: header("range") }).unwrap();
        }
    }

    pub async fn put_manifest(&self, name: &RepoName, reference: &str, bytes: &[u8]) -> Response {
        let path = name.manifest(&Reference::parse(reference).unwrap());
        let kind = match bytes.windows(12).any(|part| part == b"\"manifests\":") {
            true => media::OCI_INDEX,
            false => media::OCI_MANIFEST,
        };
        self.ask(Method::PUT, &path, &[("content-type", kind)], bytes.to_vec()).await
    }

    pub async fn push(&self, name: &RepoName, tag: &str, package: &Package) {
        for blob in &package.blobs {
            self.push_blob(name, blob, 4 << 20).await;
        }
        for manifest in &package.manifests {
            let digest = Digest::of(manifest).to_string();
            assert_eq!(self.put_manifest(name, &digest, manifest).await.status(), 201);
        }
        assert_eq!(self.put_manifest(name, tag, &package.index).await.status(), 201);
    }
}

/// The status and the words of a refusal.
pub async fn refusal(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let errors: serde_json::Value = answer.json().await.unwrap();
    (status, errors["errors"][0]["code"].as_str().unwrap().to_owned())
}

/// A request that announces what it does not send; the head of the answer, if the connection is not cut at once.
pub async fn announce(hub: &Running, request: &str, body: &[u8], cut: bool) -> String {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    stream.write_all(format!("{request}\r\nhost: {}\r\n\r\n", hub.addr).as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![0; 1000];
    let came = if cut { 0 } else { stream.read(&mut answer).await.unwrap() };
    String::from_utf8_lossy(&answer[..came]).into_owned()
}
