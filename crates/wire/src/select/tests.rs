//! The language against its grammar and against a second, naive reading of what it means.

use proptest::prelude::*;

use super::tree::{Op, Unit, Value};
use super::*;

fn facts(json: &str) -> Facts {
    serde_json::from_str(json).unwrap()
}

fn has(text: &str, facts: &Facts) -> bool {
    Selector::parse(text).unwrap_or_else(|bad| panic!("{bad}\n{}", bad.caret(text))).has(facts)
}

const PUMP: &str = r#"{"name":"pump-1","arch":"aarch64","isa":["neon","dotprod"],"ram":4294967296,"cores":4,
    "version":"0.10.2","load":0.25,"model.smollm2":6,"label.site":"oslo","label.floor":"2","relay":false,"spare":true}"#;

#[test]
fn an_expression_says_which_nodes_are_meant() {
    let pump = facts(PUMP);
    let held = [
        "all",
        "arch",
        "spare",
        "!relay",
        "site == \"oslo\"",
        "label.site == \"oslo\"",
        "site != \"bergen\"",
        "site == \"oslo\" && ram >= 2GiB",
        "ram == 4 GiB",
        "ram < 5GB",
        "cores in [2, 4]",
        "isa has \"neon\"",
        "arch has \"aarch64\"",
        "name ~ \"pump-*\"",
        "name ~ \"p?mp-?\"",
        "name ~ \"*\"",
        "load == 25%",
        "model.smollm2 < 7",
        "version >= \"0.9.5\"",
        "version < \"0.11\"",
        "relay == false",
        "spare != false",
        "site == \"x\" || arch == \"aarch64\" && cores > 3",
        "!(site == \"bergen\")",
        "floor in [\"1\",\"2\"]",
        "!(absent == \"x\")",
        "load > -1",
    ];
    let failed = [
        "relay",
        "absent",
        "absent == \"x\"",
        "absent != \"x\"",
        "absent < 5",
        "!all",
        "site == 5",
        "site != 5",
        "ram == \"4\"",
        "isa == \"neon\"",
        "isa has \"sve\"",
        "isa ~ \"n*\"",
        "name ~ \"pump\"",
        "name ~ \"ump-1\"",
        "cores in [\"4\"]",
        "cores has \"4\"",
        "spare < true",
        "(site == \"x\" || arch == \"aarch64\") && cores > 4",
        "Site == \"oslo\"",
        "state == \"up\"",
        "floor == 2",
    ];
    for text in held {
        assert!(has(text, &pump), "{text}");
    }
    for text in failed {
        assert!(!has(text, &pump), "{text}");
    }
}

#[test]
fn units_are_those_of_facts() {
    let units = [
        ("1B", 1.0),
        ("1kB", 1e3),
        ("1MB", 1e6),
        ("1GB", 1e9),
        ("1KiB", 1024.0),
        ("1MiB", 1048576.0),
        ("1GiB", 1073741824.0),
        ("1s", 1.0),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("1%", 0.01),
        ("1MHz", 1e6),
        ("1GHz", 1e9),
        ("1W", 1.0),
        ("1", 1.0),
    ];
    for (written, number) in units {
        let mut facts = Facts::default();
        facts.set(FactName::new("x").unwrap(), number.into()).unwrap();
        assert!(has(&format!("x == {written}"), &facts), "{written}");
    }
}

#[test]
fn what_cannot_be_read_is_shown_with_its_place() {
    let wrong = [
        "",
        "site = \"oslo\"",
        "site == oslo",
        "ram >= 2 gib",
        "(site",
        "a && || b",
        "a b",
        "all all",
        "!!a",
        "site == \"oslo",
        "x in []",
        "x in [1,",
        "x has 5",
        "x == 1.2.3",
        "x == -",
        "in == 1",
        "\u{f6}l == 1",
        "'x'",
        "a &&\n  b == ?",
    ];
    let shown: Vec<_> = wrong
        .iter()
        .map(|text| {
            let bad = Selector::parse(text).unwrap_err();
            format!("{}\nfound {}, expected {}\n", bad.caret(text), bad.found, bad.expected)
        })
        .collect();
    insta::assert_snapshot!("wrong", shown.join("\n"));
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = |levels: usize| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Selector::parse(&deep(64)).is_ok());
    assert!(Selector::parse(&deep(65)).is_err());
    assert!(Selector::parse(&format!("{}a{}", "!(".repeat(32), ")".repeat(32))).is_ok());
    assert!(Selector::parse(&format!("{}a{}", "!(".repeat(33), ")".repeat(33))).is_err());
    let many = |terms: usize| vec!["a"; terms].join("||");
    assert!(Selector::parse(&many(256)).is_ok() && Selector::parse(&many(257)).is_err());
    let list = |values: usize| format!("a in [{}]", vec!["1"; values].join(","));
    assert!(Selector::parse(&list(256)).is_ok() && Selector::parse(&list(257)).is_err());
    let long = format!("a == \"{}\"", "\u{f6}".repeat(2044));
    assert!(long.len() <= 4096 && Selector::parse(&long).is_ok());
    let too_long = Selector::parse(&long.replace("a ", "abcd ")).unwrap_err();
    assert!(too_long.found.contains("bytes in all"), "{too_long}");
    assert!(Selector::parse(&"(".repeat(4096)).is_err());
}

#[test]
fn why_names_each_term_and_what_was_found() {
    let why =
        Selector::parse("site == \"oslo\" && (ram >= 8GiB || !isa has \"sve\")").unwrap().why(&facts(PUMP));
    let told: Vec<_> =
        why.iter().map(|j| (j.term.as_str(), j.holds, j.found.as_ref().map(ToString::to_string))).collect();
    let expected = [
        ("site == \"oslo\"", true, Some("oslo".to_owned())),
        ("ram >= 8GiB", false, Some("4294967296".to_owned())),
        ("isa has \"sve\"", false, Some("neon, dotprod".to_owned())),
    ];
    assert_eq!(told, expected);
}

#[test]
fn names_tell_what_is_asked_for_and_whose_it_is() {
    let selector = Selector::parse("site == \"x\" && (group.big || seen < 5m) && all").unwrap();
    let names: Vec<_> = selector.names().into_iter().map(|name| (name.to_string(), name.is_hubs())).collect();
    assert_eq!(names, [("group.big".into(), true), ("seen".into(), true), ("site".into(), false)]);
}

#[test]
fn a_group_is_replaced_by_its_expression() {
    let groups = BTreeMap::from([("big".to_owned(), Selector::parse("ram > 1GiB || cores > 8").unwrap())]);
    let expanded = Selector::parse("!group.big && all").unwrap().with_groups(&groups).unwrap();
    assert_eq!(expanded.text(), "!(ram > 1GiB || cores > 8) && all");
    assert_eq!(Selector::parse(expanded.text()).unwrap(), expanded);
    let missing = Selector::parse("group.small").unwrap().with_groups(&groups);
    assert_eq!(missing.unwrap_err(), NoGroup("small".into()));
}

const NAMES: [&str; 6] = ["a", "b", "site", "label.site", "ram", "label.ram"];
const TEXTS: [&str; 7] = ["", "x", "x1", "x10", "a\"\\b", "oslo", "\u{f6} *?"];

fn text() -> impl Strategy<Value = String> {
    proptest::sample::select(TEXTS.as_slice()).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = FactName> {
    proptest::sample::select(NAMES.as_slice()).prop_map(|name| FactName::new(name).unwrap())
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![(-3..4_i32).prop_map(f64::from), Just(0.5), -1e6..1e6_f64];
    let unit = proptest::option::of(proptest::sample::select(Unit::ALL));
    prop_oneof![
        text().prop_map(Value::Text),
        (number, unit).prop_map(|(number, unit)| Value::Number(number, unit)),
        any::<bool>().prop_map(Value::Truth),
    ]
}

fn tree() -> impl Strategy<Value = Expr> {
    let op = proptest::sample::select(
        [Op::Same, Op::Other, Op::Less, Op::AtMost, Op::More, Op::AtLeast].as_slice(),
    );
    let term = prop_oneof![
        Just(Term::All),
        name().prop_map(Term::Is),
        (name(), op, value()).prop_map(|(name, op, value)| Term::Compare(name, op, value)),
        (name(), text()).prop_map(|(name, text)| Term::Has(name, text)),
        (name(), text()).prop_map(|(name, text)| Term::Like(name, text)),
        (name(), proptest::collection::vec(value(), 1..4)).prop_map(|(name, values)| Term::In(name, values)),
    ];
    term.prop_map(Expr::Term).prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn some_facts() -> impl Strategy<Value = Facts> {
    let fact = prop_oneof![
        text().prop_map(Fact::Text),
        (-3..4_i32).prop_map(|n| Fact::Number(f64::from(n))),
        proptest::collection::vec(text(), 0..3).prop_map(Fact::List),
        any::<bool>().prop_map(Fact::Truth),
    ];
    proptest::collection::btree_map(name(), fact, 0..6).prop_map(|set| {
        let mut facts = Facts::default();
        facts.apply(crate::facts::Delta { set, ..Default::default() }).unwrap();
        facts
    })
}

/// What the page of the language says, without a care for speed: texts are compared as lists of words and numbers,
/// shapes by trying every split.
fn naive(tree: &Expr, facts: &Facts) -> bool {
    match tree {
        Expr::Or(parts) => parts.iter().filter(|part| naive(part, facts)).count() > 0,
        Expr::And(parts) => parts.iter().filter(|part| !naive(part, facts)).count() == 0,
        Expr::Not(inner) => naive(inner, facts) ^ true,
        Expr::Term(Term::All) => true,
        Expr::Term(term) => {
            let name = term.name().unwrap().as_str();
            let known: BTreeMap<_, _> = facts.iter().map(|(name, fact)| (name.as_str(), fact)).collect();
            let label = format!("label.{name}");
            let fact = known
                .get(name)
                .or_else(|| known.get(label.as_str()).filter(|_| ["a", "b", "site"].contains(&name)));
            fact.is_some_and(|fact| naive_term(term, fact))
        }
    }
}

fn naive_term(term: &Term, fact: &Fact) -> bool {
    match (term, fact) {
        (Term::Is(_), fact) => !matches!(fact, Fact::Truth(false)),
        (Term::Compare(_, op, value), fact) => naive_compare(fact, value).is_some_and(|order| match op {
            Op::Same => order == 0,
            Op::Other => order != 0,
            _ if matches!(fact, Fact::Truth(_)) => false,
            Op::Less => order < 0,
            Op::AtMost => order <= 0,
            Op::More => order > 0,
            Op::AtLeast => order >= 0,
        }),
        (Term::In(_, values), fact) => values.iter().any(|value| naive_compare(fact, value) == Some(0)),
        (Term::Has(_, text), Fact::List(list)) => list.iter().any(|item| item == text),
        (Term::Has(_, text), Fact::Text(fact)) => fact == text,
        (Term::Like(_, shape), Fact::Text(text)) => splits(shape, text),
        _ => false,
    }
}

/// -1, 0 or 1; `None` where the types differ.
fn naive_compare(fact: &Fact, value: &Value) -> Option<i32> {
    let order = match (fact, value) {
        (Fact::Text(a), Value::Text(b)) => parts(a).cmp(&parts(b)).then_with(|| a.cmp(b)),
        (Fact::Number(a), Value::Number(b, unit)) => a.partial_cmp(&(b * unit.map_or(1.0, Unit::factor)))?,
        (Fact::Truth(a), Value::Truth(b)) => a.cmp(b),
        _ => return None,
    };
    Some(order as i32)
}

/// Bytes, and numbers in the place of the first digit; a digit and another byte compare as bytes.
fn parts(text: &str) -> Vec<(u8, u64)> {
    let mut parts: Vec<(u8, u64)> = Vec::new();
    let mut digits = false;
    for byte in text.bytes() {
        match (byte, parts.last_mut()) {
            (b'0'..=b'9', Some(last)) if digits => last.1 = last.1 * 10 + u64::from(byte - b'0'),
            (b'0'..=b'9', _) => parts.push((b'0', u64::from(byte - b'0'))),
            _ => parts.push((byte, 0)),
        }
        digits = byte.is_ascii_digit();
    }
    parts
}

fn splits(shape: &str, text: &str) -> bool {
    let Some(first) = shape.chars().next() else { return text.is_empty() };
    let rest = &shape[first.len_utf8()..];
    let tail = text.chars().next().map(|c| &text[c.len_utf8()..]);
    match first {
        '*' => splits(rest, text) || tail.is_some_and(|tail| splits(shape, tail)),
        '?' => tail.is_some_and(|tail| splits(rest, tail)),
        c => text.starts_with(c) && tail.is_some_and(|tail| splits(rest, tail)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_as_the_same_tree(tree in tree()) {
        let text = tree.to_string();
        prop_assume!(text.len() <= lex::TEXT_MAX);
        let read = Selector::parse(&text).map_err(|bad| bad.caret(&text)).unwrap();
        prop_assert_eq!(read.tree(), &tree);
    }

    #[test]
    fn it_means_what_a_naive_reading_says(tree in tree(), facts in some_facts()) {
        prop_assert_eq!(eval::holds(&tree, &facts), naive(&tree, &facts));
        let terms = Selector { text: String::new(), tree }.why(&facts);
        prop_assert!(terms.iter().all(|judged| !judged.holds || judged.found.is_some() || judged.term == "all"));
    }

    #[test]
    fn anything_else_is_an_error_with_a_place(text in "[a-b \"\\\\.0-9=!<>~()&|,*\\[\\]\u{f6}\n-]{0,40}") {
        match Selector::parse(&text) {
            Ok(selector) => prop_assert_eq!(Selector::parse(&selector.tree().to_string()).unwrap(), selector),
            Err(bad) => {
                prop_assert!(text.is_char_boundary(bad.at.start) && bad.at.start <= bad.at.end);
                prop_assert!(text.get(bad.at.clone()).is_some());
                let shown = bad.caret(&text);
                prop_assert!(shown.lines().last().unwrap().trim_start().chars().all(|c| c == '^'));
            }
        }
    }
}
