//! Versions and the conditions on them: what makes a write depend on what it found.
//!
//! A [`Version`] is the place of a write in the log, so it is the same on every node and never used twice. Conditions are
//! those of RFC 9110, section 13, and part of the command: the state machine judges them, at one point of the log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use synod::{Position, Slot};

/// The write that made an entry what it is: `SLOT`, or `SLOT-INDEX` where it was not the first of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version(pub(crate) Position);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Position { slot, index: 0 } => write!(f, "{slot}"),
            Position { slot, index } => write!(f, "{slot}-{index}"),
        }
    }
}

/// The text is not one that a version is shown as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (slot, index) = text.split_once('-').unwrap_or((text, "0"));
        let slot = Slot::new(slot.parse().map_err(|_| NotAVersion)?);
        let version = Self(Position { slot, index: index.parse().map_err(|_| NotAVersion)? });
        // One version, one text: neither "007" nor "7-0" is another name of 7.
        if version.to_string() == text { Ok(version) } else { Err(NotAVersion) }
    }
}

/// What `If-Match` and `If-None-Match` name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One of these. Empty if none of the tags given was one of ours: matches nothing.
    Versions(Vec<Version>),
}

impl Tags {
    fn match_any(&self, current: Option<Version>) -> bool {
        current.is_some_and(|current| match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&current),
        })
    }
}

/// When a request holds; by default, always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// `If-Match`: the present version is one of these.
    pub(crate) if_match: Option<Tags>,
    /// `If-None-Match`: the present version is none of these.
    pub(crate) if_none_match: Option<Tags>,
}

impl Condition {
    /// Whether an entry whose version is `current`, or one that is not there, meets `If-Match`.
    pub(crate) fn matches(&self, current: Option<Version>) -> bool {
        self.if_match.as_ref().is_none_or(|tags| tags.match_any(current))
    }

    /// Whether it meets `If-None-Match`.
    pub(crate) fn is_new(&self, current: Option<Version>) -> bool {
        self.if_none_match.as_ref().is_none_or(|tags| !tags.match_any(current))
    }

    /// Whether it meets both.
    pub(crate) fn holds(&self, current: Option<Version>) -> bool {
        self.matches(current) && self.is_new(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(slot: u64, index: u32) -> Version {
        Version(Position { slot: Slot::new(slot), index })
    }

    #[test]
    fn a_version_is_read_back_as_it_is_shown() {
        for (version, text) in
            [(version(7, 0), "7"), (version(7, 3), "7-3"), (version(u64::MAX, 1), "18446744073709551615-1")]
        {
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse(), Ok(version));
        }
    }

    #[test]
    fn a_version_has_one_text_only() {
        for text in ["", "-", "7-", "-7", "+7", "07", "7-0", "7-03", "7-3-1", "x", "7 "] {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_there_matches_nothing() {
        for tags in [Tags::Any, Tags::Versions(vec![version(1, 0)])] {
            let asked = Condition { if_match: Some(tags.clone()), ..Condition::default() };
            let unwanted = Condition { if_none_match: Some(tags), ..Condition::default() };
            assert!(!asked.holds(None));
            assert!(unwanted.holds(None));
        }
    }

    #[test]
    fn a_version_matches_itself_and_no_other_in_its_slot() {
        let condition = Condition {
            if_match: Some(Tags::Versions(vec![version(4, 0), version(5, 1)])),
            ..Condition::default()
        };
        assert!(condition.holds(Some(version(5, 1))));
        assert!(!condition.holds(Some(version(5, 2))));
    }

    #[test]
    fn no_tag_of_ours_matches_nothing() {
        let none = Some(Tags::Versions(Vec::new()));
        assert!(!Condition { if_match: none.clone(), ..Condition::default() }.holds(Some(version(1, 0))));
        assert!(Condition { if_none_match: none, ..Condition::default() }.holds(Some(version(1, 0))));
    }
}
