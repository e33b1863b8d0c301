//! The client that the TUF conformance suite drives (its CLIENT-CLI.md): our update machine over plain HTTP on loopback.
//!
//! ```sh
//! tuf_client --metadata-dir D init ROOT
//! tuf_client --metadata-url U --metadata-dir D refresh
//! tuf_client --metadata-url U --metadata-dir D --target-name P --target-dir T --target-base-url B download
//! ```
//!
//! Unlike a node it takes every kind of key, judges by the clock alone, and keeps what it trusts as a file for each role,
//! because the suite looks there. It is for the suite and nothing else: a node keeps its trust in one file, fail-closed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use package::trust::Policy;
use package::trust::hex::to_hex;
use package::trust::key::KindSet;
use package::trust::metadata::{RoleName, TargetFile, quote};
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, Want, step};
use wire::world::{Clock, System};

fn main() -> Result<()> {
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        match word.strip_prefix("--") {
            Some(name) => {
                let value = arguments.next().with_context(|| format!("--{name} needs a value"))?;
                options.entry(name.to_owned()).or_default().push(value);
            }
            None => words.push(word),
        }
    }
    let option = |name: &str| {
        let value = options.get(name).and_then(|values| values.first()).cloned();
        value.with_context(|| format!("--{name} is missing"))
    };
    let folder = PathBuf::from(option("metadata-dir")?);
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["init", root] => {
            std::fs::create_dir_all(&folder)?;
            std::fs::copy(root, folder.join("root.json"))?;
            Ok(())
        }
        ["refresh"] => {
            let mut client = Client::open(&folder, &option("metadata-url")?)?;
            client.update(Want::Refresh).map(drop)
        }
        ["download"] => {
            let mut client = Client::open(&folder, &option("metadata-url")?)?;
            let (base, into) = (option("target-base-url")?, PathBuf::from(option("target-dir")?));
            std::fs::create_dir_all(&into)?;
            for path in options.get("target-name").into_iter().flatten() {
                let found = client.update(Want::Target(path.clone()))?;
                let target = found.with_context(|| format!("no role names {path}"))?;
                client.download(&base, path, &target, &into)?;
            }
            Ok(())
        }
        _ => bail!("expected init ROOT, refresh or download"),
    }
}

struct Client {
    folder: PathBuf,
    url: String,
    policy: Policy,
    trusted: Trusted,
    clock: System,
}

impl Client {
    /// Trusts what the folder holds, as far as it verifies.
    fn open(folder: &Path, url: &str) -> Result<Client> {
        let kinds = KindSet::all();
        let file = |role: &str| std::fs::read(folder.join(format!("{role}.json"))).ok();
        let mut trusted = Trusted::of_root(&file("root").context("no root.json")?, &kinds)?;
        if let Some(bytes) = file("timestamp") {
            trusted.timestamp = trusted.verify_timestamp(&bytes, &kinds).ok().map(Arc::new);
        }
        if let Some(bytes) = file("snapshot") {
            trusted.snapshot = trusted.verify_snapshot(&bytes, &kinds).ok().map(Arc::new);
        }
        if let Some(bytes) = file("targets") {
            trusted.targets = trusted.verify_targets(&bytes, &kinds).ok().map(Arc::new);
        }
        let names: Vec<String> = match &trusted.snapshot {
            Some(snapshot) => snapshot.body.meta.keys().cloned().collect(),
            None => Vec::new(),
        };
        for role in names.iter().filter_map(|name| RoleName::delegated(name.strip_suffix(".json")?)) {
            if let Some(bytes) = file(&quote(role.as_str())) {
                trusted.delegated.insert(role, bytes.into());
            }
        }
        let policy = Policy { kinds, floor: false, ..Policy::default() };
        Ok(Client { folder: folder.to_owned(), url: url.to_owned(), policy, trusted, clock: System::new() })
    }

    /// Carries an update out; the target's description, if one was wanted and found.
    fn update(&mut self, want: Want) -> Result<Option<TargetFile>> {
        let clock_ms = self.clock.wall_ms();
        let update = Update::new(self.trusted.clone(), self.policy.clone());
        let (mut update, mut effects) = step(update, Event::Begin(want), clock_ms);
        while let Some(effect) = effects.pop() {
            let event = match effect {
                Effect::Done(Outcome::Fresh | Outcome::NoTarget) => return Ok(None),
                Effect::Done(Outcome::Target(target)) => return Ok(Some(target)),
                Effect::Done(Outcome::Failed(error)) => return Err(error.into()),
                Effect::Persist(trusted) => match self.keep(&trusted) {
                    Ok(()) => {
                        self.trusted = trusted;
                        Event::Persisted
                    }
                    Err(error) => Event::NotPersisted { why: error.to_string() },
                },
                Effect::Fetch { file, max_bytes } => {
                    match get(&format!("{}/{file}", self.url.trim_end_matches('/')), max_bytes) {
                        Ok(Some(bytes)) => Event::Got { file, bytes },
                        Ok(None) => Event::Absent { file },
                        Err(error) => Event::Failed { file, why: format!("{error:#}") },
                    }
                }
            };
            (update, effects) = step(update, event, clock_ms);
        }
        bail!("the update stopped without an outcome")
    }

    /// Writes each role's bytes where the suite looks; a role that is not trusted any more goes.
    fn keep(&self, trusted: &Trusted) -> Result<()> {
        let delegated = trusted.delegated.iter().map(|(role, bytes)| (quote(role.as_str()), Some(bytes)));
        let top = [
            ("root", Some(&trusted.root.bytes)),
            ("timestamp", trusted.timestamp.as_ref().map(|role| &role.bytes)),
            ("snapshot", trusted.snapshot.as_ref().map(|role| &role.bytes)),
            ("targets", trusted.targets.as_ref().map(|role| &role.bytes)),
        ];
        let top = top.map(|(role, bytes)| (role.to_owned(), bytes));
        for (role, bytes) in delegated.chain(top) {
            let path = self.folder.join(format!("{role}.json"));
            match bytes {
                Some(bytes) => {
                    let beside = self.folder.join("new");
                    std::fs::write(&beside, bytes)?;
                    std::fs::rename(&beside, &path)?;
                }
                None if path.exists() => std::fs::remove_file(&path)?,
                None => {}
            }
        }
        Ok(())
    }

    fn download(&self, base: &str, path: &str, target: &TargetFile, into: &Path) -> Result<()> {
        let file = into.join(quote(path));
        if std::fs::read(&file).is_ok_and(|bytes| target.check(&bytes).is_ok()) {
            return Ok(());
        }
        let hash = target.hashes.sha256.map(|hash| to_hex(&hash));
        let hash = hash.or_else(|| target.hashes.sha512.map(|hash| to_hex(&hash)));
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let name = match hash.filter(|_| self.trusted.root.body.consistent_snapshot) {
            Some(hash) => format!("{hash}.{name}"),
            None => name.to_owned(),
        };
        let segments = folder.split('/').filter(|segment| !segment.is_empty()).chain([&*name]);
        let url = segments
            .fold(base.trim_end_matches('/').to_owned(), |url, segment| format!("{url}/{}", quote(segment)));
        let bytes = get(&url, target.length)?.with_context(|| format!("no {url}"))?;
        target.check(&bytes).with_context(|| format!("{url} is not the target"))?;
        std::fs::write(file, bytes)?;
        Ok(())
    }
}

/// A file over HTTP/1.0; `None` for 403 and 404. A longer one is an error.
fn get(url: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let rest = url.strip_prefix("http://").context("only http:// URLs")?;
    let (host, path) = rest.split_once('/').context("a URL without path")?;
    let mut stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(max_bytes.saturating_add(16 << 10)).read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no HTTP answer")?;
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
    let body = answer.split_off(head + 4);
    match text.split(' ').nth(1) {
        Some("200") => {}
        Some("403" | "404") => return Ok(None),
        status => bail!("{url} answers {status:?}"),
    }
    ensure!(body.len() as u64 <= max_bytes, "{url} is longer than {max_bytes} bytes");
    Ok(Some(body))
}
