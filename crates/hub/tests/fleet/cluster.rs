//! A PostgreSQL server for one test process: made in a folder of its own, on a socket there, and gone when the process is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use hub::config::database::DatabaseUrl;

/// Makes the server and runs it until standard input ends, which it does however the test process ends. PostgreSQL refuses to
/// run as root, so root hands it to the user that Debian makes for it.
const LIFE: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')
cd "$1"
as initdb -D data -U hub -A trust -E UTF8 --locale=C --no-sync >log 2>&1 || { cat data/log >>log; echo failed; exit 1; }
as pg_ctl -D data -w -o "-k '$1' -h '' -c fsync=off -c max_connections=60" -l data/log start >>log 2>&1 </dev/null || { cat data/log >>log; echo failed; exit 1; }
echo ready
cat >/dev/null
as pg_ctl -D data -m fast -w stop >>log 2>&1
rm -rf "$1"
"#;

struct Cluster {
    socket: PathBuf,
    /// Held: the server ends with it.
    _life: ChildStdin,
}

fn has(program: &str) -> bool {
    let folders = std::env::var("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places = std::env::split_paths(&folders).chain(debian.map(|version| version.path().join("bin")));
    places.any(|folder| folder.join(program).is_file())
}

/// The number of Debian's user for the server.
fn user() -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| line.strip_prefix("postgres:")?.split(':').nth(1)?.parse().ok())
}

fn start() -> Option<Cluster> {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !has("initdb") || is_root && (user().is_none() || !has("setpriv")) {
        let mut out = std::io::stdout();
        writeln!(out, "skipped: there is no PostgreSQL here").unwrap();
        return None;
    }
    let folder = tempfile::tempdir().unwrap().keep();
    if is_root {
        chown(&folder, user(), None).unwrap();
    }
    let mut shell = Command::new("sh");
    let shell = shell
        .args(["-c", LIFE, "sh"])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it outlives us by as long as it takes to stop the server")]
    let mut life = shell.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(life.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert_eq!(said.trim(), "ready", "{}", log());
    Some(Cluster { _life: life.stdin.take().unwrap(), socket: folder })
}

/// Where the hub with this folder has its database; made if it is not there. `None` in tests that are not called `postgres`.
pub async fn database(folder: &Path) -> Option<DatabaseUrl> {
    let program = std::env::current_exe().unwrap();
    if !program.file_stem().unwrap().to_string_lossy().starts_with("postgres-") {
        return None;
    }
    on_server(folder).await
}

/// The same, in any test; `None`, and says so, where there is no PostgreSQL.
pub async fn on_server(folder: &Path) -> Option<DatabaseUrl> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(start).as_ref()?;
    let name: String = folder.to_string_lossy().bytes().map(|b| format!("{b:02x}")).collect();
    let name = format!("hub_{}", &name[name.len().saturating_sub(50)..]);
    let url = |name: &str| format!("postgres://hub@localhost/{name}?host={}", cluster.socket.display());
    sqlx::any::install_default_drivers();
    let mut maker = <sqlx::AnyConnection as sqlx::Connection>::connect(&url("postgres")).await.unwrap();
    let made =
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut maker).await;
    if let Err(error) = made {
        assert!(error.to_string().contains("already exists"), "{error}");
    }
    Some(url(&name).parse().unwrap())
}
