//! A bucket of a store that speaks S3, on loopback: moto, in Python (`SELVEDGE_PYTHON`). For the tests of the depot.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is not as it should be, and says what it skips"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hub::config::{DepotConfig, S3Config};

const NAME: &str = "models";

pub struct Bucket {
    server: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Bucket {
    /// An empty one; `None`, and says so, where Python or moto is missing.
    pub fn start() -> Option<Bucket> {
        let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hub/tests/bucket/server.py");
        let mut command = Command::new(&python);
        command.arg(script).arg(NAME).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = match command.spawn() {
            Ok(server) => server,
            Err(error) => {
                println!("skipped: the depot in a bucket: {}: {error}", python.display());
                return None;
            }
        };
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let Ok(port) = said.trim().parse::<u16>() else {
            assert_eq!(server.wait().unwrap().code(), Some(3), "{said}");
            println!("skipped: the depot in a bucket: {} (set SELVEDGE_PYTHON)", said.trim());
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let credentials = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s/e+c=\n";
        std::fs::write(folder.path().join("credentials"), credentials).unwrap();
        Some(Bucket { server, url: format!("http://127.0.0.1:{port}"), folder })
    }

    /// A depot in it, of its own.
    pub fn depot(&self, prefix: &str) -> DepotConfig {
        let s3 = S3Config {
            bucket: NAME.into(),
            prefix: prefix.into(),
            endpoint: Some(self.url.clone()),
            region: Some("eu-north-1".into()),
            credentials_file: Some(self.folder.path().join("credentials")),
        };
        DepotConfig { folder: None, s3: Some(s3) }
    }

    /// What the store itself says of the bucket, or of something in it.
    pub async fn ask(&self, method: reqwest::Method, below: &str) -> reqwest::Response {
        let url = format!("{}/{NAME}{below}", self.url);
        reqwest::Client::new().request(method, url).send().await.unwrap()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
