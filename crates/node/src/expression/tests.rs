//! What expressions mean, beside a naive interpreter of three-valued logic.

use proptest::prelude::*;

use super::names::{Half, Unknown};
use super::parse::{DEPTH_MAX, NODES_MAX, TEXT_MAX_BYTES};
use super::*;

/// `pump.a`, `pump.b` and `pump["two words"]` are numbers, `hot.firing` is true or false, `net.label` is a word.
struct Plant;

const FIELDS: [(&str, &str, Kind); 5] = [
    ("pump", "a", Kind::Number),
    ("pump", "b", Kind::Number),
    ("pump", "two words", Kind::Number),
    ("hot", "firing", Kind::Bool),
    ("net", "label", Kind::Text),
];

impl Names for Plant {
    fn slot(&self, part: &str, field: &str) -> Result<(Slot, Kind), Unknown> {
        if FIELDS.iter().all(|(known, _, _)| *known != part) {
            let (message, help) = (format!("no part `{part}`"), String::new());
            return Err(Unknown { what: Half::Part, message, help });
        }
        let at = FIELDS.iter().position(|known| (known.0, known.1) == (part, field));
        let (message, help) = (format!("no field `{field}`"), String::new());
        let at = at.ok_or(Unknown { what: Half::Field, message, help })?;
        Ok((Slot(at as u32), FIELDS[at].2))
    }
}

const NOW_MS: WallMs = 1_000_000;

/// A board with `a`, `b`, `firing` and `label` now, and `pump["two words"]` an hour ago.
fn board(a: Option<f64>, b: Option<f64>, firing: Option<bool>, label: Option<&str>) -> Board {
    let mut board = Board::new(FIELDS.len(), 1);
    board.number(Slot(0), 0, NOW_MS, a.unwrap_or(f64::NAN));
    board.number(Slot(1), 0, NOW_MS, b.unwrap_or(f64::NAN));
    board.number(Slot(2), 0, NOW_MS - 3_600_000, 5.0);
    board.truth(Slot(3), 0, NOW_MS, firing);
    board.text(Slot(4), 0, NOW_MS, label);
    board
}

fn read(text: &str) -> Expression {
    Expression::parse(text, Kind::Bool, &Plant).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

/// With a = 9, b missing, firing, and label "person".
fn holds(text: &str) -> Option<bool> {
    read(text).holds(&board(Some(9.0), None, Some(true), Some("person")), NOW_MS)
}

#[test]
fn what_it_means() {
    fn check(text: &str, expected: Option<bool>) {
        assert_eq!(holds(text), expected, "{text}");
    }
    let (yes, no, missing) = (Some(true), Some(false), None);
    check("pump.a > 8", yes);
    check("  pump.a<=-1e-3 ", no);
    check("8 < pump.a", yes);
    check("pump['a'] == 9", yes);
    check("pump.b > 8", missing);
    // What decides alone decides.
    check("pump.b > 8 && false", no);
    check("pump.a < 8 && pump.b > 8", no);
    check("pump.b > 8 && pump.a < 8", no);
    check("pump.b > 8 || pump.a > 8", yes);
    check("pump.b > 8 || pump.a < 8", missing);
    check("!(pump.b > 8)", missing);
    check("!(pump.b > 8) || hot.firing", yes);
    check("has(pump.b)", no);
    check("has(pump.b) && pump.b > 8", no);
    check("hot.firing == (pump.a > 8)", yes);
    check("hot.firing != true", no);
    // How tightly they bind.
    check("pump.a + 1 * 2 == 11", yes);
    check("(pump.a + 1) * 2 == 20", yes);
    check("pump.a - 1 - 1 == 7", yes);
    check("12 / pump.a / 2 < 0.7", yes);
    check("-pump.a == -9", yes);
    check("--pump.a == 9", yes);
    check("true || false && false", yes);
    check("hot.firing ? pump.a > 8 : pump.b > 8", yes);
    check("pump.b > 8 ? true : true", missing);
    check("(pump.a > 8 ? 1 : 2) == 1", yes);
    check("abs(-pump.a) == 9 && min(pump.a, 3) == 3 && max(1, pump.a, 3) == 9", yes);
    check("min(pump.a, pump.b) < 100", missing);
    check("pump.a in [1, 9]", yes);
    check("pump.b in [1, 9]", missing);
    check("net.label in [\"car\", 'person']", yes);
    check("net.label == \"pers\\u006f\" || net.label != 'car'".replace("\\u006f", "o").as_str(), yes);
    check("net.label == r'person'", yes);
    // A value of an hour ago is no value, but it has an age.
    check("pump[\"two words\"] == 5", missing);
    check("age(pump[\"two words\"]) == duration(\"1h\")", yes);
    check("age(pump.a) + duration('5s') <= duration(\"5s\")", yes);
    check("pump.a > 8 // as the plate says\n && hot.firing", yes);
    check("0x09 == pump.a && 9u == pump.a", yes);
}

#[test]
fn what_it_says_of_itself() {
    fn check(text: &str, expected: &str, value: f64) {
        let reasons = read(text).why(&board(Some(9.31), None, Some(true), Some("person")), NOW_MS);
        assert_eq!(reasons.words, expected, "{text}");
        assert!(reasons.value == value || (reasons.value.is_nan() && value.is_nan()), "{text}");
    }
    check("pump.a > 8", "a was 9.31, above 8", 9.31);
    check("pump.a < 8", "a was 9.31, not below 8", 9.31);
    check("8 < pump.a", "a was 9.31, above 8", 9.31);
    check("pump.b > 8 || pump.a > 8", "pump.a was 9.31, above 8", 9.31);
    check("hot.firing && pump.a > 8", "hot was firing, and pump.a was 9.31, above 8", 9.31);
    check("pump.a < 8 && pump.b > 8", "pump.a was 9.31, not below 8", 9.31);
    check("!has(pump.b)", "pump.b was missing", f64::NAN);
    check("pump.a * 2 > pump.a", "pump.a * 2 was 18.62, above pump.a, which was 9.31", 18.62);
    check("net.label == 'person'", "net.label was \"person\"", f64::NAN);
    check("net.label == 'car'", "net.label was \"person\", not \"car\"", f64::NAN);
    check("net.label in ['car']", "net.label was \"person\", not among \"car\"", f64::NAN);
    check("pump.a in [1, 2]", "pump.a was 9.31, not among 1, 2", 9.31);
    check(
        "age(pump[\"two words\"]) > duration('5m')",
        "the age of pump.two words was 1 h, above 5 min",
        3_600_000.0,
    );
}

#[test]
fn what_is_refused() {
    fn check(text: &str, at: &str, message: &str, help: &str) {
        let bad = Expression::parse(text, Kind::Bool, &Plant).expect_err(text);
        assert_eq!(&text[bad.span.clone()], at, "{text}: {bad:?}");
        assert!(bad.message.contains(message) && bad.help.contains(help), "{text}: {bad:?}");
    }
    check("", "", "found the end", "pump.temperature");
    check("pump > 80", "pump", "alone has no value", "write `pump.`");
    check("pump.a = 80", "=", "cannot stand here", "write `==`");
    check("pump.a ~ 80", "~", "expected `&&`", "");
    check("pump.a > x", "x", "alone has no value", "");
    check("pump.a > 1e999", "1e999", "too large", "");
    check("pump.a > 30s", "30s", "no number", "duration(\"30s\")");
    check("pump.a > 1 2", "2", "expected `&&`", "");
    check("pump.a > 1 and pump.b > 2", "and", "`and` is not known", "`&&`");
    check("pump.a > 1 & pump.b > 2", "&", "cannot stand here", "`&&`");
    check("pump[\"a > 1", "\"a > 1", "nothing closes the quote", "");
    check("pump. > 1", ">", "a field of `pump`", "Flow (l/min)");
    check("pump[é", "é", "a quoted field", "");
    check("(pump.a > 1", "(", "nothing closes", "add `)`");
    check("pump.a > 1)", ")", "cannot stand here", "take `)` away");
    check("1 < pump.a < 3", "<", "in a row", "a < b && b < c");
    check("pump.a", "pump.a", "expected true or false, found a number", "compare");
    check("pump.a && true", "pump.a", "expected true or false, found a number", "");
    check("pump.a + net.label > 1", "net.label", "expected a number, found a text", "");
    check("net.label > 'a'", "net.label > 'a'", "a text has no order", "");
    check("pump.a == 'a'", "pump.a == 'a'", "cannot be compared", "quotes");
    check("age(pump.a) > 30", "age(pump.a) > 30", "a duration cannot be compared", "duration(\"30s\")");
    check("duration(\"30\") > age(pump.a)", "\"30\"", "is not a duration", "");
    check("pump.a in 3", "3", "expected a list", "");
    check("pump.a in ['a']", "'a'", "expected a number", "");
    check("size(net.label) > 3", "size", "though CEL has", "`abs`");
    check("abbs(pump.a) > 3", "abbs", "no `abbs()`", "did you mean `abs`?");
    check("net.label.startsWith('a')", "startsWith", "no `.startsWith()`", "");
    check("pump.a % 2 == 0", "%", "cannot stand here", "");
    check("motor.a > 1", "motor", "no part", "");
    check("pump.c > 1", "c", "no field", "");
    check("pump.a > null", "null", "no `null`", "has(part.field)");
    check("true ? 1 : 'a'", "1 : 'a'", "which cannot be known", "");
    check(&"(".repeat(40), "((((((((", "nested deeper", "");
    check(&format!("pump.a > {}1", "1+".repeat(40)), &format!("{}1", "1+".repeat(31)), "nested deeper", "");
    let long = format!("true{}", " || true".repeat(600));
    assert!(Expression::parse(&long, Kind::Bool, &Plant).is_err_and(|bad| bad.message.contains("bytes")));
    let many = format!("true{}", "||true".repeat(400));
    assert!(Expression::parse(&many, Kind::Bool, &Plant).is_err_and(|bad| bad.message.contains("parts")));
    assert!(many.len() < TEXT_MAX_BYTES && DEPTH_MAX < NODES_MAX);
}

/// What the naive interpreter knows: nothing of types, and nothing of saving work.
#[derive(Debug, Clone, PartialEq)]
enum Naive {
    Missing,
    Number(f64),
    Truth(bool),
}

#[derive(Debug, Clone)]
enum Said {
    Number(f64),
    Field(&'static str),
    Unary(&'static str, Box<Said>),
    Binary(&'static str, Box<Said>, Box<Said>),
    Choose(Box<Said>, Box<Said>, Box<Said>),
}

impl Said {
    fn text(&self) -> String {
        match self {
            Said::Number(number) => format!("({number:?})"),
            Said::Field(name) => (*name).to_owned(),
            Said::Unary(sign, inner) if sign.starts_with(char::is_alphabetic) => {
                format!("{sign}({})", inner.text())
            }
            Said::Unary(sign, inner) => format!("{sign}({})", inner.text()),
            Said::Binary(sign @ ("min" | "max"), a, b) => format!("{sign}({}, {})", a.text(), b.text()),
            Said::Binary(sign, a, b) => format!("({} {sign} {})", a.text(), b.text()),
            Said::Choose(a, b, c) => format!("({} ? {} : {})", a.text(), b.text(), c.text()),
        }
    }

    fn means(&self, of: &impl Fn(&str) -> Naive) -> Naive {
        use Naive::{Missing, Number, Truth};
        let number = |number: f64| if number.is_nan() { Missing } else { Number(number) };
        match self {
            Said::Number(number) => Number(*number),
            Said::Field(name) => of(name),
            Said::Unary("has", inner) => Truth(inner.means(of) != Missing),
            Said::Unary(sign, inner) => match (*sign, inner.means(of)) {
                ("!", Truth(truth)) => Truth(!truth),
                ("-", Number(value)) => Number(-value),
                ("abs", Number(value)) => Number(value.abs()),
                _ => Missing,
            },
            Said::Binary(sign, a, b) => match (*sign, a.means(of), b.means(of)) {
                ("&&", Truth(false), _) | ("&&", _, Truth(false)) => Truth(false),
                ("||", Truth(true), _) | ("||", _, Truth(true)) => Truth(true),
                (_, Missing, _) | (_, _, Missing) => Missing,
                ("&&", ..) => Truth(true),
                ("||", ..) => Truth(false),
                ("==", a, b) => Truth(a == b),
                ("!=", a, b) => Truth(a != b),
                ("<", Number(a), Number(b)) => Truth(a < b),
                ("<=", Number(a), Number(b)) => Truth(a <= b),
                (">", Number(a), Number(b)) => Truth(a > b),
                (">=", Number(a), Number(b)) => Truth(a >= b),
                ("+", Number(a), Number(b)) => number(a + b),
                ("-", Number(a), Number(b)) => number(a - b),
                ("*", Number(a), Number(b)) => number(a * b),
                ("/", Number(a), Number(b)) => number(a / b),
                ("min", Number(a), Number(b)) => Number(a.min(b)),
                ("max", Number(a), Number(b)) => Number(a.max(b)),
                other => panic!("{other:?}"),
            },
            Said::Choose(a, b, c) => match a.means(of) {
                Truth(true) => b.means(of),
                Truth(false) => c.means(of),
                _ => Missing,
            },
        }
    }
}

/// Something that gives a number, or a truth; a few levels deep.
fn said(depth: u32, truth: bool) -> BoxedStrategy<Said> {
    let field = |names: &'static [&'static str]| prop::sample::select(names).prop_map(Said::Field).boxed();
    let number = prop_oneof![(-3..4_i32).prop_map(f64::from), Just(0.5)].prop_map(Said::Number);
    let numbers = prop_oneof![number, field(&["pump.a", "pump.b"])].boxed();
    let truths = field(&["hot.firing", "true", "false", "has(pump.a)", "has(pump.b)"]);
    if depth == 0 {
        return if truth { truths } else { numbers };
    }
    let of = |truth: bool| said(depth - 1, truth);
    let two = |signs: &'static [&'static str], of: BoxedStrategy<Said>| {
        (prop::sample::select(signs), of.clone(), of)
            .prop_map(|(sign, a, b)| Said::Binary(sign, Box::new(a), Box::new(b)))
    };
    let one = |signs: &'static [&'static str], of: BoxedStrategy<Said>| {
        (prop::sample::select(signs), of).prop_map(|(sign, a)| Said::Unary(sign, Box::new(a)))
    };
    let choose = |truth: bool| {
        (of(true), of(truth), of(truth))
            .prop_map(|(a, b, c)| Said::Choose(Box::new(a), Box::new(b), Box::new(c)))
    };
    if truth {
        prop_oneof![
            1 => truths,
            3 => two(&["<", "<=", ">", ">=", "==", "!="], of(false)),
            3 => two(&["&&", "||", "==", "!="], of(true)),
            1 => one(&["!"], of(true)),
            1 => choose(true),
        ]
        .boxed()
    } else {
        prop_oneof![
            2 => numbers,
            3 => two(&["+", "-", "*", "/", "min", "max"], of(false)),
            1 => one(&["-", "abs"], of(false)),
            1 => choose(false),
        ]
        .boxed()
    }
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop::option::weighted(0.7, prop_oneof![(-3..4_i32).prop_map(f64::from), Just(0.5)])
}

proptest! {
    #[test]
    fn it_means_what_the_naive_interpreter_says(
        said in said(4, true),
        a in value(),
        b in value(),
        firing in prop::option::of(any::<bool>()),
    ) {
        let text = said.text();
        let of = |name: &str| {
            let number = |value: Option<f64>| value.map_or(Naive::Missing, Naive::Number);
            match name {
                "pump.a" => number(a),
                "pump.b" => number(b),
                "hot.firing" => firing.map_or(Naive::Missing, Naive::Truth),
                "has(pump.a)" => Naive::Truth(a.is_some()),
                "has(pump.b)" => Naive::Truth(b.is_some()),
                name => Naive::Truth(name == "true"),
            }
        };
        let expected = match said.means(&of) {
            Naive::Truth(truth) => Some(truth),
            _ => None,
        };
        let expression = Expression::parse(&text, Kind::Bool, &Plant).unwrap_or_else(|bad| panic!("{text}: {bad:?}"));
        let board = board(a, b, firing, None);
        prop_assert_eq!(expression.holds(&board, NOW_MS), expected, "{}", text);
        // What decided can be told, and it is told of something.
        let why = expression.why(&board, NOW_MS);
        prop_assert_eq!(why.words.is_empty(), expected.is_none(), "{}: {:?}", text, why);
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}") {
        let _ = Expression::parse(&text, Kind::Bool, &Plant);
    }

    #[test]
    fn nothing_panics_that_looks_like_one(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "pump", ".", "a", "hot.firing", "(", ")", "[", "]", "!", "-", "&&", "||", "<", "==", "in", "?", ":",
                "\"x\"", "'", "1", ".5", "has", "age", "duration", "min", ",", "r'", "\\", "0x", "e", "//", "\n", "é",
            ]),
            0..24,
        ),
        spaces in any::<bool>(),
    ) {
        let text = words.join(if spaces { " " } else { "" });
        if let Err(bad) = Expression::parse(&text, Kind::Bool, &Plant) {
            prop_assert!(text.get(bad.span.clone()).is_some(), "{text:?}: {bad:?}");
        }
    }
}
