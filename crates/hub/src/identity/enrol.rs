//! Who may come in: purely, from what the code is worth, what the node asks to be called, and who has that name already.

use wire::id::NodeId;
use wire::world::WallMs;

/// A code or a token, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// By which it is found.
    pub id: String,
    /// Whether a node of the same name may be replaced by it.
    pub replaces: bool,
    /// What the node will be called; else what it asks for.
    pub name: Option<NodeId>,
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
    #[error("this code is for a node of another name")]
    OtherName,
    /// There is one with that name, and its key is good.
    #[error("there is a node of this name already")]
    Living,
    /// The key is known as another's, or is denied.
    #[error("this key is not taken")]
    Key,
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
        }
    }

    /// What to do.
    pub fn mend(self) -> &'static str {
        match self {
            Refused::Unknown | Refused::Used | Refused::Expired => {
                "ask an admin of the hub for a new code: selvedge fleet enrol, or POST /api/v1/enrolments"
            }
            Refused::NoName | Refused::OtherName => {
                "say the node's name with --name, as the code's maker meant it"
            }
            Refused::Living => "choose another name, or ask an admin for a code that replaces the node",
            Refused::Key => "remove the folder `identity` in the node's data, so that it makes a new key",
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

/// What the node will be called. `offer`: what was made for this code; `asked`: what the node asks for.
pub fn name<'a>(offer: Option<&'a Offer>, asked: Option<&'a NodeId>) -> Result<&'a NodeId, Refused> {
    let offer = offer.ok_or(Refused::Unknown)?;
    match (&offer.name, asked) {
        (Some(name), Some(asked)) if name != asked => Err(Refused::OtherName),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Refused::NoName),
    }
}

/// Whether a node comes in; true if that uses the offer, false if it did before.
pub fn admit(offer: &Offer, before: Before, now_ms: WallMs) -> Result<bool, Refused> {
    match before {
        Before::OtherKey => return Err(Refused::Key),
        // Whoever has both the code and the key had the answer, or should have had it.
        Before::SameKey if offer.used > 0 => return Ok(false),
        Before::SameKey | Before::Nothing | Before::Living => {}
    }
    if offer.used >= offer.uses {
        return Err(Refused::Used);
    }
    if now_ms >= offer.until_ms {
        return Err(Refused::Expired);
    }
    if before == Before::Living && !offer.replaces {
        return Err(Refused::Living);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_once_and_its_answer_as_often_as_it_is_lost() {
        let fresh = Offer { id: "a".into(), replaces: false, name: None, uses: 1, used: 0, until_ms: 100 };
        let used = Offer { used: 1, ..fresh.clone() };
        let replaces = Offer { replaces: true, ..fresh.clone() };
        let check = |offer: &Offer, before, now_ms, expected| {
            assert_eq!(admit(offer, before, now_ms), expected, "{before:?} at {now_ms}");
        };
        check(&fresh, Before::Nothing, 99, Ok(true));
        check(&fresh, Before::Nothing, 100, Err(Refused::Expired));
        check(&used, Before::Nothing, 99, Err(Refused::Used));
        check(&used, Before::SameKey, 1000, Ok(false));
        check(&fresh, Before::SameKey, 99, Ok(true));
        check(&fresh, Before::OtherKey, 99, Err(Refused::Key));
        check(&used, Before::OtherKey, 99, Err(Refused::Key));
        check(&fresh, Before::Living, 99, Err(Refused::Living));
        check(&replaces, Before::Living, 99, Ok(true));
        check(&Offer { uses: 3, ..used.clone() }, Before::Nothing, 99, Ok(true));
    }

    #[test]
    fn the_code_s_name_goes_first() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let offer = |name: Option<&NodeId>| Offer {
            id: "a".into(),
            replaces: false,
            name: name.cloned(),
            uses: 1,
            used: 0,
            until_ms: 0,
        };
        assert_eq!(name(Some(&offer(Some(&a))), None), Ok(&a));
        assert_eq!(name(Some(&offer(Some(&a))), Some(&a)), Ok(&a));
        assert_eq!(name(Some(&offer(Some(&a))), Some(&b)), Err(Refused::OtherName));
        assert_eq!(name(Some(&offer(None)), Some(&b)), Ok(&b));
        assert_eq!(name(Some(&offer(None)), None), Err(Refused::NoName));
        assert_eq!(name(None, Some(&b)), Err(Refused::Unknown));
    }
}
