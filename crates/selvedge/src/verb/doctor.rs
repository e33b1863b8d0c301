//! `selvedge doctor`: what is wrong with this machine's node, and what to do about it.

use std::io::{IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::config::token::read_token;
use node::config::{ApiConfig, Config};
use node::doctor::case::Case;
use node::doctor::examine;
use node::doctor::finding::{Finding, Level};
use node::doctor::live::Live;
use node::pressure::look::look;
use wire::world::{Clock as _, System};

/// Where `selvedge node install` and the Debian package put a node's settings.
const INSTALLED: &str = "/etc/selvedge/node.toml";

/// The local API, which is on this machine, has so long to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// The hub's door has so long to open.
const HUB: Duration = Duration::from_secs(5);

/// The largest answer of the local API that is read.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// Explain what is wrong with this machine's node and what to do about it, whether it runs or not.
///
/// Changes nothing. Ends with 0 if nothing needs somebody, with 1 if something does.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's settings; without it `node.toml` here, or else `/etc/selvedge/node.toml`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// See whether the hub's door opens, too.
    #[arg(long)]
    hub: bool,

    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

/// Something needs somebody; the page says what.
#[derive(Debug, thiserror::Error)]
#[error("{0} of what was looked at {verb} somebody", verb = if *.0 == 1 { "needs" } else { "need" })]
pub(crate) struct Unwell(usize);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let file = args.config.clone().unwrap_or_else(|| {
        let here = PathBuf::from("node.toml");
        if here.exists() { here } else { PathBuf::from(INSTALLED) }
    });
    let found = match Config::load(&file) {
        Ok(config) => page(&config, args.hub),
        Err(_) if args.config.is_none() && !file.exists() => {
            let help = "`selvedge node install` makes this machine a node; settings elsewhere: --config FILE";
            let says = format!("there is no node.toml here, and no {INSTALLED}");
            vec![Finding::wrong("settings", says, help)]
        }
        Err(errors) => {
            let mut found: Vec<Finding> = errors.0.iter().map(|error| of_settings(&file, error)).collect();
            // The node may run all the same, with the flow from before.
            if let Ok(config) = Config::load_without_flow(&file) {
                let rest = beside(&config, args.hub);
                let told = found.iter().any(|finding| finding.about == "settings");
                found.extend(rest.into_iter().filter(|finding| !told || finding.about != "settings"));
            }
            found
        }
    };
    let mut out = std::io::stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &found)?;
        writeln!(out)?;
    } else {
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        write!(out, "{}", write(&found, colours))?;
    }
    match found.iter().filter(|finding| finding.level == Level::Wrong).count() {
        0 => Ok(()),
        wrong => Err(Unwell(wrong).into()),
    }
}

fn of_settings(file: &Path, error: &node::config::problem::ConfigError) -> Finding {
    let line = error.text.get(..error.span.start).map(|before| before.matches('\n').count() + 1);
    let line =
        line.filter(|_| !error.text.is_empty()).map_or_else(String::new, |line| format!(", line {line}"));
    let says = format!("{}{line}: {}", error.file.display(), error.message);
    if error.text.is_empty() {
        let mend = error.help.clone().unwrap_or_else(|| "see to the file".to_owned());
        return Finding::wrong(if error.file == file { "settings" } else { "flow" }, says, mend);
    }
    let mend = error.help.as_ref().map_or_else(String::new, |help| format!("{help} "));
    let (about, see) = if error.file == file {
        ("settings", format!("selvedge node --config {} --show-config", file.display()))
    } else {
        ("flow", format!("selvedge flow check --config {}", file.display()))
    };
    Finding::wrong(about, says, format!("{mend}(at its place: {see})"))
}

/// The rest of the page where the flow's file is wrong, which was told.
fn beside(config: &Config, ask_hub: bool) -> Vec<Finding> {
    let mut found = page(config, ask_hub);
    for finding in found.iter_mut().filter(|finding| finding.about == "flow") {
        let help = "mend the file: the node looks at it every second, and takes it once it is good";
        *finding = Finding::note("flow", "the node goes on with the flow that it had before", help);
    }
    found
}

fn page(config: &Config, ask_hub: bool) -> Vec<Finding> {
    let live = config.api.as_ref().map(ask);
    let seen = look(Path::new("/"), existing(&config.data));
    let mut found = examine(&Case { config, live, seen, now_ms: System::new().wall_ms() });
    if let Some(hub) = config.hub.as_ref().filter(|_| ask_hub) {
        let via = hub.via.as_ref();
        found.extend(via.iter().flat_map(|via| &via.relays).map(|relay| knock("relay's door", relay)));
        if via.is_none_or(|via| via.direct) {
            found.push(knock("hub's door", &hub.url));
        }
    }
    found
}

/// The folder, or the one above it that is there: they are on one disk.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
}

/// What the running node says of itself.
fn ask(api: &ApiConfig) -> Result<Live, String> {
    let token = api.token_file.as_deref().map(read_token).transpose().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let words = |error: reqwest::Error| {
        let error = error.without_url();
        let mut words = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            words = cause.to_string();
            source = cause.source();
        }
        words
    };
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(ANSWER).no_proxy().build().map_err(words)?;
        let mut request = client.get(format!("http://{}/v1/state", api.listen));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(words)?;
        if !response.status().is_success() {
            return Err(format!("it answers with {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(words)? {
            if body.len() + piece.len() > ANSWER_MAX_BYTES {
                return Err("its answer has no end".to_owned());
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
    })
}

/// Whether something listens where the hub should, or a relay before it.
fn knock(about: &str, url: &str) -> Finding {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split('/').next().unwrap_or(rest);
    let port = if scheme == "https" { 443 } else { 80 };
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let found: Vec<SocketAddr> = match address.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => {
            let help = "is the name right, and does this machine have a name server?";
            return Finding::wrong(about, format!("{host} has no address: {error}"), help);
        }
    };
    let mut last = "it has no address".to_owned();
    for at in found {
        match TcpStream::connect_timeout(&at, HUB) {
            Ok(_) => {
                return Finding {
                    about: about.to_owned(),
                    level: Level::Good,
                    says: format!("{at} opens"),
                    help: None,
                };
            }
            Err(error) => last = format!("{at}: {error}"),
        }
    }
    let help = "is the network there, and does a firewall let this port out? The node works on without";
    Finding::wrong(about, last, help)
}

/// The page: what needs somebody first.
fn write(found: &[Finding], colours: bool) -> String {
    let paint =
        |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let wide = found.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    let mut sorted: Vec<&Finding> = found.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let mut page = String::new();
    for finding in sorted {
        let mark = match finding.level {
            Level::Good => paint("32", "ok   "),
            Level::Note => paint("33", "note "),
            Level::Wrong => paint("31;1", "wrong"),
        };
        let blanks = " ".repeat(wide - finding.about.chars().count());
        page += &format!("{mark}  {}{blanks}  {}\n", finding.about, finding.says);
        if let Some(help) = &finding.help {
            page += &format!("       {}  → {help}\n", " ".repeat(wide));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_somebody_comes_first() {
        let good =
            Finding { about: "clock".into(), level: Level::Good, says: "plausible".into(), help: None };
        let note =
            Finding { level: Level::Note, help: Some("wait".into()), about: "hub".into(), ..good.clone() };
        let wrong = Finding::wrong("journal", "cannot be read", "see to the disk");
        assert_eq!(
            write(&[good, note, wrong], false),
            "wrong  journal  cannot be read\n                → see to the disk\nnote   hub      plausible\n                → wait\nok     clock    plausible\n"
        );
    }

    #[test]
    fn a_door_that_nobody_opens_is_said_to_be_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/x", listener.local_addr().unwrap());
        assert_eq!(knock("hub's door", &url).level, Level::Good);
        drop(listener);
        assert_eq!(knock("hub's door", &url).level, Level::Wrong);
    }
}
