//! `selvedge hub`: the control plane.

mod adopt;
pub(super) mod threads;
mod upkeep;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hub::access::first;
use hub::access::tokens::{check_name, draw};
use hub::access::who::Role;
use hub::config::database::DatabaseUrl;
use hub::config::people::TlsConfig;
use hub::config::{ConfigError as HubConfigError, HubConfig};
use hub::server::Hub;
use hub::store;
use node::config::problem::{ConfigError, ConfigErrors};
use wire::world::{Clock as _, System};

use self::threads::runtime;
use crate::interrupt::Interrupt;
use crate::passphrase;

/// Run the hub: take what nodes send, keep it, show it.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Settings in TOML; what stands on the command line goes first.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; anything but this machine itself needs a token, and TLS.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The certificate that people see, as PEM; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// What stands before the hub speaks TLS with people, and nobody reaches the hub but through it.
    #[arg(long)]
    behind_proxy: bool,

    /// The folder of the hub's store.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// A PostgreSQL server instead of a file in that folder: postgres://user@host:port/name. Several hubs may share it.
    #[arg(long, value_name = "URL", env = "SELVEDGE_DATABASE_URL", hide_env_values = true)]
    database: Option<DatabaseUrl>,

    /// A file with the token that nodes and people must show.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Args {
    fn says_how_to_listen(&self) -> bool {
        let Args { listen, tls_cert, token_file, behind_proxy, .. } = self;
        listen.is_some() || tls_cert.is_some() || token_file.is_some() || *behind_proxy
    }
}

/// What else a hub can do.
#[derive(clap::Subcommand)]
enum Verb {
    Archive(upkeep::Archive),
    Backup(upkeep::Backup),
    Check(upkeep::Check),
    Token(Token),
    Adopt(adopt::Args),
}

/// Make a token for a person or a program, while the hub is stopped; an admin of a running hub makes them by its API.
///
/// The token is written to standard output, once. Whoever has it may do what its role says: docs/identity.md.
#[derive(clap::Args)]
struct Token {
    /// viewer, operator, approver or admin; never more than its owner's.
    #[arg(long, value_parser = role)]
    role: Role,

    /// Whose it is; somebody of that name is made if there is nobody.
    #[arg(long, value_name = "NAME")]
    name: String,

    /// The hub's settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The folder of the hub's store.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The PostgreSQL server instead of a file in that folder.
    #[arg(long, value_name = "URL", env = "SELVEDGE_DATABASE_URL", hide_env_values = true)]
    database: Option<DatabaseUrl>,
}

fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "a role is viewer, operator, approver or admin".to_owned())
}

fn token(args: Token) -> anyhow::Result<()> {
    let config = args.config.as_deref().map(node::config::problem::read_text).transpose()?;
    let config = config.map(|text| HubConfig::parse(&text)).transpose()?.unwrap_or_default();
    let server = match args.database {
        Some(server) => Some(server),
        None => config.read_database()?,
    };
    let data = args.data.unwrap_or(config.data);
    check_name(&args.name).map_err(anyhow::Error::msg)?;
    let mut world = System::new();
    let drawn = draw(&mut world);
    let given = runtime()?.block_on(async {
        let mut store = store::open(&data, server.as_ref()).await?;
        let now_ms = world.wall_ms();
        let role = first::give(&mut store.writer, &args.name, args.role, "by hand", &drawn, now_ms).await?;
        anyhow::Ok(role)
    })?;
    if given != args.role {
        let mut err = std::io::stderr();
        writeln!(err, "{} has another role: the token is {}", args.name, given.as_str())?;
    }
    writeln!(std::io::stdout(), "{}", drawn.text)?;
    Ok(())
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    match args.verb.take() {
        Some(Verb::Adopt(args)) => return adopt::run(&args),
        Some(Verb::Archive(args)) => return upkeep::archive(args),
        Some(Verb::Backup(args)) => return upkeep::backup(args),
        Some(Verb::Check(args)) => return upkeep::check(args),
        Some(Verb::Token(args)) => return token(args),
        None => {}
    }
    let mut config = args.config.as_deref().map(|file| load(file, &args)).transpose()?.unwrap_or_default();
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let (Some(cert), Some(key)) = (args.tls_cert, args.tls_key) {
        config.tls = Some(TlsConfig { cert, key });
    }
    config.behind_proxy |= args.behind_proxy;
    if let Some(data) = args.data {
        config.data = data;
    }
    if args.database.is_some() {
        config.database = args.database;
        config.database_file = None;
    }
    if args.token_file.is_some() {
        config.token_file = args.token_file;
    }
    config.tuf.passphrase_file = config.tuf.passphrase_file.or_else(passphrase::file);
    let interrupt = Interrupt::listen()?;
    let runtime = runtime()?;
    let data = config.data.display().to_string();
    let running = runtime.block_on(Hub::start(config, System::new()))?;
    let mut out = std::io::stdout();
    let nodes = running.nodes_addr.map_or_else(String::new, |at| format!("; nodes https://{at}"));
    writeln!(out, "hub runs; console {}{nodes}; data {data}. Ctrl-C ends it.", running.url())?;
    while !interrupt.wait(Duration::from_secs(3600)) {}
    runtime.block_on(running.stop());
    writeln!(out, "hub ended; its store is closed")?;
    Ok(())
}

/// Reads a config file; a problem in it is shown like one of a node's. What the command line sets instead is not looked
/// at here.
fn load(file: &Path, args: &Args) -> anyhow::Result<HubConfig> {
    let text = node::config::problem::read_text(file)?;
    let refuse = |error: HubConfigError| {
        let (span, message) = match error {
            HubConfigError::Toml(error) => (error.span().unwrap_or(0..0), error.message().to_owned()),
            HubConfigError::Range { field, .. } => (place(&text, field), error.to_string()),
            HubConfigError::Host(_) => (place(&text, "hosts"), error.to_string()),
            other => return anyhow::Error::from(other),
        };
        let text = Arc::clone(&text);
        ConfigErrors(vec![ConfigError { file: file.into(), text, span, message, help: None }]).into()
    };
    let config = HubConfig::parse(&text).map_err(refuse)?;
    match config.check() {
        // What the command line says is looked at when the hub starts.
        Err(HubConfigError::OpenToAll(_) | HubConfigError::Plain(_)) if args.says_how_to_listen() => {}
        checked => checked.map_err(refuse)?,
    }
    Ok(config)
}

/// The line of `text` that sets `field`, in bytes.
fn place(text: &str, field: &str) -> std::ops::Range<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.split('=').next().is_some_and(|key| key.trim().trim_matches('"') == field) {
            return start..start + line.trim_end().len();
        }
        start += line.len();
    }
    0..0
}
