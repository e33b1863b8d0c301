//! `selvedge node install`: makes this machine a node that comes up by itself. First a plan, purely, then its steps; a step whose
//! end is there already does nothing, so it may be run again, and `--dry-run` shows what it would do.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use wire::id::NodeId;
use wire::identity::Code;

use crate::complaint::Usage;
use crate::sure::is_sure;

/// The unit, as the Debian package has it.
const UNIT: &str = include_str!("../../../../../deploy/systemd/selvedge-node.service");
/// Its user.
const USER: &str = include_str!("../../../../../deploy/systemd/selvedge-node.sysusers");
/// What a node does until it is told something better.
const FLOW: &str = include_str!("../../../../../deploy/flow.toml");

const PROGRAM: &str = "/usr/bin/selvedge";
const UNIT_FILE: &str = "/etc/systemd/system/selvedge-node.service";
const USER_FILE: &str = "/etc/sysusers.d/selvedge-node.conf";
const SETTINGS: &str = "/etc/selvedge";
const DATA: &str = "/var/lib/selvedge-node";
const ACCOUNT: &str = "selvedge-node";
const SERVICE: &str = "selvedge-node.service";

/// Make this machine a node that comes up by itself: the program, a user, folders, settings and a systemd unit.
///
/// What is asked for and not given is asked at the terminal. Settings that are there already stay as they are, so this can be run
/// again, after an update say.
#[derive(clap::Args)]
pub(super) struct Install {
    /// What the node is called; without it, and without a terminal, as the machine is.
    #[arg(long, value_name = "NAME")]
    name: Option<NodeId>,

    /// The hub's door for nodes, such as `https://hub.example:8421`; without it the node works alone.
    #[arg(long, value_name = "URL")]
    hub: Option<String>,

    /// The code that lets it in at its first start, from `selvedge fleet enrol`.
    #[arg(long, value_name = "CODE", requires = "hub")]
    code: Option<String>,

    /// What the node does; without it a flow to begin with.
    #[arg(long, value_name = "FILE")]
    flow: Option<PathBuf>,

    /// Fill the system below this folder instead of the one that runs: an image, say. Nothing is started.
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,

    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Install it, and start it only with the machine.
    #[arg(long)]
    no_start: bool,

    /// Take the unit and the program away again. Settings and data stay.
    #[arg(long, conflicts_with_all = ["name", "hub", "code", "flow", "no_start"])]
    remove: bool,

    /// With `--remove`: take settings and data too. What was not sent is lost, and so is who the node is.
    #[arg(long, requires = "remove")]
    purge: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Root,
    Node,
}

/// One thing to do. Paths are those of the installed system.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The program that runs now is copied there.
    Program(&'static str),
    Folder {
        path: &'static str,
        mode: u32,
        owner: Owner,
    },
    /// `keep`: what is there stays.
    File {
        path: String,
        text: String,
        mode: u32,
        owner: Owner,
        keep: bool,
    },
    /// `try`: nothing depends on it.
    Run {
        program: &'static str,
        args: Vec<String>,
        may_fail: bool,
    },
    Remove(&'static str),
}

/// What the answers and the flags come to.
struct Wish {
    name: NodeId,
    hub: Option<String>,
    code: Option<String>,
    flow: String,
}

/// What there is to do to install a node. `live`: on the system that runs.
fn plan(wish: &Wish, live: bool, start: bool) -> Vec<Step> {
    let file = |path: &str, text: &str, mode, owner, keep| Step::File {
        path: path.to_owned(),
        text: text.to_owned(),
        mode,
        owner,
        keep,
    };
    let mut steps = vec![
        Step::Program(PROGRAM),
        file(USER_FILE, USER, 0o644, Owner::Root, false),
        run("systemd-sysusers", [live_or_name(live, USER_FILE)]),
        Step::Folder { path: DATA, mode: 0o700, owner: Owner::Node },
        // Its own, so that a code that was used can be removed.
        Step::Folder { path: SETTINGS, mode: 0o755, owner: Owner::Node },
        file(&format!("{SETTINGS}/node.toml"), &settings(wish), 0o640, Owner::Node, true),
        file(&format!("{SETTINGS}/flow.toml"), &wish.flow, 0o644, Owner::Root, true),
    ];
    if let Some(code) = &wish.code {
        steps.push(file(&format!("{SETTINGS}/code"), &format!("{code}\n"), 0o600, Owner::Node, false));
    }
    steps.push(file(UNIT_FILE, UNIT, 0o644, Owner::Root, false));
    if live {
        steps.push(run("systemctl", ["daemon-reload".to_owned()]));
    }
    steps.push(run("systemctl", ["enable".to_owned(), SERVICE.to_owned()]));
    if live && start {
        steps.push(run("systemctl", ["restart".to_owned(), SERVICE.to_owned()]));
    }
    steps
}

/// What there is to do to take it away again.
fn plan_removal(live: bool, purge: bool) -> Vec<Step> {
    let may_fail = |args: &[&str]| Step::Run {
        program: "systemctl",
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        may_fail: true,
    };
    let mut steps = Vec::new();
    if live {
        steps.push(may_fail(&["stop", SERVICE]));
    }
    steps.push(may_fail(&["disable", SERVICE]));
    steps.extend([Step::Remove(UNIT_FILE), Step::Remove(USER_FILE), Step::Remove(PROGRAM)]);
    if purge {
        steps.extend([Step::Remove(SETTINGS), Step::Remove(DATA)]);
    }
    if live {
        steps.push(may_fail(&["daemon-reload"]));
    }
    steps
}

fn run<const N: usize>(program: &'static str, args: [String; N]) -> Step {
    Step::Run { program, args: args.into(), may_fail: false }
}

/// `systemd-sysusers` finds a file below another root by its name alone.
fn live_or_name(live: bool, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    if live { path.to_owned() } else { name.to_owned() }
}

/// `node.toml`.
fn settings(wish: &Wish) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!(
        "# Who this node is, and what may leave it. `selvedge node --config FILE --show-config` shows every setting.\n\
         [node]\nname = {}\ndata = \"{DATA}\"\nflow = \"{SETTINGS}/flow.toml\"\n\n[api]\nlisten = \"127.0.0.1:8421\"\n",
        quoted(wish.name.as_str())
    );
    if let Some(hub) = &wish.hub {
        text += &format!("\n[hub]\nurl = {}\n", quoted(hub));
        if wish.code.is_some() {
            // Removed once it was used.
            text += &format!("code_file = \"{SETTINGS}/code\"\n");
        }
    }
    text
}

/// The system that is filled.
struct Place<'a> {
    root: Option<&'a Path>,
}

impl Place<'_> {
    fn of(&self, path: &str) -> PathBuf {
        self.root.map_or_else(|| PathBuf::from(path), |root| root.join(path.trim_start_matches('/')))
    }

    /// The number of the node's user and group, once it is there.
    fn account(&self) -> anyhow::Result<(u32, u32)> {
        let number = |file: &str| {
            let text = fs::read_to_string(self.of(file)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(ACCOUNT)?.strip_prefix(':'))?;
            line.split(':').nth(1)?.parse().ok()
        };
        let both = number("/etc/passwd").zip(number("/etc/group"));
        both.with_context(|| {
            format!("there is no user {ACCOUNT}, though systemd-sysusers should have made it")
        })
    }

    fn give(&self, path: &Path, mode: u32, owner: Owner) -> anyhow::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let (user, group) = match owner {
            Owner::Root => (0, 0),
            Owner::Node => self.account()?,
        };
        chown(path, Some(user), Some(group))
            .with_context(|| format!("{} cannot be given away", path.display()))
    }

    /// Does a step; says what it did.
    fn carry_out(&self, step: &Step) -> anyhow::Result<&'static str> {
        match step {
            Step::Program(path) => {
                let (own, to) = (std::env::current_exe()?, self.of(path));
                if fs::canonicalize(&to).ok() == fs::canonicalize(&own).ok() {
                    return Ok("is there");
                }
                make_parent(&to)?;
                // Beside it and moved: the one that runs cannot be written to.
                let beside = to.with_extension("new");
                fs::copy(&own, &beside).with_context(|| format!("{} cannot be written", beside.display()))?;
                fs::set_permissions(&beside, fs::Permissions::from_mode(0o755))?;
                fs::rename(&beside, &to)?;
                Ok("copied")
            }
            Step::Folder { path, mode, owner } => {
                let at = self.of(path);
                let done = if at.is_dir() { "is there" } else { "made" };
                fs::create_dir_all(&at)?;
                self.give(&at, *mode, *owner)?;
                Ok(done)
            }
            Step::File { path, text, mode, owner, keep } => {
                let at = self.of(path);
                match fs::read_to_string(&at) {
                    Ok(_) if *keep => return Ok("stays"),
                    Ok(there) if there == *text => return Ok("is there"),
                    _ => {}
                }
                make_parent(&at)?;
                let beside = at.with_extension("new");
                fs::write(&beside, "").with_context(|| format!("{} cannot be written", at.display()))?;
                // Nobody reads a code between its writing and its mode.
                self.give(&beside, *mode, *owner)?;
                fs::write(&beside, text)?;
                fs::rename(&beside, &at)?;
                Ok("written")
            }
            Step::Run { program, args, may_fail } => {
                let mut command = Command::new(program);
                if let Some(root) = self.root {
                    command.arg("--root").arg(root);
                }
                let done = command.args(args).output();
                match done {
                    Ok(done) if done.status.success() => Ok("done"),
                    _ if *may_fail => Ok("not needed"),
                    Ok(done) => bail!(
                        "{program} {} failed: {}",
                        args.join(" "),
                        String::from_utf8_lossy(&done.stderr).trim()
                    ),
                    Err(error) => {
                        Err(error).with_context(|| format!("{program} cannot be run: is systemd here?"))
                    }
                }
            }
            Step::Remove(path) => {
                let at = self.of(path);
                let gone = if at.is_dir() { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
                match gone {
                    Ok(()) => Ok("removed"),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("is not there"),
                    Err(error) => Err(error).with_context(|| format!("{} cannot be removed", at.display())),
                }
            }
        }
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

impl Step {
    fn words(&self) -> String {
        match self {
            Step::Program(path) => format!("program  {path}"),
            Step::Folder { path, mode, owner } => format!("folder   {path} ({mode:o}, {})", owner.as_str()),
            Step::File { path, mode, owner, .. } => format!("file     {path} ({mode:o}, {})", owner.as_str()),
            Step::Run { program, args, .. } => format!("run      {program} {}", args.join(" ")),
            Step::Remove(path) => format!("remove   {path}"),
        }
    }
}

impl Owner {
    fn as_str(self) -> &'static str {
        match self {
            Owner::Root => "root",
            Owner::Node => ACCOUNT,
        }
    }
}

/// Asks for what was not given, where somebody can be asked.
fn ask(args: &Install, place: &Place<'_>) -> anyhow::Result<Wish> {
    let machine = fs::read_to_string(place.of("/etc/hostname")).unwrap_or_default();
    let machine: String =
        machine.chars().filter(|sign| sign.is_ascii_alphanumeric() || "._-".contains(*sign)).collect();
    let may_ask = io::stdin().is_terminal() && !args.yes && !args.dry_run;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let said = if may_ask {
                line(&format!("What is the node called? [{machine}] "))?
            } else {
                String::new()
            };
            let said = if said.is_empty() { machine } else { said };
            NodeId::new(&said).map_err(|error| Usage(format!("{error}; name it with --name")))?
        }
    };
    let hub = match &args.hub {
        Some(hub) => Some(hub.clone()),
        None if may_ask => {
            Some(line("Which hub does it belong to, if any? [none] ")?).filter(|hub| !hub.is_empty())
        }
        None => None,
    };
    if let Some(hub) = &hub
        && !(hub.starts_with("https://") || hub.starts_with("http://"))
    {
        return Err(Usage(format!("{hub:?} is no address: it begins with https:// or http://")).into());
    }
    let code = match &args.code {
        Some(code) => Some(code.clone()),
        None if may_ask && hub.is_some() => {
            Some(line("The code that lets it in, if you have one: ")?).filter(|code| !code.is_empty())
        }
        None => None,
    };
    if let Some(code) = &code {
        Code::parse(code)?;
    }
    let flow = match &args.flow {
        Some(file) => {
            node::flow::Flow::load(file)?;
            fs::read_to_string(file)?
        }
        None => FLOW.to_owned(),
    };
    Ok(Wish { name, hub, code, flow })
}

fn line(question: &str) -> io::Result<String> {
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

pub(super) fn install(args: &Install) -> anyhow::Result<()> {
    // systemd's tools ask for a whole path.
    let root = args.root.as_deref().map(std::path::absolute).transpose()?;
    let place = Place { root: root.as_deref() };
    let live = args.root.is_none();
    let steps = if args.remove {
        let question = "This takes the node's settings and data, and what was not sent is lost.";
        if args.purge && !args.yes && !args.dry_run && !is_sure(question)? {
            return Ok(());
        }
        plan_removal(live, args.purge)
    } else {
        plan(&ask(args, &place)?, live, !args.no_start)
    };
    let mut out = io::stdout();
    if args.dry_run {
        for step in &steps {
            writeln!(out, "{}", step.words())?;
            if let Step::File { path, text, .. } = step
                && path.ends_with("/node.toml")
            {
                text.lines().try_for_each(|line| writeln!(out, "         | {line}"))?;
            }
        }
        return Ok(());
    }
    for step in &steps {
        let done = place.carry_out(step).with_context(|| format!("it stopped at: {}", step.words()))?;
        writeln!(out, "{:<60} {done}", step.words())?;
    }
    if !args.remove && live {
        writeln!(out, "`selvedge doctor` says how it is; `systemctl edit selvedge-node` gives it a device")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            name: NodeId::new("pump-7").unwrap(),
            hub: Some("https://hub.example:8421".to_owned()),
            code: Some("CODE".to_owned()),
            flow: FLOW.to_owned(),
        }
    }

    #[test]
    fn the_plan_can_be_read_before_it_is_carried_out() {
        let mut text = String::new();
        for (title, steps) in [
            ("install", plan(&wish(), true, true)),
            ("into an image", plan(&Wish { hub: None, code: None, ..wish() }, false, true)),
            ("remove", plan_removal(true, false)),
            ("purge", plan_removal(true, true)),
        ] {
            text += &format!("{title}\n");
            steps.iter().for_each(|step| text += &format!("  {}\n", step.words()));
        }
        insta::assert_snapshot!("install_plan", text);
    }

    #[test]
    fn the_settings_are_a_node_s() {
        let folder = tempfile::tempdir().unwrap();
        let text = settings(&wish()).replace(SETTINGS, &folder.path().display().to_string());
        fs::write(folder.path().join("node.toml"), text).unwrap();
        fs::write(folder.path().join("flow.toml"), FLOW).unwrap();
        let config = node::config::Config::load(&folder.path().join("node.toml")).unwrap();
        assert_eq!((config.name.as_str(), config.data.as_path()), ("pump-7", Path::new(DATA)));
        assert!(config.hub.unwrap().enrol.is_some());
    }
}
