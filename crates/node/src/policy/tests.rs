//! What leaves, and what does not, in which words.

use proptest::prelude::*;
use serde_json::json;
use wire::world::Simulated;

use super::*;

fn draft(stream: &str, class: Class, kind: &str, body: &Value) -> Draft {
    let body = RawValue::from_string(body.to_string()).unwrap();
    Draft { stream: StreamName::new(stream).unwrap(), class, kind: PartName::new(kind).unwrap(), body }
}

fn policy(usual: Say) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    let pseudonyms = Pseudonyms::open_or_make(folder.path(), &mut Simulated::new(1)).unwrap();
    Policy { usual, pseudonyms: Some(pseudonyms), ..Policy::default() }
}

fn events() -> Say {
    Say { leaves: vec![Class::Audit, Class::Event], hides_words: true, ..Say::usual() }
}

fn pass(policy: &Policy, draft: Draft) -> Draft {
    policy.pass(draft).0
}

fn leaves(policy: &Policy, draft: &Draft) -> bool {
    policy.leaves(&draft.stream, draft.class)
}

#[test]
fn without_a_policy_nothing_changes() {
    let policy = Policy::default();
    let body = json!({"source": "pump", "channels": ["a"], "values": [[1.5]]});
    let passed = pass(&policy, draft("readings.pump", Class::Raw, "readings", &body));
    assert_eq!(passed.body.get(), body.to_string());
    assert!(!leaves(&policy, &passed));
    assert!(leaves(&policy, &pass(&policy, draft("summary.pump", Class::Metric, "summary", &body))));
}

#[test]
fn words_are_hidden_and_ours_are_not() {
    let policy = policy(events());
    let body = json!({
        "rule": "hot", "state": "firing", "severity": "critical", "source": "pump", "when": "pump.canary > 3",
        "why": "canary was 4", "value": 4.0, "model": {"name": "health", "variant": "subspace lag=10"}, "at_ms": 5,
        "channels": [{"channel": "canary", "share": 0.7}], "who": {"kind": "person", "name": "kim"},
    });
    let passed = pass(&policy, draft("decisions", Class::Audit, "decision", &body));
    let text = passed.body.get();
    assert!(!text.contains("canary") && !text.contains("kim"), "{text}");
    let json: Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["rule"], "hot");
    assert_eq!(json["model"], body["model"]);
    assert_eq!(json["who"]["kind"], "person");
    assert_eq!(json["channels"][0]["share"], 0.7);
    assert_eq!(json["channels"][0]["channel"].as_str().unwrap().len(), 18);
    assert!(leaves(&policy, &passed));
    let (_, original) = policy.pass(draft("decisions", Class::Audit, "decision", &body));
    let original = original.unwrap();
    assert_eq!(original.body.get(), body.to_string(), "all of its words stay here");
    assert!(!leaves(&policy, &original));
    assert!(!leaves(&policy, &pass(&policy, draft("summary.pump", Class::Metric, "summary", &body))));
    // What is known of the part is no reason to say more than of any source.
    let part = json!({"part": "uplink", "state": "failed", "reason": "canary"});
    assert!(!pass(&policy, draft("events", Class::Event, "part", &part)).body.get().contains("canary"));
    assert_eq!(policy.text(Some("pump"), "canary"), None);
}

#[test]
fn a_source_may_say_less_than_the_others() {
    let mut policy = policy(Say::usual());
    let none = Say { leaves: vec![Class::Audit], hides_words: true, ..Say::usual() };
    policy.sources.insert(PartName::new("cam").unwrap(), none);
    let of = |source: &str, stream: &str, class| {
        pass(&policy, draft(stream, class, "inference", &json!({"source": source, "label": "canary"})))
    };
    let (cam, pump) = (of("cam", "inferences", Class::Event), of("pump", "inferences", Class::Event));
    assert_eq!((cam.stream.as_str(), leaves(&policy, &cam)), ("private.inferences", false));
    assert_eq!((pump.stream.as_str(), leaves(&policy, &pump)), ("inferences", true));
    assert!(pump.body.get().contains("canary") && !cam.body.get().contains("canary"));
    assert!(!leaves(&policy, &of("cam", "summary.cam", Class::Metric)));
    assert!(leaves(&policy, &of("cam", "decisions", Class::Audit)));
    // The source of a part is named by it.
    let part = json!({"part": "source.cam", "reason": "canary"});
    let part = pass(&policy, draft("events", Class::Event, "part", &part));
    assert!(!leaves(&policy, &part));
}

#[test]
fn channels_are_dropped_and_rounded() {
    let say = Say {
        leaves: Class::ALL.to_vec(),
        drop: vec!["ecg".into()],
        round: BTreeMap::from([("t".to_owned(), 0.5)]),
        ..Say::usual()
    };
    let policy = policy(say);
    let body = json!({"source": "bed", "channels": ["ecg", "t"], "t_ms": [1, 2], "values": [[1.0, 2.0], [36.6, null]]});
    let passed = pass(&policy, draft("readings.bed", Class::Raw, "readings", &body));
    assert_eq!(passed.stream.as_str(), "shown.readings.bed");
    assert!(leaves(&policy, &passed));
    assert!(!policy.leaves(&StreamName::new("readings.bed").unwrap(), Class::Raw), "what was kept before");
    let json: Value = serde_json::from_str(passed.body.get()).unwrap();
    assert_eq!((&json["channels"], &json["values"]), (&json!(["t"]), &json!([[36.5, null]])));

    let body = json!({"source": "bed", "count": 7, "channels": [
        {"channel": "ecg", "min": 0.1}, {"channel": "t", "min": 36.6, "mean": 36.71, "max": 37.3, "missing": 3}]});
    let passed = pass(&policy, draft("summary.bed", Class::Metric, "summary", &body));
    let json: Value = serde_json::from_str(passed.body.get()).unwrap();
    assert_eq!(
        json["channels"],
        json!([{"channel": "t", "min": 36.5, "mean": 36.5, "max": 37.5, "missing": 3}])
    );
    assert_eq!(json["count"], 7);

    let decision = |when: &str| {
        let body = json!({"source": "bed", "when": when, "value": 36.6, "why": "36.6, above 3"});
        let passed = pass(&policy, draft("decisions", Class::Audit, "decision", &body));
        serde_json::from_str::<Value>(passed.body.get()).unwrap()
    };
    assert_eq!(decision("bed.ecg > 3")["value"], Value::Null);
    assert_eq!(decision("bed.t > 3")["value"], 36.5);
    assert!(!decision("bed.t > 3")["why"].as_str().unwrap().contains("36.6"));
    assert_eq!(decision("bed.tt > 3")["value"], 36.6, "another channel");
}

#[test]
fn what_is_said_of_a_channel_is_said_of_its_source() {
    let part = |part: &str, reason: &str| json!({"part": part, "state": "faulty", "reason": reason});
    let of = |policy: &Policy, body: &Value| pass(policy, draft("events", Class::Event, "part", body));
    let shown = |policy: &Policy, name: &str| {
        let passed = of(policy, &part(name, "range: 40 is above 8"));
        let body: Value = serde_json::from_str(passed.body.get()).unwrap();
        (passed.stream.to_string(), body["part"].as_str().unwrap().to_owned(), body["reason"].clone())
    };
    // The name of a channel came with the data.
    let hidden = policy(events());
    let name = hidden.pseudonyms.as_ref().unwrap().of("canary");
    let (stream, part_of, _) = shown(&hidden, "source.bed.canary");
    assert_eq!((stream, part_of), ("events".to_owned(), format!("source.bed.{name}")));
    for ours in ["source.bed.health", "source.bed", "model.canary", "rule.hot"] {
        assert_eq!(shown(&hidden, ours).1, ours);
    }
    // What is said of one source alone holds for its channels, also if its name has dots in it.
    for source in ["bed", "bed.7"] {
        let mut policy = policy(Say::usual());
        let say =
            Say { drop: vec!["ecg".into()], round: BTreeMap::from([("t".into(), 0.5)]), ..Say::usual() };
        policy.sources.insert(PartName::new(source).unwrap(), say);
        let dropped = of(&policy, &part(&format!("source.{source}.ecg"), "stuck"));
        assert_eq!((dropped.stream.as_str(), leaves(&policy, &dropped)), ("private.events", false));
        let (stream, part_of, reason) = shown(&policy, &format!("source.{source}.t"));
        assert_eq!((stream.as_str(), part_of), ("events", format!("source.{source}.t")));
        assert_eq!(reason, "withheld by the node's policy", "it names a value");
        let (.., reason) = shown(&policy, &format!("source.{source}.other"));
        assert_eq!(reason, "range: 40 is above 8");
        let (.., reason) = shown(&policy, "source.pump.t");
        assert_eq!(reason, "range: 40 is above 8", "another source");
        // Nor do others name it.
        let sibling = of(&policy, &part(&format!("source.{source}.spo2"), "drift, most from `ecg`"));
        assert!(!sibling.body.get().contains("ecg"), "{}", sibling.body.get());
        assert_eq!(policy.text(Some(source), "3 channels: ecg, t, spo2"), None);
        assert_eq!(policy.text(Some("pump"), "1 channel: ecg"), Some("1 channel: ecg"));
    }
    let mut none = policy(Say::usual());
    let say = Say { leaves: Vec::new(), hides_words: true, ..Say::usual() };
    none.sources.insert(PartName::new("cam").unwrap(), say);
    assert!(!leaves(&none, &of(&none, &part("source.cam.canary", "canary"))));
}

#[test]
fn a_name_of_ours_says_nothing_in_a_table_of_theirs() {
    let policy = policy(events());
    let text = |class, kind: &str, body: Value| {
        pass(&policy, draft("decisions", class, kind, &body)).body.get().to_owned()
    };
    let answer = json!({"model": {"name": "eye", "variant": "v1"}, "source": "cam", "fields":
        {"class": "canary", "state": "canary", "id": "canary", "score": 0.5}});
    let text_of = text(Class::Event, "answer", answer);
    assert!(
        !text_of.contains("canary") && text_of.contains("\"eye\"") && text_of.contains("0.5"),
        "{text_of}"
    );
    let decision = json!({"rule": "hot", "labels": {"subject": "canary", "asked": "canary"}});
    assert!(!text(Class::Audit, "decision", decision).contains("canary"));
    // Whoever is refused may have asked for anything.
    let act = |outcome: &str| json!({"actuator": "valve", "asked": "canary", "outcome": outcome});
    assert!(!text(Class::Audit, "act", act("refused")).contains("canary"));
    assert!(text(Class::Audit, "act", act("done")).contains("canary"), "a word of the flow");
}

#[test]
fn a_subject_stands_in_its_records_by_another_name() {
    let mut policy = policy(Say::usual());
    let say = Say { subject: Some("patient-17".into()), ..Say::usual() };
    policy.sources.insert(PartName::new("bed").unwrap(), say);
    let passed = pass(&policy, draft("decisions", Class::Audit, "decision", &json!({"source": "bed"})));
    let json: Value = serde_json::from_str(passed.body.get()).unwrap();
    assert_eq!(json["subject"], policy.pseudonyms.as_ref().unwrap().of("patient-17").as_str());
    let other = pass(&policy, draft("decisions", Class::Audit, "decision", &json!({"source": "pump"})));
    assert!(!other.body.get().contains("subject"));
}

/// Any body: a word in capitals is never ours.
fn any_body() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("reason".to_owned()),
        Just("channel".to_owned()),
        Just("label".to_owned()),
        Just("name".to_owned()),
        Just("CANARY".to_owned()),
        "[a-z_]{1,8}",
    ];
    let leaf = prop_oneof![
        Just(json!("CANARY")),
        "[a-z ]{0,5}CANARY[a-z ]{0,5}".prop_map(Value::String),
        any::<i32>().prop_map(|number| json!(number)),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_word_of_the_data_is_left(body in any_body()) {
        let ours = ["source", "model", "rule", "state", "id", "part", "kind"];
        let policy = policy(events());
        let passed = pass(&policy, draft("events", Class::Event, "anything", &body));
        let text = passed.body.get();
        // What stands under a name of ours is ours; the strategy makes such names by chance only.
        prop_assume!(!ours.iter().any(|name| body.to_string().contains(&format!("\"{name}\""))));
        prop_assert!(!text.contains("CANARY"), "{text}");
    }
}
