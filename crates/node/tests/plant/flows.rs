//! What a flow may say of sources and sinks, and what it hears when it says something else.

use std::path::Path;

use node::flow::Flow;

fn check(flow: &str, expected: &[&str]) {
    match Flow::parse(Path::new("flow.toml"), flow.into()) {
        Ok(flow) => assert!(expected.is_empty(), "nothing was wrong with {flow:?}"),
        Err(problems) => {
            let text = problems.to_string();
            assert!(!expected.is_empty(), "{text}");
            for part in expected {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
        }
    }
}

fn source(rest: &str, expected: &[&str]) {
    check(&format!("[source.s]\n{rest}"), expected);
}

#[test]
fn sources_that_listen_to_a_broker() {
    let mqtt = |rest: &str, expected: &[&str]| {
        source(&format!("type = \"mqtt\"\nbroker = \"mqtt://b\"\n{rest}"), expected);
    };
    mqtt("topics = [\"a/#\"]", &[]);
    mqtt(
        "topics = [\"a/#\"]\nvalues = { p = \"data.p\" }\ntime = \"ts\"\nqos = 0\nsession = \"forever\"\nversion = \"3.1.1\"",
        &[],
    );
    mqtt("payload = \"chirpstack\"\ndevices = { a = \"1\" }\nvalues = { x = \"x\" }", &[]);
    mqtt("payload = \"ttn\"", &[]);
    mqtt("payload = \"number\"\ntopics = [\"+/t\"]\nvalues = { t = \"+/t\" }", &[]);
    mqtt("", &["`source.s` has no `topics`", "plant/pump/#"]);
    mqtt("topics = [\"a/#/b\"]", &["\"a/#/b\" is no filter of topics"]);
    mqtt("topics = []", &["1 to 100 filters, not 0"]);
    mqtt("topics = [\"a\"]\nqos = 2", &["`qos` is 0 or 1"]);
    mqtt("topics = [\"a\"]\nversion = \"4\"", &["no version \"4\""]);
    mqtt("topics = [\"a\"]\nca_file = \"x\"", &["files of TLS, and an address without", "mqtts://b:8883"]);
    mqtt("topics = [\"a\"]\npassword_file = \"x\"", &["a password and no user"]);
    mqtt("topics = [\"a\"]\nvalues = { p = \"a[\" }", &["a bracket of \"a[\" is not closed"]);
    mqtt("topics = [\"a\"]\nvalues = { p = 1 }", &["`p` in `values` of `source.s` must be a text"]);
    mqtt("topics = [\"a\"]\nvalues = { p = \"p\" }\nchannels = [\"p\"]", &["names its channels twice"]);
    mqtt("topics = [\"a\"]\npayload = \"number\"", &["does not say what its numbers are"]);
    mqtt("topics = [\"a\"]\npayload = \"xml\"", &["knows no payload \"xml\""]);
    mqtt("payload = \"ttn\"\ndevices = { a = \"1\" }", &["names devices, and not what they measure"]);
    mqtt("topics = [\"a\"]\nmax_payload = \"1GiB\"", &["must be from 1 B to 1 MiB"]);
    mqtt("topics = [\"a\"]\ntopcis = [\"b\"]", &["has no setting `topcis`"]);
    let sealed = "type = \"mqtt\"\nbroker = \"mqtts://b\"\ntopics = [\"a\"]\ncertificate_file = \"x\"\n";
    source(sealed, &["half of a certificate and its key"]);
    source("type = \"mqtt\"\nbroker = \"b:1883\"\ntopics = [\"a\"]", &["no scheme", "mqtt://b:1883"]);
}

#[test]
fn sources_of_registers_and_lines() {
    let registers = "registers = { a = \"f32@100\" }\n";
    source(&format!("type = \"modbus-tcp\"\naddress = \"10.0.0.7\"\n{registers}"), &[]);
    source(&format!("type = \"modbus-rtu\"\ndevice = \"/dev/ttyS0\"\n{registers}"), &[]);
    source("type = \"modbus-tcp\"\naddress = \"h:1\"", &["has no `registers`", "f32@100"]);
    source(
        "type = \"modbus-tcp\"\naddress = \"h:x\"\nregisters = { a = \"u8@1\" }",
        &["\"x\" is no port", "\"u8\" is no kind"],
    );
    source(&format!("type = \"modbus-rtu\"\ndevice = \"x\"\nunit = 250\n{registers}"), &["from 1 to 247"]);
    source(
        &format!("type = \"modbus-tcp\"\naddress = \"h\"\nevery = \"0s\"\n{registers}"),
        &["from 1 ms to a day"],
    );
    source("type = \"exec\"\ncommand = [\"x\"]\npayload = \"columns\"\nchannels = [\"a\"]", &[]);
    source("type = \"exec\"\ncommand = []", &["names no program"]);
    source(
        "type = \"exec\"\ncommand = [\"x\"]\npayload = \"columns\"",
        &["does not say what its columns are"],
    );
    source("type = \"serial\"\ndevice = \"/dev/ttyS0\"\nbaud = 0", &["`baud` is from 50"]);
    source("type = \"modbus\"", &["no source of type \"modbus\"", "modbus-"]);
}

#[test]
fn sinks() {
    let sink = |rest: &str, expected: &[&str]| {
        let flow = "[source.p]\ntype = \"http\"\n[rule.hot]\ninputs = [\"source.p\"]\nwhen = \"p.a > 1\"\n";
        check(&format!("{flow}[sink.x]\n{rest}"), expected);
    };
    sink("type = \"stdout\"", &[]);
    sink("type = \"stdout\"\ninputs = [\"rule.hot\", \"source.*\"]\nfrom = \"beginning\"", &[]);
    sink("type = \"file\"\nfile = \"a.jsonl\"\nmax_bytes = \"1MiB\"", &[]);
    sink("type = \"webhook\"\nurl = \"https://h/x\"\ntimeout = \"3s\"", &[]);
    sink(
        "type = \"mqtt\"\nbroker = \"mqtt://b\"\ntopic = \"a/{node}/{part}\"\ndiscovery = \"homeassistant\"",
        &[],
    );
    sink("type = \"fiel\"", &["no sink of type \"fiel\"", "file"]);
    sink("type = \"stdout\"\ninputs = [\"rule.cold\"]", &["no `rule.cold` to pass on"]);
    sink("type = \"stdout\"\nrecords = []", &["passes nothing on"]);
    sink("type = \"webhook\"\nurl = \"ftp://h\"", &["no address of the web"]);
    sink("type = \"webhook\"\nurl = \"https://me:secret@h/\"", &["token_file"]);
    sink("type = \"mqtt\"\nbroker = \"mqtt://b\"\ntopic = \"a/{id}\"", &["knows {node}"]);
    sink("type = \"mqtt\"\nbroker = \"mqtt://b\"\ntopic = \"a/#\"", &["no topic that can be published to"]);
    sink("type = \"file\"\nfile = \"x\"\nmax_bytes = \"1B\"", &["at least 4 KiB"]);
}
