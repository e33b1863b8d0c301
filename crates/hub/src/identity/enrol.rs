//! Who may come in: purely, from what the code is worth, what the node asks to be called, who has that name already, and
//! what a person said.

use std::collections::BTreeMap;

use wire::id::NodeId;
use wire::world::WallMs;

/// Names that a token is good for: as they are written, with at most one `*` for whatever stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// `None` if no name could be meant.
    pub fn new(text: &str) -> Option<Pattern> {
        let (head, tail) = text.split_once('*').unwrap_or((text, ""));
        // What stands there must be able to be a name, whatever the star is.
        let sample = NodeId::new(&format!("{head}0{tail}"));
        (sample.is_ok() && !text.is_empty()).then(|| Pattern(text.to_owned()))
    }

    /// Whether this name is meant.
    pub fn means(&self, name: &NodeId) -> bool {
        let name = name.as_str();
        match self.0.split_once('*') {
            Some((head, tail)) => {
                name.strip_prefix(head).is_some_and(|rest| rest.len() > tail.len() && rest.ends_with(tail))
            }
            None => name == self.0,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A code or a token, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// By which it is found.
    pub id: String,
    /// Whether a node of the same name may be replaced by it.
    pub replaces: bool,
    /// What the node will be called; else what it asks for.
    pub name: Option<NodeId>,
    /// What it may ask for; absent: whatever it likes.
    pub pattern: Option<Pattern>,
    /// Labels that a node gets with it.
    pub labels: BTreeMap<String, String>,
    /// Whether a person looks at each node before it is in.
    pub approve: bool,
    /// How often it may be used.
    pub uses: i64,
    /// How often it was.
    pub used: i64,
    /// Until when.
    pub until_ms: WallMs,
}

/// Why somebody does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody made such a code, or it was taken back.
    #[error("this code is not known here")]
    Unknown,
    /// Used up.
    #[error("this code was used already")]
    Used,
    /// Too late.
    #[error("this code has run out")]
    Expired,
    /// Nobody says a name.
    #[error("neither the code nor the node says what it shall be called")]
    NoName,
    /// Two names.
    #[error("this code is not for a node of that name")]
    OtherName,
    /// There is one with that name, and its key is good.
    #[error("there is a node of this name already")]
    Living,
    /// The key is known as another's, or is denied.
    #[error("this key is not taken")]
    Key,
    /// A person said no.
    #[error("somebody at the hub refused this node")]
    Person,
    /// Nothing was shown by which one comes in.
    #[error("this shows neither a code nor a certificate of a maker that the hub knows")]
    Maker,
    /// The maker's certificate is good, and this device is not meant.
    #[error("this device's serial number is not on the list of its maker")]
    Serial,
    /// The device came in with another key before.
    #[error("a device of this serial number came in already")]
    SerialUsed,
}

impl Refused {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Refused::Unknown => "code-unknown",
            Refused::Used => "code-used",
            Refused::Expired => "code-expired",
            Refused::NoName => "no-name",
            Refused::OtherName => "other-name",
            Refused::Living => "name-taken",
            Refused::Key => "key-refused",
            Refused::Person => "refused",
            Refused::Maker => "maker-unknown",
            Refused::Serial => "serial-unknown",
            Refused::SerialUsed => "serial-used",
        }
    }

    /// What to do.
    pub fn mend(self) -> &'static str {
        match self {
            Refused::Unknown | Refused::Used | Refused::Expired => {
                "ask an admin of the hub for a new code: selvedge fleet enrol, or POST /api/v1/enrolments"
            }
            Refused::NoName | Refused::OtherName => {
                "give the node a name, in its settings, as the code's maker meant it"
            }
            Refused::Living => "choose another name, or ask an admin for a code that replaces the node",
            Refused::Key => "remove the folder `identity` in the node's data, so that it makes a new key",
            Refused::Person => "ask those who operate the hub; the audit log says who it was",
            Refused::Maker => {
                "enrol with --code or --token, or have the maker's authority added to [[identity.factory]]"
            }
            Refused::Serial => "have the serial number added to the list of [[identity.factory]]",
            Refused::SerialUsed => "ask an admin of the hub for a code that replaces the node",
        }
    }
}

/// What the hub knows of the key and the name beside the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Neither was here.
    Nothing,
    /// The key is this node's already: its answer was lost.
    SameKey,
    /// The key is another's, or denied.
    OtherKey,
    /// The name has a key that is good.
    Living,
}

/// What a person said of somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    Waiting,
    /// Yes.
    Admitted,
    /// No.
    Refused,
}

impl Standing {
    const ALL: [Standing; 3] = [Standing::Waiting, Standing::Admitted, Standing::Refused];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Admitted => "admitted",
            Standing::Refused => "refused",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Standing> {
        Standing::ALL.into_iter().find(|standing| standing.as_str() == word)
    }
}

/// What becomes of somebody who asks to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is in; that uses the offer.
    In,
    /// It was in before, or a person said so; the offer was used then.
    Again,
    /// A person looks first.
    Wait,
}

/// What the node will be called. `offer`: what was made for this code; `asked`: what the node asks for.
pub fn name<'a>(offer: Option<&'a Offer>, asked: Option<&'a NodeId>) -> Result<&'a NodeId, Refused> {
    let offer = offer.ok_or(Refused::Unknown)?;
    let may = |name: &NodeId| offer.pattern.as_ref().is_none_or(|pattern| pattern.means(name));
    match (&offer.name, asked) {
        (Some(name), Some(asked)) if name != asked => Err(Refused::OtherName),
        (None, Some(asked)) if !may(asked) => Err(Refused::OtherName),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Refused::NoName),
    }
}

/// Whether a node comes in. `ticket`: what was said of its key, if it asked with this offer before and was told to wait.
pub fn admit(
    offer: &Offer,
    before: Before,
    ticket: Option<Standing>,
    now_ms: WallMs,
) -> Result<Decision, Refused> {
    match (before, ticket) {
        (Before::OtherKey, _) => return Err(Refused::Key),
        (_, Some(Standing::Refused)) => return Err(Refused::Person),
        // Whoever has both the code and the key had the answer, or should have had it.
        (Before::SameKey, _) if offer.used > 0 => return Ok(Decision::Again),
        (Before::Living, Some(_)) if !offer.replaces => return Err(Refused::Living),
        (_, Some(Standing::Waiting)) => return Ok(Decision::Wait),
        (_, Some(Standing::Admitted)) => return Ok(Decision::Again),
        (Before::SameKey | Before::Nothing | Before::Living, None) => {}
    }
    may_use(offer, now_ms)?;
    if before == Before::Living && !offer.replaces {
        return Err(Refused::Living);
    }
    Ok(if offer.approve { Decision::Wait } else { Decision::In })
}

/// Whether an offer is good for one more.
pub fn may_use(offer: &Offer, now_ms: WallMs) -> Result<(), Refused> {
    match () {
        () if offer.used >= offer.uses => Err(Refused::Used),
        () if now_ms >= offer.until_ms => Err(Refused::Expired),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            id: "a".into(),
            replaces: false,
            name: None,
            pattern: None,
            labels: BTreeMap::new(),
            approve: false,
            uses: 1,
            used: 0,
            until_ms: 100,
        }
    }

    #[test]
    fn a_code_counts_once_and_its_answer_as_often_as_it_is_lost() {
        let used = Offer { used: 1, ..offer() };
        let replaces = Offer { replaces: true, ..offer() };
        let check = |offer: &Offer, before, now_ms, expected| {
            assert_eq!(admit(offer, before, None, now_ms), expected, "{before:?} at {now_ms}");
        };
        check(&offer(), Before::Nothing, 99, Ok(Decision::In));
        check(&offer(), Before::Nothing, 100, Err(Refused::Expired));
        check(&used, Before::Nothing, 99, Err(Refused::Used));
        check(&used, Before::SameKey, 1000, Ok(Decision::Again));
        check(&offer(), Before::SameKey, 99, Ok(Decision::In));
        check(&offer(), Before::OtherKey, 99, Err(Refused::Key));
        check(&used, Before::OtherKey, 99, Err(Refused::Key));
        check(&offer(), Before::Living, 99, Err(Refused::Living));
        check(&replaces, Before::Living, 99, Ok(Decision::In));
        check(&Offer { uses: 3, ..used.clone() }, Before::Nothing, 99, Ok(Decision::In));
    }

    #[test]
    fn where_a_person_looks_nobody_comes_in_without_one() {
        let token = Offer { approve: true, uses: 2, ..offer() };
        let used = Offer { used: 2, ..token.clone() };
        let check = |offer: &Offer, before, ticket, now_ms, expected| {
            assert_eq!(admit(offer, before, ticket, now_ms), expected, "{before:?} {ticket:?} at {now_ms}");
        };
        check(&token, Before::Nothing, None, 99, Ok(Decision::Wait));
        check(&token, Before::Nothing, None, 100, Err(Refused::Expired));
        check(&used, Before::Nothing, None, 99, Err(Refused::Used));
        check(&token, Before::Living, None, 99, Err(Refused::Living));
        // Who waits goes on waiting, and comes in when somebody says so, however late.
        check(&used, Before::Nothing, Some(Standing::Waiting), 1000, Ok(Decision::Wait));
        check(&used, Before::Nothing, Some(Standing::Admitted), 1000, Ok(Decision::Again));
        check(&used, Before::SameKey, Some(Standing::Admitted), 1000, Ok(Decision::Again));
        check(&used, Before::Living, Some(Standing::Admitted), 1000, Err(Refused::Living));
        check(&token, Before::Nothing, Some(Standing::Refused), 99, Err(Refused::Person));
        check(&token, Before::OtherKey, Some(Standing::Admitted), 99, Err(Refused::Key));
    }

    #[test]
    fn the_code_s_name_goes_first() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let named = |name: Option<&NodeId>| Offer { name: name.cloned(), ..offer() };
        assert_eq!(name(Some(&named(Some(&a))), None), Ok(&a));
        assert_eq!(name(Some(&named(Some(&a))), Some(&a)), Ok(&a));
        assert_eq!(name(Some(&named(Some(&a))), Some(&b)), Err(Refused::OtherName));
        assert_eq!(name(Some(&named(None)), Some(&b)), Ok(&b));
        assert_eq!(name(Some(&named(None)), None), Err(Refused::NoName));
        assert_eq!(name(None, Some(&b)), Err(Refused::Unknown));
        let pumps = Offer { pattern: Pattern::new("pump-*"), ..offer() };
        assert_eq!(name(Some(&pumps), Some(&b)), Err(Refused::OtherName));
        assert!(name(Some(&pumps), Some(&NodeId::new("pump-7").unwrap())).is_ok());
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, good: &[&str], bad: &[&str]| {
            let read = Pattern::new(pattern).unwrap();
            let means = |name: &str| read.means(&NodeId::new(name).unwrap());
            assert!(good.iter().all(|name| means(name)), "{pattern}");
            assert!(!bad.iter().any(|name| means(name)), "{pattern}");
        };
        check("pump-*", &["pump-7", "pump--"], &["pump-", "pump", "apump-7"]);
        check("*-pump", &["a-pump"], &["-pump-".trim_start_matches('-'), "pump"]);
        check("a*a", &["aba", "aaa"], &["aa", "a", "ab"]);
        check("*", &["a", "pump-7"], &[]);
        check("pump-7", &["pump-7"], &["pump-70"]);
        for wrong in ["", "**", "a*b*", "Pump-*", "-*", "a b*", &"a".repeat(64)] {
            assert_eq!(Pattern::new(wrong), None, "{wrong}");
        }
    }
}
