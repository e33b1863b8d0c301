//! What a node is told: `node.toml` and the flow it names, checked once into the types of this file.
//!
//! ```toml
//! [node]
//! name = "pump-station-7"
//! data = "data"               # journal and learnt models; relative to this file
//! flow = "flow.toml"
//! labels = { site = "oslo" }  # which assignments mean it, beside those that name it
//! hub_labels = true           # whether the hub may set others
//! time_zone = "Europe/Oslo"   # of windows; the system's own if absent
//!
//! [hub]                       # absent: no uplink
//! url = "http://hub:8420"
//! token_file = "token"
//! # code_file = "code"         # at an https:// hub: comes in by the code in it at its first start, and removes it
//!
//! [api]                       # absent: no local API
//! listen = "127.0.0.1:8421"
//!
//! [serve]                     # absent: no language models; see `config::serve`
//! models = ["small.gguf"]
//!
//! [packages]                  # absent: no releases; see `config::packages`
//! [trust]
//! root = "root.json"
//!
//! [relay]                     # absent: none; see `config::relay`, as for `via` of [hub]
//! token_file = "relay.token"
//!
//! [neighbours]                # absent: none; see `config::neighbours`
//! peers = ["http://gateway-2:8421"]
//!
//! [params]                    # other values for parameters of the flow
//! limit = 85.0
//! ```

#[cfg(feature = "packages")]
pub mod neighbours;
#[cfg(feature = "packages")]
pub mod packages;
pub mod part;
pub mod policy;
pub mod problem;
pub mod quantity;
pub mod relay;
#[cfg(feature = "packages")]
mod releases;
#[cfg(not(feature = "packages"))]
#[path = "config/no_releases.rs"]
mod releases;
#[cfg(feature = "language")]
pub mod serve;
#[cfg(not(feature = "language"))]
#[path = "config/no_serve.rs"]
pub mod serve;
pub mod token;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;
use wire::id::NodeId;

use crate::flow::Flow;
use crate::flow::params::{Param, Params};
use part::{Effective, Origin, Part, Placed, in_text_order, parse_document};
use policy::PolicyConfig;
use problem::{ConfigErrors, Problems, did_you_mean, read_text};
use quantity::size_bytes;
use relay::{RelayConfig, ViaConfig};
use releases::{Beside, Releases};
use serve::ServeConfig;

use crate::policy::Policy;
use crate::zone::Zone;

/// Everything a node is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Its name in the fleet.
    pub name: NodeId,
    /// The folder of its journal, its learnt models and its packages.
    pub data: PathBuf,
    /// What it is, in the words of whoever assigns: `site = "oslo"`.
    pub labels: BTreeMap<String, String>,
    /// Whether the hub may set labels that are not among these.
    pub hub_labels: bool,
    /// The time that windows are in.
    pub zone: Zone,
    /// Where its records go; absent: nowhere.
    pub hub: Option<HubConfig>,
    /// Its local API; absent: none.
    pub api: Option<ApiConfig>,
    /// The language models it serves; absent: none.
    pub serve: Option<ServeConfig>,
    /// The nodes next to it; absent: none.
    #[cfg(feature = "packages")]
    pub neighbours: Option<neighbours::NeighboursConfig>,
    /// The releases that come to it; absent: none.
    #[cfg(feature = "packages")]
    pub packages: Option<packages::PackagesConfig>,
    /// The door for the nodes behind it; absent: none.
    pub relay: Option<RelayConfig>,
    /// The journal's limits.
    pub journal: JournalConfig,
    /// What of its records leaves the node.
    pub policy: Policy,
    /// What it does.
    pub flow: Flow,
    /// Its own values for parameters of the flow.
    pub params: Params,
    effective: Vec<Effective>,
}

/// The way up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// `http://host:port`.
    pub url: String,
    /// The file whose first line is the token to show.
    pub token_file: Option<PathBuf>,
    /// How the node comes in by itself at its first start.
    pub enrol: Option<EnrolBy>,
    /// The relays on the way there; absent: none.
    pub via: Option<ViaConfig>,
}

/// How a node comes in by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolBy {
    /// By the code or token in this file, which is removed then.
    Code(PathBuf),
    /// By the certificate that its maker gave it.
    Maker {
        /// The certificate, and those between it and the maker's authority, as PEM.
        certificate: PathBuf,
        /// Its key, as PEM.
        key: PathBuf,
        /// The authority of the hub that is meant, as PEM: `ca.pem` of its keys.
        authority: PathBuf,
    },
}

/// The local API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Where it listens. Not a loopback address only with `allow_remote` and a token.
    pub listen: SocketAddr,
    /// The file whose first line is the token to ask for.
    pub token_file: Option<PathBuf>,
    /// Names, beside the address itself and `localhost`, under which clients may ask for it.
    pub hosts: Vec<String>,
}

/// The journal's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// Bytes it may take on disk.
    pub max_bytes: u64,
    /// Bytes it leaves free for others.
    pub min_free_bytes: u64,
}

impl Config {
    /// Reads `node.toml` and its flow. All problems of both files are found at once.
    pub fn load(file: &Path) -> Result<Config, ConfigErrors> {
        let text = read_text(file).map_err(|errors| errors.if_unread(NO_SETTINGS))?;
        let (settings, effective, mut problems) = settings(file, &text);
        let flow = settings.as_ref().map(|settings| {
            let flow = Flow::load_with(&settings.node.flow, &settings.params());
            let flow = flow.map_err(|errors| errors.if_unread(NO_FLOW));
            if let Ok(flow) = &flow {
                check_params(&settings.params, &flow.params, &mut problems);
            }
            flow
        });
        let settings = problems.or(settings);
        match (settings, flow) {
            (Ok(settings), Some(Ok(flow))) => {
                settings.policy_speaks_of(&flow, file, &text)?;
                Ok(settings.with(file, effective, flow))
            }
            (Err(mut errors), Some(Err(more))) => {
                errors.0.extend(more.0);
                Err(errors)
            }
            (Err(errors), _) | (Ok(_), Some(Err(errors))) => Err(errors),
            (Ok(_), None) => unreachable!("a flow is looked for whenever there are settings"),
        }
    }

    /// Reads `node.toml` alone, for who asks a node: it goes on with the flow that it has, whatever stands in the file by now. The
    /// flow in it has no parts.
    pub fn load_without_flow(file: &Path) -> Result<Config, ConfigErrors> {
        let text = read_text(file).map_err(|errors| errors.if_unread(NO_SETTINGS))?;
        let (settings, effective, problems) = settings(file, &text);
        let settings = problems.or(settings)?;
        let flow = Flow::unread(&settings.node.flow);
        Ok(settings.with(file, effective, flow))
    }

    /// Every value in force, with where it came from: `node.toml`, then the flow.
    pub fn effective(&self) -> impl Iterator<Item = &Effective> {
        self.effective.iter().chain(&self.flow.effective)
    }
}

/// `node.toml` without the flow it names.
struct Settings {
    node: NodeTable,
    hub: Option<HubConfig>,
    api: Option<ApiConfig>,
    serve: Option<ServeConfig>,
    releases: Releases,
    relay: Option<RelayConfig>,
    journal: JournalConfig,
    policy: PolicyConfig,
    params: Vec<(String, Range<usize>, Param)>,
}

impl Settings {
    fn params(&self) -> Params {
        self.params.iter().map(|(name, _, param)| (name.clone(), param.clone())).collect()
    }

    /// A policy for a source that is not there would keep nothing in.
    fn policy_speaks_of(&self, flow: &Flow, file: &Path, text: &Arc<str>) -> Result<(), ConfigErrors> {
        let mut problems = Problems::new(file, Arc::clone(text));
        let names = || flow.sources.iter().map(|source| source.name.as_str());
        for source in self.policy.sources().filter(|source| names().all(|name| name != source.as_str())) {
            let at = text.find(&format!("source.{source}")).unwrap_or_default();
            let span = at..at + if at > 0 { "source.".len() + source.as_str().len() } else { 0 };
            let message = format!("the policy speaks of `source.{source}`, which the flow has not");
            problems.add_with_help(span, message, did_you_mean(source.as_str(), names()));
        }
        problems.or(Some(()))
    }

    fn with(self, file: &Path, effective: Vec<Effective>, flow: Flow) -> Config {
        let params = self.params();
        let Settings { node, hub, api, serve, releases, relay, journal, policy, .. } = self;
        #[cfg(feature = "packages")]
        let Releases { packages, neighbours } = releases;
        #[cfg(not(feature = "packages"))]
        let Releases {} = releases;
        let NodeTable { name, data, labels, hub_labels, zone, .. } = node;
        let (file, policy) = (file.to_path_buf(), policy.of(labels.get("region")));
        Config {
            file,
            name,
            data,
            labels,
            hub_labels,
            zone,
            hub,
            api,
            serve,
            #[cfg(feature = "packages")]
            packages,
            #[cfg(feature = "packages")]
            neighbours,
            relay,
            journal,
            policy,
            flow,
            params,
            effective,
        }
    }
}

/// `[node]`.
struct NodeTable {
    name: NodeId,
    data: PathBuf,
    flow: PathBuf,
    labels: BTreeMap<String, String>,
    hub_labels: bool,
    zone: Zone,
}

fn settings(file: &Path, text: &Arc<str>) -> (Option<Settings>, Vec<Effective>, Problems) {
    const TABLES: [&str; 11] = [
        "node",
        "hub",
        "api",
        "serve",
        "packages",
        "trust",
        "neighbours",
        "relay",
        "journal",
        "policy",
        "params",
    ];
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut problems = Problems::new(file, Arc::clone(text));
    let mut effective = Vec::new();
    let (mut node, mut hub, mut api) = (None, None, None);
    let (mut journal, mut policy, mut relay) = (None, None, None);
    let mut params = Vec::new();
    let mut has_node = false;
    let document = parse_document(text, &mut problems);
    if !problems.is_empty() {
        return (None, effective, problems);
    }
    let has_packages = document.keys().any(|key| key.get_ref() == "packages");
    let (mut serve, mut has_server) = (None, false);
    let mut releases = releases::Tables::new();
    for (key, span, value) in in_text_order(document) {
        if !TABLES.contains(&key.as_str()) {
            let help = did_you_mean(&key, TABLES);
            problems.add_with_help(span, format!("a node has no setting `{key}`"), help);
            continue;
        }
        has_node |= key == "node";
        if key == "params" {
            params = read_params(value, &mut problems);
            continue;
        }
        let Some(part) = Part::new(key.clone(), span, value, &mut problems, &mut effective) else { continue };
        match key.as_str() {
            "node" => node = read_node(folder, part),
            "hub" => hub = read_hub(folder, part),
            "api" => api = Some(read_api(folder, part)),
            "serve" => {
                has_server = true;
                serve = serve::read(folder, has_packages, part);
            }
            "packages" | "trust" | "neighbours" => releases.read(folder, part),
            "relay" => relay = Some((part.span.clone(), relay::read(folder, part))),
            "journal" => journal = Some(read_journal(part)),
            _ => policy = Some(policy::read(part)),
        }
    }
    if !has_node {
        problems.add_with_help(
            0..0,
            "there is no `[node]`",
            "begin with `[node]` and `name = \"pump-station-7\"`",
        );
    }
    let beside = Beside { has_api: api.is_some(), has_hub: hub.is_some(), has_server };
    let releases = releases.join(beside, &mut problems);
    if let Some((span, _)) = &relay
        && hub.as_ref().is_none_or(|hub: &HubConfig| !hub.url.starts_with("https://"))
    {
        let message = "`[relay]` is a way to the hub's door for nodes, and there is none";
        let help = "add a `[hub]` whose `url` begins with https://: what goes through a relay is sealed";
        problems.add_with_help(span.clone(), message, help);
    }
    let relay = relay.and_then(|(_, relay)| relay);
    let mut default = |key: &str, value: &str| {
        effective.push(Effective { key: key.to_owned(), value: value.to_owned(), origin: Origin::Default });
    };
    let journal = journal.unwrap_or_else(|| {
        default("journal.max_bytes", &format!("{MAX_BYTES:?}"));
        default("journal.min_free_bytes", &format!("{MIN_FREE_BYTES:?}"));
        let read = |text| size_bytes(text).expect("our own defaults can be read");
        JournalConfig { max_bytes: read(MAX_BYTES), min_free_bytes: read(MIN_FREE_BYTES) }
    });
    let policy = policy.unwrap_or_else(|| {
        default("policy.leaves", policy::LEAVES_SHOWN);
        PolicyConfig::default()
    });
    let settings =
        node.map(|node| Settings { node, hub, api, serve, releases, relay, journal, policy, params });
    (settings, effective, problems)
}

/// What to do where there is no `node.toml` to read.
const NO_SETTINGS: &str = "name the node's settings with --config";
/// What to do where there is no flow to read.
const NO_FLOW: &str = "`flow` of `[node]` names it; `selvedge flow new` writes one";
const MAX_BYTES: &str = "256MiB";
const MIN_FREE_BYTES: &str = "64MiB";

fn read_node(folder: &Path, mut part: Part<'_, '_>) -> Option<NodeTable> {
    part.require_key("name", "\"pump-station-7\"");
    let name = part.take_text("name", |text| NodeId::new(text).map_err(|error| error.to_string()));
    let data = part.take_or("data", "data".to_owned(), "\"data\"").value;
    let flow = part.take_or("flow", "flow.toml".to_owned(), "\"flow.toml\"").value;
    let labels = part.take::<BTreeMap<String, String>>("labels").map(|placed| placed.value);
    let hub_labels = part.take_or("hub_labels", true, "true").value;
    let zone = part.take_text("time_zone", Zone::parse).map(|placed| placed.value);
    part.finish();
    let (data, flow) = (folder.join(data), folder.join(flow));
    let (labels, zone) = (labels.unwrap_or_default(), zone.unwrap_or_else(Zone::of_the_system));
    Some(NodeTable { name: name?.value, data, flow, labels, hub_labels, zone })
}

fn read_hub(folder: &Path, mut part: Part<'_, '_>) -> Option<HubConfig> {
    part.require_key("url", "\"http://hub:8420\"");
    let url = part.take_text("url", |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err(format!("{text:?} is no address: it begins with http:// or https:// and names a host")),
        }
    });
    let mut file = |key| part.take::<PathBuf>(key).map(|placed| (placed.span, folder.join(placed.value)));
    let token_file = file("token_file").map(|(_, file)| file);
    let code = file("code_file");
    let made = [file("factory_cert"), file("factory_key"), file("authority")];
    let enrol = match (code, made) {
        (Some((_, code)), [None, None, None]) => Some(EnrolBy::Code(code)),
        (None, [None, None, None]) => None,
        (None, [Some((_, certificate)), Some((_, key)), Some((_, authority))]) => {
            Some(EnrolBy::Maker { certificate, key, authority })
        }
        (code, made) => {
            let span = code.into_iter().chain(made.into_iter().flatten()).map(|(span, _)| span).next();
            let help = "write `code_file`, or all of `factory_cert`, `factory_key` and `authority`";
            part.problem(span.unwrap_or_default(), "this is not one way to come in", help);
            None
        }
    };
    let is_sealed = url.as_ref().is_none_or(|url| url.value.starts_with("https://"));
    let via = relay::read_via(folder, &mut part, is_sealed);
    part.finish();
    Some(HubConfig { url: url?.value, token_file, enrol, via })
}

fn read_api(folder: &Path, mut part: Part<'_, '_>) -> ApiConfig {
    let listen = part.take_text_or("listen", "127.0.0.1:8421", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("{text:?} is no address and port such as \"127.0.0.1:8421\""))
    });
    let remote = part.take_or("allow_remote", false, "false").value;
    let token_file = part.take::<PathBuf>("token_file").map(|placed| folder.join(placed.value));
    let hosts = part.take_or("hosts", Vec::new(), "[]").value;
    let Placed { value: listen, span } = listen;
    let guarded = remote && token_file.is_some();
    if !guarded && !listen.ip().is_loopback() {
        let message = format!("{listen} can be reached from other machines");
        let help = "listen on 127.0.0.1, or set `allow_remote = true` and a `token_file`";
        part.problem(span, message, help);
    }
    part.finish();
    ApiConfig { listen, token_file, hosts }
}

fn read_journal(mut part: Part<'_, '_>) -> JournalConfig {
    let max = part.take_text_or("max_bytes", MAX_BYTES, size_bytes);
    let min_free_bytes = part.take_text_or("min_free_bytes", MIN_FREE_BYTES, size_bytes).value;
    if max.value < 1 << 20 {
        part.problem(max.span, "`max_bytes` is below 1 MiB: it would hold nothing", "write \"256MiB\"");
    }
    part.finish();
    JournalConfig { max_bytes: max.value, min_free_bytes }
}

/// `[params]`: what they mean is seen when the flow is there.
fn read_params(value: Spanned<DeValue<'_>>, problems: &mut Problems) -> Vec<(String, Range<usize>, Param)> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        problems.add_with_help(span, "`params` must be a table", "write `[params]` on a line of its own");
        return Vec::new();
    };
    let mut params = Vec::new();
    for (name, span, value) in in_text_order(table) {
        let written = problems.text_at(&value.span()).to_owned();
        match Param::of(value.get_ref(), &written) {
            Some(param) => params.push((name, span, param)),
            None => {
                let message = format!("the parameter `{name}` is no text, number, true or false");
                problems.add_with_help(value.span(), message, "write `limit = 80.0`");
            }
        }
    }
    params
}

/// A node's own value is of the same kind as the flow's, for a parameter that the flow has.
fn check_params(own: &[(String, Range<usize>, Param)], flow: &Params, problems: &mut Problems) {
    for (name, span, param) in own {
        match flow.get(name) {
            None => {
                let help = did_you_mean(name, flow.keys().map(String::as_str));
                problems.add_with_help(span.clone(), format!("the flow has no parameter `{name}`"), help);
            }
            Some(other) if other.kind() != param.kind() => {
                let message = format!("the flow's `{name}` is {}, this is {}", other.kind(), param.kind());
                problems.add_with_help(span.clone(), message, format!("write it as `{}`", other.written()));
            }
            Some(_) => {}
        }
    }
}
