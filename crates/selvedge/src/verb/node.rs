//! `selvedge node`: the agent, on the device.

#[cfg(target_os = "linux")]
mod install;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use node::agent::{self, Supervision};
use node::config::{Config, EnrolBy};
use node::identity::enrol::{Comer, Waits, Way, enrol};
use node::identity::files::Files;
use node::inventory;
use node::judged::Judged;
use node::policy::panics;
use node::source::BackOff;
use node::supervise::notify::NotifySettings;
use node::via::Via;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::Code;
use wire::world::System;

use crate::interrupt::Interrupt;
use crate::recording::show_time;

/// The flow's file is looked at in each of so many rounds.
const LOOKS_EVERY: u64 = 5;

/// Run the node: sources → model → rules → journal, and the journal's way up to the hub.
///
/// Works without a hub and without a network; what it has decided and not yet sent waits in its journal. A flow that is
/// changed meanwhile, or a hang-up (SIGHUP), has the flow read again: a good one is taken without losing what models have
/// learnt, a bad one is told of and changes nothing.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Who the node is, and what may leave it.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Print every setting with its value and where it came from, and end.
    #[arg(long)]
    show_config: bool,

    /// End when every source has ended and is journalled, instead of waiting for more.
    #[arg(long)]
    until_end: bool,

    /// Somebody starts this node again when it dies, as its unit does: then it leaves out what it dies of again and again.
    #[arg(long)]
    supervised: bool,

    /// Care for a machine whose `/proc` and `/sys` lie below this folder: to rehearse what the node does when memory is short.
    #[arg(long, value_name = "DIR", hide = true)]
    machine: Option<PathBuf>,
}

/// What else a node can do.
#[derive(clap::Subcommand)]
enum Verb {
    Enrol(Enrol),
    Identity(Identity),
    #[cfg(target_os = "linux")]
    Install(install::Install),
}

/// Let this node belong to a hub: by a code or token that an admin of the hub made, or by the certificate of the node's maker.
///
/// The key is made here and never leaves this machine; the hub makes a certificate for it. A code tells each that the other is
/// the true one. Where somebody at the hub has to admit the node, this waits until they have; ended and run again, it goes on
/// waiting.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("way").required(true).args(["code", "token", "factory_cert"])))]
struct Enrol {
    /// The hub's door for nodes, such as `https://hub.example:8421`.
    #[arg(long, value_name = "URL")]
    hub: String,

    /// The code; as eight groups of letters and digits.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,

    /// A token, which is good for several nodes; it begins with `T.`.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    /// The certificate that the node's maker gave it, as PEM.
    #[arg(long, value_name = "FILE", requires_all = ["factory_key", "authority"])]
    factory_cert: Option<PathBuf>,

    /// Its key.
    #[arg(long, value_name = "FILE", requires = "factory_cert")]
    factory_key: Option<PathBuf>,

    /// The authority of the hub that is meant: `ca.pem` of its keys. A code says so itself.
    #[arg(long, value_name = "FILE", requires = "factory_cert")]
    authority: Option<PathBuf>,

    /// What the node is called; without it as in its settings.
    #[arg(long, value_name = "NAME")]
    name: Option<NodeId>,

    /// The node's settings, which say where its data are.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
}

impl Enrol {
    fn way(&self) -> anyhow::Result<Way> {
        if let Some(code) = self.code.as_ref().or(self.token.as_ref()) {
            return Ok(Way::Code(Code::parse(code)?));
        }
        let (Some(certificate), Some(key), Some(authority)) =
            (&self.factory_cert, &self.factory_key, &self.authority)
        else {
            anyhow::bail!("--factory-cert needs --factory-key and --authority");
        };
        let by = EnrolBy::Maker {
            certificate: certificate.clone(),
            key: key.clone(),
            authority: authority.clone(),
        };
        Ok(Way::open(&by)?)
    }
}

/// Show who this node is to its hub.
#[derive(clap::Args)]
struct Identity {
    /// The node's settings, which say where its data are.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
}

fn come_in(args: &Enrol) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let way = args.way()?;
    let name = args.name.as_ref().unwrap_or(&config.name);
    if *name != config.name {
        anyhow::bail!(
            "{} calls this node {}, not {name}: change it there",
            args.config.display(),
            config.name
        );
    }
    let mut world = System::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (files, judged) = (Files::of(&config.data), Judged::new(world, 0));
    let facts = inventory::of(&config);
    let via = config.hub.as_ref().and_then(|hub| hub.via.as_ref());
    let via = via.map(|via| Via::open(via, world)).transpose()?;
    let comer = Comer { files: &files, url: &args.hub, name, facts: &facts, judged, via };
    let waits = |waits: &Waits| {
        // Somebody may read this on a screen; nothing depends on it.
        drop(writeln!(
            std::io::stdout(),
            "{name} waits to be admitted at the hub, as ticket {}\nits key there has to be {}",
            waits.ticket,
            waits.key
        ));
    };
    let facts = runtime.block_on(enrol(&comer, &way, &mut world, waits))?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} belongs to {} from now on; its key is in {}",
        facts.node,
        facts.url,
        files.folder().display()
    )?;
    if config.hub.as_ref().is_none_or(|hub| hub.url != facts.url) {
        writeln!(out, "write this into {}:\n\n[hub]\nurl = \"{}\"", args.config.display(), facts.url)?;
    }
    Ok(())
}

fn identity(args: &Identity) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let files = Files::of(&config.data);
    let mut out = std::io::stdout();
    let Some((facts, pair)) = files.open()? else {
        writeln!(out, "this node belongs to no hub; see: selvedge node enrol --help")?;
        return Ok(());
    };
    writeln!(out, "node         {}", facts.node)?;
    writeln!(out, "hub          {}", facts.url)?;
    writeln!(out, "key          {}", Hash::of(pair.key.public()))?;
    writeln!(out, "certificate  until {} UTC", show_time(pair.life.not_after_ms))?;
    Ok(())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.verb {
        Some(Verb::Enrol(args)) => return come_in(args),
        Some(Verb::Identity(args)) => return identity(args),
        #[cfg(target_os = "linux")]
        Some(Verb::Install(args)) => return install::install(args),
        None => {}
    }
    let config = Config::load(&args.config)?;
    let mut out = std::io::stdout();
    if args.show_config {
        for setting in config.effective() {
            writeln!(out, "{} = {}  # {}", setting.key, setting.value, setting.origin.as_str())?;
        }
        return Ok(());
    }
    if config.policy.text(None, "").is_none() {
        panics::withhold();
    }
    let (interrupt, reread) = Interrupt::listen_and_reread()?;
    let name = config.name.clone();
    let hub = config.hub.as_ref().map_or_else(|| "no hub".to_owned(), |hub| format!("hub {}", hub.url));
    let manager = NotifySettings::from_variables(|name| std::env::var(name).ok(), std::process::id());
    let supervision = Supervision { restarted: args.supervised, manager, machine: args.machine.clone() };
    let running = agent::start_supervised(config, System::new(), BackOff::default(), supervision)?;
    let api =
        running.api_addr().map_or_else(|| "local API off".to_owned(), |at| format!("local API http://{at}"));
    let models =
        running.serve_addr().map_or_else(String::new, |at| format!("; language models http://{at}/v1"));
    let relay = running.relay_addr().map_or_else(String::new, |at| format!("; relay http://{at}"));
    writeln!(out, "node {name} runs; {api}; {hub}{models}{relay}. Ctrl-C ends it.")?;
    let mut rounds = 0_u64;
    while !interrupt.wait(Duration::from_millis(200)) {
        rounds += 1;
        if reread.take() {
            running.reload();
        } else if rounds.is_multiple_of(LOOKS_EVERY) {
            running.look_at_flow();
        }
        // What it died of, if it did, is what stopping it says.
        if running.failed() || args.until_end && running.sources_ended() {
            break;
        }
    }
    running.stop()?;
    writeln!(out, "node {name} ended; its journal is closed")?;
    Ok(())
}
