//! Actuators behind mosquitto and pymodbus: they are set, say what they are set to, and fail in ways that are told.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::act::device::face::Device;
use node::act::device::{Driver, open};
use node::flow::Flow;
use node::mqtt::broker::Version;
use node::mqtt::{Event, Exchange, Link, Session};
use wire::body::act::Setting;

use crate::broker::{Mosquitto, mosquitto};
use crate::modbus::device;
use crate::stand::{free_port, until};

/// An actuator as a flow declares it.
fn actuator(text: &str) -> Box<dyn Device> {
    let (driver, allowed, safe) = declared(text);
    open(&driver, &allowed, &safe).unwrap()
}

fn declared(text: &str) -> (Driver, node::act::limits::Allowed, Setting) {
    let flow = format!("[source.pump]\ntype = \"http\"\n[actuator.valve]\nwrite = true\n{text}");
    let flow = Flow::parse("flow.toml".as_ref(), flow.into()).unwrap_or_else(|errors| panic!("{errors}"));
    let config = &flow.actuators[0];
    let driver = config.driver.known_as(|| "selvedge-oslo-7-act-valve".to_owned());
    (driver, config.limits.allowed.clone(), config.limits.safe.clone())
}

fn word(text: &str) -> Setting {
    Setting::Word(text.to_owned())
}

const VALVE: &str = "values = [\"open\", \"closed\"]\nsafe = \"closed\"\n";
const LEVEL: &str = "range = [0, 100]\nsafe = 0\n";

#[test]
fn coils_and_registers_over_tcp() {
    let port = free_port();
    let Some(first) = device(&["tcp", &port.to_string()]) else { return };
    let up = || until("the device", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    up();
    let at = format!("type = \"modbus-tcp\"\naddress = \"127.0.0.1:{port}\"\n");
    let coil = format!("{at}{VALVE}register = \"coil@5\"\ncodes = {{ open = 1, closed = 0 }}\n");
    let mut coil = actuator(&coil);
    for to in ["open", "closed", "open"] {
        coil.set(&word(to)).unwrap();
        assert_eq!(coil.read().unwrap(), Some(word(to)));
    }
    let codes = format!("{at}{VALVE}register = \"u16@130\"\ncodes = {{ open = 4660, closed = 17 }}\n");
    let mut codes = actuator(&codes);
    assert!(codes.read().unwrap_err().to_string().contains("0 is none of its codes"));
    codes.set(&word("open")).unwrap();
    assert_eq!(codes.read().unwrap(), Some(word("open")));
    // Numbers: as a float of two registers, and in steps of a half.
    for (register, to, is) in
        [("f32@132", 62.5, 62.5), ("i16@134*0.5+10", 33.3, 33.5), ("u32@136*0.01", 99.99, 99.99)]
    {
        let mut level = actuator(&format!("{at}{LEVEL}register = \"{register}\"\n"));
        level.set(&Setting::Number(to)).unwrap();
        let Some(Setting::Number(read)) = level.read().unwrap() else { panic!("{register}") };
        assert!((read - is).abs() < 1e-9, "{register}: {read}");
        level.set(&Setting::Number(0.0)).unwrap();
    }
    // What is read need not be what is written.
    let mut other = actuator(&format!("{at}{LEVEL}register = \"u16@138\"\nread = \"input u16@30\"\n"));
    other.set(&Setting::Number(7.0)).unwrap();
    assert_eq!(other.read().unwrap(), Some(Setting::Number(300.0)), "told as it is");
    // A register that is not there.
    let mut gone = actuator(&format!("{at}{LEVEL}register = \"u16@900\"\n"));
    let why = gone.set(&Setting::Number(1.0)).unwrap_err().to_string();
    assert!(why.contains("the device refuses holding register 900"), "{why}");

    // The device goes away: that is told; and it comes back: the connection that was kept is made anew.
    drop(first);
    let why = coil.set(&word("closed")).unwrap_err().to_string();
    assert!(why.contains("cannot be reached"), "{why}");
    let _second = device(&["tcp", &port.to_string()]).unwrap();
    up();
    coil.set(&word("open")).unwrap();
    assert_eq!(coil.read().unwrap(), Some(word("open")));
}

#[test]
fn a_device_that_says_nothing() {
    // It takes connections, and answers none.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let text = format!(
        "type = \"modbus-tcp\"\naddress = \"{address}\"\ntimeout = \"200ms\"\n{LEVEL}register = \"u16@1\"\n"
    );
    let mut level = actuator(&text);
    let why = level.set(&Setting::Number(1.0)).unwrap_err().to_string();
    assert!(why.contains("took longer than 200 ms"), "{why}");
}

#[test]
fn two_on_one_serial_line() {
    let Some(mut device) = device(&["rtu"]) else { return };
    let mut line = String::new();
    BufReader::new(device.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = format!(
        "type = \"modbus-rtu\"\ndevice = \"{}\"\nbaud = 19200\nparity = \"none\"\ntimeout = \"5s\"\n",
        line.trim()
    );
    let level = |register: u16| actuator(&format!("{at}{LEVEL}register = \"u16@{register}\"\n"));
    let work = |mut level: Box<dyn Device>| {
        move || {
            for to in 1..=10 {
                let to = Setting::Number(f64::from(to));
                level.set(&to).unwrap();
                assert_eq!(level.read().unwrap(), Some(to));
            }
        }
    };
    let (one, two) = (level(131), level(132));
    let one = std::thread::spawn(work(one));
    let two = std::thread::spawn(work(two));
    one.join().unwrap();
    two.join().unwrap();
}

/// A valve behind a broker: does what comes on `valve/set`, and says on `valve/state` what it is.
struct Valve {
    told: Arc<Mutex<Vec<String>>>,
    /// What it says instead of the truth; empty: nothing at all.
    says: Arc<Mutex<Option<String>>>,
}

/// When a valve answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// At once, to all that comes.
    AtOnce,
    /// To an order only when it is asked, with what it was then; and right after that to the question.
    Late,
    /// The same; but each answer names what it is to, and the one to the question comes later than anybody waits for a newer one.
    LateAndNamed,
}

fn valve(broker: &Mosquitto, version: Version, manner: Manner) -> Valve {
    let (told, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None::<String>)));
    let (tells, lies, broker) = (Arc::clone(&told), Arc::clone(&says), broker.broker(version));
    let up = Arc::new(Mutex::new(false));
    let is_up = Arc::clone(&up);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let state = |says: &str| format!("{{\"now\":{{\"state\":\"{says}\"}}}}").into_bytes();
        runtime.block_on(async {
            'again: loop {
                let mut owes = false;
                let mut link = Link::open(&broker, "the-valve", Session::Clean, None).unwrap();
                loop {
                    let Ok(event) = link.next().await else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue 'again;
                    };
                    match event {
                        Event::Connected { .. } => link.subscribe(&["valve/+".to_owned()], 0).unwrap(),
                        Event::Subscribed { .. } => *is_up.lock().unwrap() = true,
                        Event::Message(message) if message.topic != "valve/state" => {
                            let order = String::from_utf8(message.payload.to_vec()).unwrap();
                            if message.topic == "valve/set" {
                                tells.lock().unwrap().push(order);
                                if manner != Manner::AtOnce {
                                    owes = true;
                                    continue;
                                }
                            }
                            if std::mem::take(&mut owes) {
                                let is_named = manner == Manner::LateAndNamed;
                                let correlation = is_named.then(|| "the order".into());
                                let late = Exchange { correlation, response_topic: None };
                                let sent =
                                    link.publish_in(late, "valve/state".into(), state("moving"), false);
                                sent.await.unwrap();
                            }
                            if manner == Manner::LateAndNamed {
                                // What it said goes out only while the link is asked.
                                let goes_on = async { while link.next().await.is_ok() {} };
                                let _ = tokio::time::timeout(Duration::from_millis(200), goes_on).await;
                                let Exchange { response_topic, correlation } = message.exchange;
                                let topic = response_topic.expect("it is asked where to answer");
                                let answer = Exchange { correlation, response_topic: None };
                                let is = tells.lock().unwrap().last().cloned().unwrap_or_default();
                                link.publish_in(answer, topic, state(&is), false).await.unwrap();
                                continue;
                            }
                            let is = tells.lock().unwrap().last().cloned().unwrap_or_default();
                            let says = lies.lock().unwrap().clone().unwrap_or(is);
                            if !says.is_empty() {
                                link.publish("valve/state".into(), state(&says), true).await.unwrap();
                            }
                        }
                        _ => {}
                    }
                }
            }
        });
    });
    until("the valve", || *up.lock().unwrap());
    Valve { told, says }
}

impl Valve {
    fn is(&self) -> String {
        self.told.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn says(&self, says: Option<&str>) {
        *self.says.lock().unwrap() = says.map(str::to_owned);
    }
}

fn mqtt(broker: &Mosquitto, version: &str, more: &str) -> String {
    format!(
        "type = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{}\"\nversion = \"{version}\"\ntopic = \"valve/set\"\n\
         read_topic = \"valve/state\"\npointer = \"/now/state\"\ntimeout = \"2s\"\n{VALVE}{more}",
        broker.port
    )
}

#[test]
fn a_valve_behind_a_broker() {
    for (word_of, version) in [("3.1.1", Version::V3), ("5", Version::V5)] {
        let Some(broker) = mosquitto(false) else { return };
        let valve = valve(&broker, version, Manner::AtOnce);
        let mut device = actuator(&mqtt(&broker, word_of, ""));
        for to in ["open", "closed", "open"] {
            device.set(&word(to)).unwrap();
            assert_eq!(device.read().unwrap(), Some(word(to)));
            assert_eq!(valve.is(), to);
        }
        // What it says is told as it is; what it said before it was told is no receipt, also if the broker kept it.
        valve.says(Some("stuck"));
        device.set(&word("closed")).unwrap();
        assert_eq!(device.read().unwrap(), Some(word("stuck")));
        valve.says(Some(""));
        device.set(&word("open")).unwrap();
        let why = device.read().unwrap_err().to_string();
        assert!(why.contains("took longer than 2000 ms"), "{why}");
        assert_eq!(device.lost(), None);
        valve.says(None);

        // Whoever lets go of it, in whatever way, leaves it in its safe setting: the broker sees to that.
        device.set(&word("open")).unwrap();
        drop(device);
        until("the will", || valve.is() == "closed");
    }
}

#[test]
fn without_a_will_and_without_a_broker() {
    let Some(mut broker) = mosquitto(false) else { return };
    // Nothing comes when the connection breaks.
    let valve = valve(&broker, Version::V5, Manner::AtOnce);
    let mut device = actuator(&mqtt(&broker, "5", "will = false\nclient_id = \"other\"\n"));
    device.set(&word("open")).unwrap();
    assert_eq!(device.read().unwrap(), Some(word("open")));
    drop(device);
    let mut next = actuator(&mqtt(&broker, "5", ""));
    assert_eq!(valve.is(), "open");

    // The broker goes away: that is told, and the guard is told that the device may be elsewhere.
    next.set(&word("open")).unwrap();
    broker.stop();
    until("the loss", || next.lost().is_some());
    assert!(next.lost().unwrap().contains("broke"), "{:?}", next.lost());
    assert!(next.set(&word("closed")).is_err());
    let (driver, allowed, safe) = declared(&mqtt(&broker, "5", ""));
    assert!(open(&driver, &allowed, &safe).is_err(), "there is no broker");
    broker.start();
    let mut again = actuator(&mqtt(&broker, "5", ""));
    again.set(&word("closed")).unwrap();
}

#[test]
fn a_valve_that_is_asked() {
    let Some(broker) = mosquitto(false) else { return };
    let valve = valve(&broker, Version::V5, Manner::AtOnce);
    let more = "ask_topic = \"valve/get\"\npayloads = { open = \"1\", closed = \"0\" }\n";
    let mut device = actuator(&mqtt(&broker, "5", more));
    device.set(&word("open")).unwrap();
    assert_eq!(device.read().unwrap(), Some(word("1")), "what it says is not translated");
    assert_eq!(valve.is(), "1");
    valve.says(Some("open"));
    assert_eq!(device.read().unwrap(), Some(word("open")), "it is asked each time");
    // One that answers to what it was told and to the question, both only then: what it says last counts, or what it says by name.
    for (word_of, version, manner) in [
        ("3.1.1", Version::V3, Manner::Late),
        ("5", Version::V5, Manner::Late),
        ("5", Version::V5, Manner::LateAndNamed),
    ] {
        let Some(broker) = mosquitto(false) else { return };
        let _valve = self::valve(&broker, version, manner);
        let mut device = actuator(&mqtt(&broker, word_of, "ask_topic = \"valve/get\"\n"));
        for to in ["open", "closed", "open"] {
            device.set(&word(to)).unwrap();
            assert_eq!(device.read().unwrap(), Some(word(to)), "{word_of}");
        }
    }
}
