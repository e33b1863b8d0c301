//! What a device behind a broker says of itself, and what of it counts. Pure.
//!
//! The newest counts of all that came since the device was last told or asked something. On MQTT 5 a question has a name, which its
//! answer may carry. An answer that carries another name is not to our question and never counts; one that carries ours counts
//! before those without a name, whichever came first: a device may still be answering to what it was told before it was asked.

use bytes::Bytes;

/// The answers since the device was last told or asked something.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The name of the question; `None`: the device was not asked.
    question: Option<Bytes>,
    /// What counts so far.
    best: Option<Answer>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// What it says; `None`: too much to be read.
    pub(super) payload: Option<Bytes>,
    weight: Weight,
}

/// How much an answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It does not say to what it is the answer.
    Unnamed,
    /// It is the answer to our question, by name.
    Ours,
}

impl Answers {
    /// Those to a question: what was said before it does not count any more.
    pub(super) fn to(question: Bytes) -> Answers {
        Answers { question: Some(question), best: None }
    }

    /// Takes one in. `name`: of the question that it says it answers; `payload`: `None` if it is too much to be read.
    pub(super) fn hear(&mut self, name: Option<&Bytes>, payload: Option<Bytes>) {
        let Some(weight) = weight(name, self.question.as_ref()) else { return };
        if self.best.as_ref().is_none_or(|best| weight >= best.weight) {
            self.best = Some(Answer { payload, weight });
        }
    }

    /// The one that counts, if any did.
    pub(super) fn best(&self) -> Option<&Answer> {
        self.best.as_ref()
    }
}

/// How much an answer with this name counts; `None`: it does not.
fn weight(name: Option<&Bytes>, question: Option<&Bytes>) -> Option<Weight> {
    match (name, question) {
        // Who was not asked says what is so, whoever else asked for it.
        (None, _) | (_, None) => Some(Weight::Unnamed),
        (Some(name), Some(question)) => (name == question).then_some(Weight::Ours),
    }
}

/// The name of a question, 16 bytes: `life` is drawn anew for each connection, `count` goes up with each question on it. So an
/// answer to a question of an earlier connection carries another name.
pub(super) fn name(life: [u8; 8], count: u64) -> Bytes {
    let name: Vec<u8> = [life, count.to_be_bytes()].concat();
    Bytes::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `said`: the name that each answer carries, and what it says; oldest first.
    fn check(question: Option<&'static str>, said: &[(Option<&'static str>, &'static str)], counts: &str) {
        let mut answers = question.map_or_else(Answers::default, |question| Answers::to(question.into()));
        for (name, payload) in said {
            answers.hear(name.map(Bytes::from).as_ref(), Some(Bytes::from(*payload)));
        }
        let best = answers.best().and_then(|best| best.payload.clone()).unwrap_or_default();
        assert_eq!(best, counts, "{question:?} {said:?}");
    }

    #[test]
    fn the_newest_counts() {
        check(None, &[], "");
        check(None, &[(None, "closed"), (None, "open")], "open");
        check(None, &[(None, "closed"), (Some("theirs"), "open")], "open");
        // To what it was told, and to the question: neither says so.
        check(Some("ours"), &[(None, "moving"), (None, "open")], "open");
        check(Some("ours"), &[(None, "moving")], "moving");
    }

    #[test]
    fn an_answer_by_name_counts_before_all_others() {
        check(Some("ours"), &[(None, "moving"), (Some("ours"), "open")], "open");
        check(Some("ours"), &[(Some("ours"), "open"), (None, "moving")], "open");
        check(Some("ours"), &[(Some("ours"), "moving"), (Some("ours"), "open")], "open");
    }

    #[test]
    fn an_answer_to_another_question_never_counts() {
        check(Some("ours"), &[(Some("theirs"), "closed")], "");
        check(Some("ours"), &[(None, "open"), (Some("theirs"), "closed")], "open");
        check(Some("ours"), &[(Some("ours"), "open"), (Some("theirs"), "closed")], "open");
    }

    #[test]
    fn what_is_too_long_is_an_answer_all_the_same() {
        let mut answers = Answers::default();
        answers.hear(None, Some(Bytes::from("open")));
        answers.hear(None, None);
        assert_eq!(answers.best().map(|best| best.payload.clone()), Some(None));
    }

    #[test]
    fn no_two_questions_have_one_name() {
        let names = [name([1; 8], 1), name([1; 8], 2), name([2; 8], 1)];
        assert!(names.iter().all(|name| name.len() == 16));
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    }
}
