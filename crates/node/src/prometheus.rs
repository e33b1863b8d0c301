//! Numbers as Prometheus text: heads, labels, lines. What the numbers are is said by whoever has them.

use std::fmt::{Display, Write as _};

/// The content type of the text.
pub(crate) const CONTENT: &str = "text/plain; version=0.0.4";

/// A metric's name, whether it is a `gauge` or a `counter`, and what it says.
pub(crate) type About = (&'static str, &'static str, &'static str);

/// Begins a metric.
pub(crate) fn head(out: &mut String, (name, kind, about): About) {
    let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

/// A metric of one number.
pub(crate) fn one(out: &mut String, about: About, value: impl Display) {
    head(out, about);
    let _ = writeln!(out, "{} {value}", about.0);
}

/// A metric with a number for each of several things; none of it if there are none.
pub(crate) fn each<V: Display>(
    out: &mut String,
    about: About,
    label_name: &str,
    values: impl IntoIterator<Item = (impl AsRef<str>, V)>,
) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_some() {
        head(out, about);
    }
    for (of, value) in values {
        let _ = writeln!(out, "{}{{{label_name}=\"{}\"}} {value}", about.0, label(of.as_ref()));
    }
}

/// A name as a label's value.
pub(crate) fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written() {
        let mut out = String::new();
        one(&mut out, ("a", "gauge", "how many"), 3);
        each(&mut out, ("b_total", "counter", "of each"), "who", [("x\"y", 1), ("z\n", 2)]);
        each(&mut out, ("c", "gauge", "of nobody"), "who", Vec::<(String, u64)>::new());
        assert_eq!(
            out,
            "# HELP a how many\n# TYPE a gauge\na 3\n# HELP b_total of each\n# TYPE b_total counter\n\
             b_total{who=\"x\\\"y\"} 1\nb_total{who=\"z\\n\"} 2\n"
        );
    }
}
