//! A company's hub: two processes on one PostgreSQL and one bucket, killed again and again in mid-rollout. Nothing is lost, nothing
//! is doubled, no gate is passed early, and the rollout goes on. For a long night, which nextest would end:
//! `SELVEDGE_KILLS=200 cargo test -p selvedge --all-features --test company`.

#![cfg(all(feature = "postgres", feature = "s3"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where")]

mod borrowed;
mod hubs;
mod members;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../packages/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub::rollout::offer::place;
use hub::rollout::plan::{Gate, Plan, RING, Wave};
use hub::rollout::policy::{members as within, ring};
use hub::rollout::text;
use serde_json::Value;
use wire::world::{Clock as _, Entropy as _, Simulated, System};

use crate::borrowed::bucket::Bucket;
use crate::borrowed::fleet::cluster;
use crate::hubs::Company;
use crate::members::{Member, Shared, name};
use crate::stage::{Stage, files};

const NODES: usize = 120;

/// The longest that the rollout may go on after the last kill.
const PATIENCE_NS: u64 = 90_000_000_000;

fn pause(ms: f64) {
    std::thread::sleep(Duration::from_millis(ms as u64));
}

/// Cuts the plan into as many equal waves, each of which asks for every one of its members.
fn cut(plan: &mut Plan, waves: usize) {
    let mut places: Vec<u16> = (0..NODES).map(|at| place(plan, &name(at))).collect();
    places.sort_unstable();
    let mut before = 0;
    plan.waves.clear();
    for wave in 1..=waves {
        let to = if wave == waves { RING } else { ring(&places, 100.0 * wave as f64 / waves as f64, 1) };
        let min_reports = u32::try_from(within(&places, to) - within(&places, before)).unwrap();
        plan.waves.push(Wave { to, gate: Gate { min_reports, soak_s: 0, ..Gate::of_first_wave() } });
        before = to;
    }
    plan.check().unwrap();
}

#[test]
fn a_company_s_hubs_lose_and_double_nothing_whichever_is_killed() {
    let kills = std::env::var("SELVEDGE_KILLS").map_or(6, |kills| kills.parse::<usize>().unwrap());
    let seed = std::env::var("SELVEDGE_SEED").map_or(1, |seed| seed.parse::<u64>().unwrap());
    let Some(bucket) = Bucket::start() else { return };
    let stage = Stage::packed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(database) = runtime.block_on(cluster::on_server(&stage.path("company"))) else { return };
    let mut company = Company::start(&stage, &runtime, &database, &bucket);
    let url = company.url.clone();

    // Packages and trust. An upload goes on at the hub where it began; everything else may ask either.
    stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
    stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
    let keys = ["targets", "assigner", "snapshot", "timestamp"];
    stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
    stage.run(&["push", "tiny", "hub:tiny", "--hub", &company.hubs[0].url]).ok();
    stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
    stage.run(&["trust", "push", "repo", "--hub", &url]).ok();

    let waves = (kills / 2).clamp(4, 12);
    let trial_ms = (kills * 3500 / waves) as f64;
    let shared = Arc::new(Shared::new(NODES, trial_ms));
    let mut members: Vec<Member> = (0..NODES).map(|at| Member::new(at, &url, shared.clone())).collect();
    runtime.block_on(futures_util::future::join_all(members.iter_mut().map(Member::introduce)));

    // A rollout by the verbs, of a plan with more and shorter waves than anybody would ask for.
    let rollout =
        |words: &[&str]| stage.run(&[&["rollout"], words, &["--hub", company.url.as_str()]].concat()).ok();
    let made = rollout(&["new", "tiny:7", "--where", "all", "--no-revert"]);
    assert!(made.contains(&format!("{NODES} of {NODES} nodes")), "{made}");
    let mut plan = text::read(&std::fs::read(stage.path("plan.json")).unwrap()).unwrap();
    cut(&mut plan, waves);
    std::fs::write(stage.path("plan.json"), text::write(&plan)).unwrap();
    let id = text::id(&plan).to_string();
    rollout(&["create", "plan.json"]);
    rollout(&["sign", &id, "--yes", "--key", "keys/assigner.age"]);
    let plan = Arc::new(plan);
    shared.begin(plan.clone());
    rollout(&["start", &id]);
    let living: Vec<_> = members.into_iter().map(|member| runtime.spawn(member.live())).collect();

    let mut world = Simulated::new(seed);
    for kill in 0..kills {
        pause(world.unit() * 1500.0);
        let which = usize::from(world.unit() < 0.5);
        company.kill(which);
        if world.unit() < 0.2 {
            // Once more, while it starts.
            company.spawn(&stage, which);
            pause(world.unit() * 400.0);
            company.kill(which);
        }
        pause(world.unit() * 3000.0);
        company.revive(&stage, which);
        assert!(!living.iter().any(tokio::task::JoinHandle::is_finished), "a node has given up");
        if kill == kills / 2 {
            company.audit(&stage, &["--keep", "kept"]);
            company.export(&stage, &["-o", "early"]);
        }
    }
    let (clock, path) = (System::new(), format!("/api/v1/rollouts/{id}"));
    while company.get(&runtime, 0, &path)["phase"] != "done" {
        assert!(clock.mono_ns() < PATIENCE_NS, "{:#}", company.get(&runtime, 0, &path));
        assert!(!living.iter().any(tokio::task::JoinHandle::is_finished), "a node has given up");
        pause(200.0);
    }
    shared.end();
    let members = runtime.block_on(futures_util::future::join_all(living));
    let members: Vec<Member> = members.into_iter().map(Result::unwrap).collect();

    for which in 0..2 {
        let get = |path: &str| company.get(&runtime, which, path);
        streams_are_whole(&get, &members);
        let entries = the_log_has_no_hole(&get);
        gates_were_kept(&get, &plan, &entries, &members);
        let into = format!("pulled-{which}");
        stage.run(&["pull", "hub:tiny", "--to", &into, "--hub", &company.hubs[which].url]).ok();
        assert!(files(&stage.path(&into).join("blobs")) == files(&stage.path("tiny/blobs")));
    }
    // Whoever starts publishes what is not published yet.
    company.kill(0);
    company.revive(&stage, 0);
    let newest = company.get(&runtime, 0, "/api/v1/audit?limit=1")["entries"][0]["id"].as_u64().unwrap();
    let clock = System::new();
    while company.audit(&stage, &["--from", "kept", "--keep", "late", "--json"])["size"] != newest {
        assert!(clock.mono_ns() < PATIENCE_NS, "the log is not published");
        pause(200.0);
    }
    evidence_speaks_for_itself(&stage, &company, &id);
    println!("{kills} kills, {NODES} nodes, {waves} waves: {newest} entries of the log");
    company.stop();
}

/// What the hubs say of the rollout is taken along, checked without them, and no longer believed when any of it is changed.
fn evidence_speaks_for_itself(stage: &Stage, company: &Company, id: &str) {
    company.export(stage, &["--rollout", &id[..8], "-o", "evidence.tar"]);
    company.export(stage, &["--rollout", id, "-o", "evidence"]);
    let verify = |dir: &str, more: &[&str]| {
        stage.run(&[&["audit", "verify", "--key", "hub-keys/audit.pub", "--dir", dir], more].concat())
    };
    for dir in ["evidence", "evidence.tar"] {
        let said = verify(dir, &["--records"]).ok();
        let members = format!("{NODES} members stand where their records say");
        assert!(
            said.contains(&members) && said.contains(&format!("{NODES} records in {NODES} chains")),
            "{said}"
        );
    }
    let key = std::fs::read_to_string(stage.path("hub-keys/audit.pub")).unwrap();
    let python = || {
        let program = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = std::process::Command::new(program);
        let ran = command.arg(stage.path("evidence/verify.py")).arg(key.trim()).output().unwrap();
        (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
    };
    let (holds, said) = python();
    assert!(holds && said.contains("each hashed again"), "{said}");
    let found = files(&stage.path("evidence"));
    let names: Vec<&str> = found.keys().filter_map(|path| path.to_str()).collect();
    let one = |begin: &str| *names.iter().find(|name| name.starts_with(begin)).unwrap();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    for part in [
        "rollout/plan.json",
        "rollout/documents/",
        "rollout/evidence.json",
        "trust/1.root.json",
        "releases/tiny/",
    ] {
        assert!(has(part), "{part}: {names:?}");
    }
    // A record edited, a head replaced, another plan, a release of something else: each is named, here and by the program.
    let (record, release) = (one("records/"), one("releases/"));
    let changes = [
        (record, "committed", "refused__", "record 1 was changed"),
        (record, "\"hash\":\"", "\"hash\":\"00", "line 1"),
        ("rollout/plan.json", "\"note\":\"", "\"note\":\"x", "plan.json"),
        (release, "{", "{ ", release),
    ];
    for (file, from, to, expected) in changes {
        let path = stage.path("evidence").join(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let (holds, said) = python();
        assert!(!holds && said.contains(expected), "{file}: {said}");
        if file != release {
            let ran = verify("evidence", &["--records"]);
            assert!(ran.code == Some(1) && ran.err.contains(expected), "{file}: {}{}", ran.out, ran.err);
        }
        std::fs::write(&path, whole).unwrap();
    }
    // A checkpoint that is rolled back, with a log that fits it.
    verify("early", &[]).ok();
    let ran = verify("early", &["--from", "late"]);
    assert!(ran.code == Some(1) && ran.err.contains("log-forked"), "{}{}", ran.out, ran.err);
}

/// Every node's records are there once, in order, and hash to what the node has.
fn streams_are_whole(get: &impl Fn(&str) -> Value, members: &[Member]) {
    let mut seqs: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    let (mut ids, mut before) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("/api/v1/records?limit=200{before}"));
        for record in page["records"].as_array().unwrap() {
            ids.push(record["id"].as_u64().unwrap());
            let word = |name: &str| record[name].as_str().unwrap().to_owned();
            seqs.entry((word("node"), word("stream"))).or_default().push(record["seq"].as_u64().unwrap());
        }
        let Some(next) = page["next_before"].as_i64() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(ids, (1..=ids.len() as u64).rev().collect::<Vec<_>>(), "numbers without a hole");
    for member in members {
        let (node, journal) = (member.node.name.as_str(), member.node.journal);
        for (stream, state) in &member.node.streams {
            let found = &seqs[&(node.to_owned(), stream.clone())];
            assert_eq!(*found, (1..=state.seq).rev().collect::<Vec<_>>(), "{node} {stream}");
        }
        let head = &member.node.streams["installs"];
        let proof = get(&format!("/api/v1/records/{node}/{journal}/installs/{}", head.seq));
        assert_eq!(proof["verified"], true, "{proof}");
    }
    assert_eq!(get("/api/v1/overview")["nodes"], members.len());
}

/// All entries, oldest first.
fn the_log_has_no_hole(get: &impl Fn(&str) -> Value) -> Vec<Value> {
    let page = get("/api/v1/audit?limit=1000");
    assert_eq!(page["next_before"], Value::Null, "one page is enough here");
    let mut entries = page["entries"].as_array().unwrap().clone();
    entries.reverse();
    let ids: Vec<u64> = entries.iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    entries
}

/// Each wave opened once, after the gate before it held; no document left before; each node is a member once.
fn gates_were_kept(get: &impl Fn(&str) -> Value, plan: &Plan, entries: &[Value], members: &[Member]) {
    let id = text::id(plan).to_string();
    let waves = plan.waves.len();
    let acts: Vec<&str> =
        entries.iter().filter(|it| it["about"] == *id).filter_map(|it| it["act"].as_str()).collect();
    for once in ["rollout.create", "rollout.sign", "rollout.ready", "rollout.start", "rollout.done"] {
        assert_eq!(acts.iter().filter(|act| **act == once).count(), 1, "{once}: {acts:?}");
    }
    let gates = get(&format!("/api/v1/rollouts/{id}/evidence"))["gates"].as_array().unwrap().clone();
    let passed: Vec<u64> = gates.iter().map(|gate| gate["wave"].as_u64().unwrap()).collect();
    assert_eq!(passed, (1..=waves as u64).collect::<Vec<_>>(), "a gate a wave, in order");
    for gate in &gates {
        assert!(gate["asked"].as_array().unwrap().iter().all(|one| one["holds"] == true), "{gate:#}");
    }
    let documents = get(&format!("/api/v1/rollouts/{id}/documents"));
    let released = |version: usize| {
        let mut documents = documents["documents"].as_array().unwrap().iter();
        documents.find(|one| one["version"] == version).and_then(|one| one["released_ms"].as_i64())
    };
    for wave in 2..=waves {
        assert!(released(wave) >= gates[wave - 2]["at_ms"].as_i64(), "wave {wave} before its gate");
    }
    let page = get(&format!("/api/v1/rollouts/{id}/members?limit=1000"));
    let rows = page["members"].as_array().unwrap();
    assert_eq!(rows.len(), members.len(), "a row a node");
    for row in rows {
        let (node, wave) = (row["node"].as_str().unwrap(), row["wave"].as_u64().unwrap());
        assert_eq!(row["standing"], "succeeded", "{row:#}");
        let its = plan.waves.iter().position(|wave| place(plan, node) < wave.to).map(|at| at as u64 + 1);
        assert_eq!(Some(wave), its, "{node}");
        assert!(row["offered_ms"].as_i64() >= released(wave as usize), "{row:#}");
    }
    let mut offers: Vec<u64> =
        members.iter().filter_map(|member| member.handed).map(|(offer, _)| offer).collect();
    offers.sort_unstable();
    assert_eq!(offers, (1..=members.len() as u64).collect::<Vec<_>>(), "as many offers as nodes");
}
