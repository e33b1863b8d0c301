//! `selvedge flow new` and `selvedge flow schema`: a flow to begin with, and what editors know of flows.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// Write a flow to begin with.
///
/// Each passes `selvedge flow check` as it is, with tests of its own; put your source in the place of its source.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is watched.
    #[arg(long, value_enum, default_value_t = Kind::Pump)]
    kind: Kind,

    /// Where to write it; it must not be there yet. `-` is standard output.
    #[arg(default_value = "flow.toml")]
    file: PathBuf,
}

/// A kind of plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A pump station: a detector over its channels, and limits.
    Pump,
    /// A cold store: a door, a temperature, and an alert that waits for the door.
    ColdStore,
    /// A machine that turns: vibration with hysteresis, held back while it starts.
    Machine,
    /// A field: soil moisture that comes every quarter of an hour.
    Field,
}

impl Kind {
    fn flow(self) -> &'static str {
        match self {
            Kind::Pump => include_str!("templates/pump.toml"),
            Kind::ColdStore => include_str!("templates/cold_store.toml"),
            Kind::Machine => include_str!("templates/machine.toml"),
            Kind::Field => include_str!("templates/field.toml"),
        }
    }
}

/// What editors know of flows.
const SCHEMA: &str = include_str!("flow.schema.json");

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let flow = args.kind.flow();
    if args.file.as_os_str() == "-" {
        std::io::stdout().write_all(flow.as_bytes())?;
        return Ok(());
    }
    let shown = args.file.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&args.file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "{shown} is there already, and stays as it is: name another file, or `-` for standard output"
            )
        }
        opened => opened.with_context(|| format!("{shown} cannot be written"))?,
    };
    file.write_all(flow.as_bytes())?;
    writeln!(std::io::stdout(), "{shown} is a flow to begin with; next: selvedge flow check {shown}")?;
    Ok(())
}

pub(crate) fn schema() -> anyhow::Result<()> {
    std::io::stdout().write_all(SCHEMA.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use node::flow::Flow;
    use node::play::rehearse::rehearse;

    use super::*;

    /// The schema beside a validator that others wrote. Runs where `SELVEDGE_PYTHON` names a Python that has one.
    #[test]
    fn the_schema_takes_our_flows_and_refuses_others() {
        const VALIDATE: &str = r#"
import json, sys, tomllib
try:
    from jsonschema import Draft202012Validator
except ImportError as error:
    print(error); sys.exit(3)
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
for file in sys.argv[2:]:
    print(len(list(Draft202012Validator(schema).iter_errors(tomllib.load(open(file, "rb"))))))
"#;
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let mut arguments = vec![place("schema.json", SCHEMA)];
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flow.toml");
        arguments.push(example.into());
        for example in [
            "patient-monitor",
            "point-of-sale",
            "predictive-maintenance",
            "shelf",
            "soil-moisture",
            "traffic",
        ] {
            let file = format!("{}/../../examples/{example}/flow.toml", env!("CARGO_MANIFEST_DIR"));
            arguments.push(file.into());
        }
        arguments.push(place("ends.toml", ENDS));
        for (at, kind) in Kind::value_variants().iter().enumerate() {
            arguments.push(place(&format!("{at}.toml"), kind.flow()));
        }
        let sound = arguments.len() - 1;
        for (at, wrong) in [
            "[source.a]\ntype = \"htp\"\n",
            "[source.a]\ntype = \"http\"\nspeed = 1\n",
            "[source.a]\ntype = \"images\"\n",
            "[source.a]\ntype = \"opcua\"\nendpoint = \"opc.tcp://a\"\n",
            "[source.a]\ntype = \"opcua\"\nendpoint = \"http://a\"\nnodes = { a = \"i=1\" }\n",
            "[source.a]\ntype = \"rtsp\"\nurl = \"rtsp://a\"\nafter = \"keep\"\n",
            "[source.A]\ntype = \"http\"\n",
            "[source.a]\ntype = \"http\"\n[rule.r]\ninputs = [\"source.a\"]\n",
            "[source.a]\ntype = \"http\"\n[rule.r]\ninputs = [\"source.a\"]\nwhen = \"a.x > 1\"\nfor = \"30\"\n",
        ]
        .into_iter()
        .enumerate()
        {
            arguments.push(place(&format!("wrong_{at}.toml"), wrong));
        }
        let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
        let output = std::process::Command::new(python).arg("-c").arg(VALIDATE).args(&arguments).output();
        let output = match output {
            Ok(output) if output.status.code() == Some(3) => {
                println!("skipped: flows against their schema: {}", String::from_utf8_lossy(&output.stdout));
                return;
            }
            Ok(output) => output,
            Err(error) => {
                println!("skipped: flows against their schema: {error}");
                return;
            }
        };
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let counts: Vec<usize> = printed.lines().map(|line| line.parse().unwrap()).collect();
        assert!(counts[..sound].iter().all(|count| *count == 0), "{printed}");
        assert!(counts[sound..].iter().all(|count| *count > 0) && counts.len() > sound, "{printed}");
    }

    /// Every end that a flow can have, and a network.
    const ENDS: &str = r#"
[source.pump]
type = "replay"
file = "night.parquet"
[source.press]
type = "opcua"
endpoint = "opc.tcp://10.0.0.7:4840"
nodes = { force = "ns=2;s=Press.Force", level = "i=1007" }
policy = "Aes256_Sha256_RsaPss"
server_certificate = "press.der"
user = "reader"
password_file = "press.password"
deadband = 0.5
[model.net]
type = "network"
inputs = ["source.pump"]
file = "net.onnx"
window = 8
[model.net.recipe]
answers = []
[rule.hot]
inputs = ["source.pump"]
when = "pump.t > 1"
then = { valve = "open", level = 40 }
hold = "2m"
[actuator.valve]
type = "mqtt"
broker = "mqtt://localhost"
topic = "valve/set"
payloads = { open = "ON", closed = "OFF" }
read_topic = "valve/state"
values = ["open", "closed"]
safe = "closed"
write = true
[actuator.level]
type = "modbus-tcp"
address = "127.0.0.1:502"
station = 3
register = "u16@130*0.1"
range = [0, 100]
unit = "%"
safe = 0
write = true
[actuator.coil]
type = "modbus-rtu"
device = "/dev/ttyUSB0"
register = "coil@5"
codes = { open = 1, closed = 0 }
values = ["open", "closed"]
safe = "closed"
write = true
[actuator.other]
type = "http"
url = "http://127.0.0.1/{value}"
values = ["open", "closed"]
safe = "closed"
write = true
[report.shift]
begins = "06:00+02:00"
inputs = ["source.*", "actuator.valve"]
names = { "pump.t" = "temperature (°C)" }
[report.shift.writer]
url = "http://127.0.0.1:8384/v1"
model = "tiny"
[sink.otel]
type = "otlp"
url = "http://localhost:4318"
records = ["decision", "report"]
"#;

    #[test]
    fn every_end_is_read() {
        let flow = Flow::parse("flow.toml".as_ref(), ENDS.into());
        let flow = flow.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!((flow.actuators.len(), flow.reports.len(), flow.networks.len()), (4, 1, 1));
    }

    #[test]
    fn each_is_sound_and_passes_its_own_tests() {
        for kind in Kind::value_variants() {
            let flow = Flow::parse("flow.toml".as_ref(), kind.flow().into());
            let flow = flow.unwrap_or_else(|problems| panic!("{kind:?}: {problems}"));
            let tests = rehearse(&flow).unwrap_or_else(|problems| panic!("{kind:?}: {problems}"));
            assert!(tests > 0, "{kind:?}");
        }
    }
}
