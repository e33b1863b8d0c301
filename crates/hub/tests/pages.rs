//! The pages of fleet, groups and rollouts in a real browser, over a made-up fleet with rollouts that go well and badly.
//!
//! Where Chromium is not installed, says so and is skipped. `SELVEDGE_SCREENSHOTS=DIR` keeps the pictures.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be"
)]

#[allow(clippy::expect_used, reason = "a driver that another test drives, too")]
#[path = "../../selvedge/tests/console/browser.rs"]
mod browser;
mod fleet;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use browser::Browser;
use fleet::FakeNode;
use hub::config::HubConfig;
use hub::rollout::figures::{Hour, day_of};
use hub::rollout::gate::View;
use hub::rollout::member::{Happened, Member, Standing};
use hub::rollout::plan::{Gate, Kind, Plan, PlanId, RING, Target, Wave};
use hub::rollout::step::{Effect, Event, Order, Rollout, step};
use hub::rollout::text;
use hub::server::{Hub, Running};
use hub::store::audit::{self, Entry};
use hub::store::connection::Writer;
use hub::store::rollouts::{self, NewState, NodeState};
use hub::store::samples::{self, SampleRow};
use hub::store::{nodes, sqlite};
use package::name::ModelName;
use serde_json::json;
use wire::body::Behaviour;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::{Clock, System};

const HOUR_MS: i64 = 3_600_000;

/// Nodes with a release on trial; the one that is ahead of the hub; the one with figures.
const TRIED: [usize; 2] = [1, 24];
const AHEAD: usize = 18;
const FIGURES: usize = 3;

async fn hub(folder: &Path) -> Running {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = HubConfig { listen, data: folder.to_owned(), ..HubConfig::default() };
    Hub::start(config, System::new()).await.unwrap()
}

fn name(at: usize) -> String {
    format!("pump-{}-{:02}", ["oslo", "bergen", "narvik"][at % 3], at / 3 + 1)
}

/// Sixty nodes on three sites check in once.
async fn meet(url: &str) {
    let now_ms = System::new().wall_ms();
    let http = reqwest::Client::new();
    for at in 0..60 {
        let node = FakeNode::with(http.clone(), url, &name(at), at as u64);
        let mut checkin = serde_json::to_value(node.checkin(now_ms)).unwrap();
        let site = ["oslo", "bergen", "narvik"][at % 3];
        let set = json!({
            "arch": if at % 5 == 0 { "aarch64" } else { "x86_64" }, "ram": (1_u64 << 30) * [1, 2, 4, 8][at % 4],
            "disk": 20_000_000_000_u64, "isa": ["avx2"], "cores": 4, "version": "0.1.0", "link": "wired",
            "model.smollm2": if at < 20 { 7 } else { 6 },
            "label.site": site, "label.line": ((at / 3) % 4 + 1).to_string(),
        });
        checkin["inventory"] = json!({"seq": 1, "base": 0, "set": set});
        if TRIED.contains(&at) {
            checkin["inventory"]["set"]["trial.smollm2"] = json!(7);
        }
        if at == FIGURES {
            let current = json!({"release": 7, "variant": "q4", "manifest": Hash::of(b"seven").to_string()});
            checkin["slots"] = json!([{"model": "smollm2", "current": current, "previous": 6}]);
        }
        if at == 7 {
            checkin["sources"] = json!([{"source": "pump", "state": "failed", "reason": "no port", "readings": 5, "refused": 0}]);
        }
        let answer = node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;
        assert!(answer.status().is_success());
    }
}

fn plan(release: u64, group: &str, created_ms: i64) -> Plan {
    let target = |release: u64| Target {
        model: ModelName::new("smollm2").unwrap(),
        release,
        index: Hash::of(&release.to_be_bytes()),
        size: 2310,
        variant: None,
    };
    let later =
        |to: u16, members: u32, hours: u32| Wave { to, gate: Gate::of_later_wave(members, hours * 3600) };
    let first = Gate { min_reports: 6, ..Gate::of_first_wave() };
    let (what, revert) = (vec![target(release)], vec![target(release - 1)]);
    let mut plan = Plan::to_all(what, revert, "ann", created_ms / 1000 * 1000);
    plan.group = group.to_owned();
    plan.canary = vec![NodeId::new(&name(0)).unwrap(), NodeId::new(&name(1)).unwrap()];
    plan.waves =
        vec![Wave { to: 205, gate: first }, later(1024, 24, 6), later(1946, 50, 12), later(RING, 60, 12)];
    (plan.hold_out_percent, plan.revert_on_stop, plan.targets_version) = (5, false, 31);
    plan.note = "less memory, same answers".to_owned();
    plan.salt = text::salt(&plan);
    plan.check().unwrap();
    plan
}

/// A rollout on its way: the pure machine, and what it gives for the store.
struct Story<'a> {
    writer: &'a mut Writer,
    plan: Plan,
    id: PlanId,
    rollout: Rollout,
    now_ms: i64,
}

impl Story<'_> {
    async fn begin(writer: &mut Writer, plan: Plan) -> Story<'_> {
        let id = text::id(&plan);
        let now_ms = plan.created_ms;
        let rollout = Rollout::new(&plan, id, now_ms);
        let body = String::from_utf8(text::write(&plan)).unwrap();
        let state = serde_json::to_string(&rollout).unwrap();
        let new = NewState {
            revision: 0,
            phase: "draft",
            active: true,
            wave: rollout.wave,
            state: &state,
            changed_ms: now_ms,
        };
        assert!(rollouts::add(writer, &id.to_string(), &body, &new).await.unwrap());
        Story { writer, plan, id, rollout, now_ms }
    }

    async fn event(&mut self, event: Event) {
        let (rollout, effects) = step(&self.plan, self.rollout.clone(), event, self.now_ms);
        self.rollout = rollout;
        for effect in effects {
            let Effect::Audit(act) = effect else { continue };
            let entry = Entry {
                at_ms: self.now_ms,
                who: if act.who.is_empty() { "hub".into() } else { act.who },
                act: act.act,
                about: self.id.to_string(),
                why: act.why,
                before: Some(act.before.into()),
                after: Some(act.after.into()),
            };
            audit::append(self.writer, &entry).await.unwrap();
        }
    }

    async fn order(&mut self, order: Order, why: &str) {
        self.event(Event::Ordered { order, who: "operator:ann".into(), why: why.into() }).await;
    }

    async fn sign(&mut self) {
        let waves = 1..=self.plan.last_wave();
        let kinds = waves.flat_map(|wave| [Kind::Wave(wave), Kind::Revert(wave)]);
        let kinds: BTreeSet<Kind> = kinds.chain([Kind::Canary, Kind::CanaryRevert, Kind::Standing]).collect();
        self.event(Event::Signed(kinds)).await;
    }

    async fn member(&mut self, node: usize, standing: Standing, why: &str) {
        let (wave, now_ms) = (self.rollout.wave, self.now_ms);
        let member = Member {
            wave,
            standing,
            version: wave.max(1),
            done: u8::from(standing == Standing::Succeeded),
            offered_ms: now_ms,
            changed_ms: now_ms,
            why: why.into(),
            kernel_same: (standing == Standing::Failed).then_some(false),
        };
        let no = nodes::find(self.writer, &NodeId::new(&name(node)).unwrap()).await.unwrap().unwrap();
        rollouts::put_member(self.writer, &self.id.to_string(), no, &member, None).await.unwrap();
        let mut from = Standing::Waiting;
        for to in [Standing::Offered, standing] {
            if from != to {
                self.event(Event::Happened(no, Happened { wave, from, to, bytes: 0 })).await;
            }
            from = to;
        }
    }

    async fn pass(&mut self, hours: i64) {
        let mut view = View { wave: self.rollout.wave, held_out: 30, ..View::default() };
        self.event(Event::Tick(view)).await;
        self.now_ms += hours * HOUR_MS;
        view.wave = self.rollout.wave;
        self.event(Event::Tick(view)).await;
    }

    async fn end(self) -> PlanId {
        let state = serde_json::to_string(&self.rollout).unwrap();
        let new = NewState {
            revision: self.rollout.revision,
            phase: self.rollout.phase.as_str(),
            // At rest, so that nothing moves while pictures are taken.
            active: false,
            wave: self.rollout.wave,
            state: &state,
            changed_ms: self.now_ms,
        };
        assert!(rollouts::swap(self.writer, &self.id.to_string(), 0, &new).await.unwrap());
        self.id
    }
}

/// Three rollouts: one on its way, one that a gate stopped, one that nobody has signed.
async fn tell_stories(folder: &Path) -> (PlanId, PlanId, PlanId) {
    let mut store = sqlite::open(folder).await.unwrap();
    for at in [20, 35] {
        let no = nodes::find(&mut store.writer, &NodeId::new(&name(at)).unwrap()).await.unwrap().unwrap();
        nodes::silence(&mut store.writer, no).await.unwrap();
    }
    let now_ms = System::new().wall_ms();
    let no = nodes::find(&mut store.writer, &NodeId::new(&name(AHEAD)).unwrap()).await.unwrap().unwrap();
    let state = NodeState {
        conflict: Some("it was told revision 9, this hub is at 4".into()),
        ..NodeState::default()
    };
    rollouts::put_node(&mut store.writer, no, &state).await.unwrap();
    figures(&mut store.writer, now_ms).await;

    let mut good = Story::begin(
        &mut store.writer,
        plan(7, "site in [\"oslo\", \"bergen\"] && ram >= 1GiB", now_ms - 9 * HOUR_MS),
    )
    .await;
    good.sign().await;
    good.order(Order::Start, "measured at the bench").await;
    for node in 0..2 {
        good.member(node, Standing::Succeeded, "").await;
    }
    good.pass(1).await;
    for node in 3..11 {
        good.member(node, Standing::Succeeded, "").await;
    }
    good.pass(2).await;
    for node in 12..24 {
        let (standing, why) = match node {
            12..=18 => (Standing::Succeeded, ""),
            19 => (Standing::Trying, ""),
            20 => (Standing::Unknown, "silent since it was offered"),
            21 => (Standing::Unable, "no variant fits: 214 MiB more memory"),
            _ => (Standing::Offered, ""),
        };
        good.member(node, standing, why).await;
    }
    let view = View { wave: good.rollout.wave, waiting: 3, held_out: 30, ..View::default() };
    good.event(Event::Tick(view)).await;
    let good = good.end().await;

    let mut bad = Story::begin(&mut store.writer, plan(8, "site == \"narvik\"", now_ms - 5 * HOUR_MS)).await;
    bad.sign().await;
    bad.order(Order::Start, "").await;
    bad.member(0, Standing::Succeeded, "").await;
    bad.member(1, Standing::Succeeded, "").await;
    bad.pass(1).await;
    bad.member(2, Standing::Succeeded, "").await;
    bad.member(5, Standing::Failed, "refused: golden answer 3 of 8 is another").await;
    let bad = bad.end().await;

    let draft = Story::begin(&mut store.writer, plan(9, "all", now_ms - HOUR_MS)).await;
    let draft = draft.end().await;
    drop(store);
    (good, bad, draft)
}

/// A node tells of release 6 for two days, and of 7 since.
async fn figures(writer: &mut Writer, now_ms: i64) {
    let no = nodes::find(writer, &NodeId::new(&name(FIGURES)).unwrap()).await.unwrap().unwrap();
    for (hours, of, p95, failed, rss, joules) in
        [(2..48, "six", 40, 4, 300_000_000_u64, 2.0), (0..2, "seven", 20, 1, 330_000_000, 1.5)]
    {
        for hour in hours {
            let at_ms = now_ms - (hour + 1) * HOUR_MS;
            let manifest = Hash::of(of.as_bytes());
            let told: Behaviour = serde_json::from_value(json!({
                "id": "b", "model": "smollm2", "manifest": manifest.to_string(), "from_ms": at_ms, "to_ms": at_ms + 1,
                "answered": 100 - failed, "failed": failed, "latency_ms": {"p50": p95 / 2, "p95": p95, "n": 100},
                "rss_bytes": rss, "joules": joules,
            }))
            .unwrap();
            let day = day_of(at_ms);
            let mut kept = samples::find(writer, "smollm2", no, day, &manifest).await.unwrap();
            kept.add(at_ms, &Hour::of(&told));
            let row = SampleRow { node: no, day, manifest, told: kept };
            samples::put(writer, "smollm2", &row).await.unwrap();
        }
    }
}

/// Keeps a picture where the caller wants them.
fn keep(browser: &mut Browser, name: &str) {
    use base64::Engine as _;
    let picture = browser.screenshot();
    if let Some(folder) = std::env::var_os("SELVEDGE_SCREENSHOTS") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture).unwrap();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

const SOON: Duration = Duration::from_secs(30);

fn open(browser: &mut Browser, address: &str) {
    browser.open(address);
    let there = format!(
        "document.readyState === 'complete' && location.href === {} && document.querySelector('main')",
        json!(address)
    );
    browser.wait_for(&there, SOON);
}

fn look(browser: &mut Browser, url: &str, (good, bad, draft): (PlanId, PlanId, PlanId)) {
    let says = |text: &str| format!("document.querySelector('main').innerText.includes({})", json!(text));

    // The fleet by keys alone: search, an error with its place, what is meant, a group of it.
    open(browser, &format!("{url}/"));
    browser.key("g");
    browser.key("f");
    browser.wait_for("location.pathname === '/nodes' && document.readyState === 'complete'", SOON);
    browser.wait_for(&says("60 nodes"), SOON);
    keep(browser, "fleet.png");
    browser.key("/");
    browser.wait_for("document.activeElement.name === 'where'", SOON);
    browser.type_text("site = \"oslo\"");
    browser.key("Enter");
    browser.wait_for("document.querySelector('.wrong pre')?.innerText.includes('^')", SOON);
    keep(browser, "fleet-wrong.png");
    browser.key("/");
    browser.type_text("site == \"oslo\" && ram >= 4GiB");
    browser.key("Enter");
    browser.wait_for(&says("10 nodes"), SOON);
    browser.click(".chip.new");
    browser.wait_for("location.pathname === '/groups' && document.readyState === 'complete'", SOON);
    browser.click("input[name=group]");
    browser.type_text("large-oslo");
    browser.key("Enter");
    browser.wait_for("document.querySelector('button[value=save]')", SOON);
    keep(browser, "group-new.png");
    browser.click("button[value=save]");
    browser.wait_for("location.search === '' && document.querySelector('table')", SOON);
    browser.wait_for(&says("large-oslo"), SOON);
    keep(browser, "groups.png");
    open(browser, &format!("{url}/nodes?where=group.large-oslo"));
    browser.wait_for(&says("10 nodes"), SOON);
    open(browser, &format!("{url}/nodes?one=site&two=line"));
    browser.wait_for("document.querySelectorAll('.map td').length === 12", SOON);
    for (class, words) in [("ahead", "1 in conflict"), ("unknown", "1 silent"), ("trial", "1 on trial")] {
        let cell = format!("document.querySelector('.map td.{class} small')?.innerText === {}", json!(words));
        browser.wait_for(&cell, SOON);
    }
    keep(browser, "fleet-map.png");

    // Nodes that know more than the hub: counted on the first page, found from there, and told on their own.
    open(browser, &format!("{url}/"));
    browser.wait_for(&says("1 in conflict"), SOON);
    keep(browser, "overview-conflict.png");
    browser.click("a[href='/nodes?where=conflict']");
    browser.wait_for(&says("1 node"), SOON);
    browser.wait_for(&says(&name(AHEAD)), SOON);
    open(browser, &format!("{url}/nodes/{}", name(AHEAD)));
    browser.wait_for(&says("it was told revision 9, this hub is at 4"), SOON);
    keep(browser, "node-conflict.png");
    open(browser, &format!("{url}/nodes/{}", name(FIGURES)));
    browser.wait_for(&says("smollm2 before and since"), SOON);
    for told in ["40 ms", "20 ms", "-50 %", "-3.0 points", "+10 %", "1.5 J", "release 7"] {
        browser.wait_for(&says(told), SOON);
    }
    browser.resize(1280, 1700, false);
    keep(browser, "node-figures.png");
    browser.resize(1280, 1100, false);

    // Why a node is offered what a rollout brings: its place, its standing, and each term of the group.
    open(browser, &format!("{url}/api"));
    let why = format!(
        "fetch('/api/v1/nodes/{}/why?rollout={good}').then(it => it.json()).then(it => window.why = it)",
        name(20)
    );
    browser.evaluate(&why);
    browser.wait_for("window.why?.rollout?.standing === 'unknown' && window.why.rollout.place < 2048", SOON);
    browser.wait_for("window.why.terms.length === 2 && window.why.holds === false", SOON);

    // One node: why an expression means it, and a label that it has not got yet.
    open(browser, &format!("{url}/nodes/pump-oslo-02/facts"));
    browser.click("#where");
    browser.type_text("site == \"oslo\" && ram >= 16GiB");
    browser.key("Enter");
    browser.wait_for(&says("It is not meant."), SOON);
    browser.click("textarea");
    browser.type_text("shift=night");
    browser.click(".stacked button");
    browser.wait_for(&says("does not say shift=night yet"), SOON);
    keep(browser, "facts.png");
    open(browser, &format!("{url}/nodes"));

    // Help opens and closes.
    browser.key("?");
    browser.wait_for("document.getElementById('keys').open", SOON);
    keep(browser, "keys.png");
    browser.key("Escape");
    browser.wait_for("!document.getElementById('keys').open", SOON);

    // Rollouts: what each waits for, and why one stands still.
    open(browser, &format!("{url}/rollouts"));
    browser.wait_for("document.querySelectorAll('.rollout').length === 3", SOON);
    keep(browser, "rollouts.png");
    browser.resize(1280, 1700, false);
    open(browser, &format!("{url}/rollouts/{good}"));
    browser.wait_for(&says("1 unknown"), SOON);
    let unknown = "getComputedStyle(document.querySelector('.members .unknown')).fill.includes('hatch')";
    browser.wait_for(unknown, SOON);
    keep(browser, "rollout.png");
    open(browser, &format!("{url}/rollouts/{bad}"));
    browser.wait_for("document.querySelector('.evidence')", SOON);
    browser.wait_for(&says("golden answer 3 of 8"), SOON);
    keep(browser, "rollout-stopped.png");
    open(browser, &format!("{url}/rollouts/{draft}"));
    browser.wait_for(&says("selvedge rollout sign"), SOON);
    keep(browser, "rollout-draft.png");

    // Ending it takes two presses, a reason is told, and the audit log has it.
    browser.click("input[name=why]");
    browser.type_text("not needed any more");
    browser.click("button[formaction$='/abort']");
    browser.wait_for(&says("Really end it?"), SOON);
    browser.click("button[formaction$='/abort']");
    browser.wait_for("document.getElementById('phase')?.innerText === 'aborted'", SOON);
    open(browser, &format!("{url}/audit?on={draft}"));
    browser.wait_for(&says("not needed any more"), SOON);
    browser.resize(1280, 1100, false);
    open(browser, &format!("{url}/audit"));
    browser.wait_for(&says("group.save"), SOON);
    keep(browser, "audit.png");
    open(browser, &format!("{url}/packages"));
    keep(browser, "packages.png");

    // On a phone, in the dark, nothing is wider than the screen.
    browser.prefer("dark");
    for (page, picture) in [
        ("/nodes?one=site&two=line", "dark-map.png"),
        (&format!("/nodes/{}", name(FIGURES)), "dark-figures.png"),
        (&format!("/nodes/{}", name(AHEAD)), "dark-conflict.png"),
    ] {
        open(browser, &format!("{url}{page}"));
        keep(browser, picture);
    }
    browser.resize(360, 780, true);
    for (page, picture) in [
        ("/nodes", "phone-fleet.png"),
        ("/nodes?one=site&two=line", "phone-map.png"),
        ("/", "phone-overview.png"),
        (&format!("/nodes/{}", name(FIGURES)), "phone-figures.png"),
        (&format!("/nodes/{}", name(AHEAD)), "phone-conflict.png"),
        ("/nodes/pump-oslo-02/facts", "phone-facts.png"),
        ("/groups", "phone-groups.png"),
        ("/packages", "phone-packages.png"),
        ("/rollouts", "phone-rollouts.png"),
        (&format!("/rollouts/{good}"), "phone-rollout.png"),
        (&format!("/rollouts/{bad}"), "phone-stopped.png"),
        ("/audit", "phone-audit.png"),
    ] {
        open(browser, &format!("{url}{page}"));
        let wide = browser.evaluate("document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(wide, json!(false), "{page} scrolls sideways on a phone");
        browser.evaluate("document.querySelector('.figures')?.scrollIntoView({block: 'center'})");
        keep(browser, picture);
    }
    browser.click(".others summary");
    browser.wait_for("document.querySelector('.others').open", SOON);
    keep(browser, "phone-more.png");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_searches_the_fleet_and_reads_rollouts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(&folder.path().join("profile")) else {
        eprintln!("skipped: chromium is not installed");
        return;
    };
    let data = folder.path().join("data");
    let first = hub(&data).await;
    meet(&first.url()).await;
    first.stop().await;
    let ids = tell_stories(&data).await;
    let hub = hub(&data).await;
    let url = hub.url();
    tokio::task::spawn_blocking(move || look(&mut browser, &url, ids)).await.unwrap();
    hub.stop().await;
}
