//! Members and changes of them, as JSON has them.

use serde::{Deserialize, Serialize};
use std::fmt;
use synod::multi::ChangeRefusal;
use synod::{Change, Member, MemberKind, Membership, NodeId};

/// What a member does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Keeps the log and the state, and counts in quorums.
    #[default]
    Voter,
    /// Keeps the log only, and counts in quorums.
    Witness,
    /// Keeps the log and the state, and counts in no quorum.
    Observer,
}

impl From<MemberKind> for Kind {
    fn from(kind: MemberKind) -> Self {
        match kind {
            MemberKind::Voter => Self::Voter,
            MemberKind::Witness => Self::Witness,
            MemberKind::Observer => Self::Observer,
        }
    }
}

impl From<Kind> for MemberKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Voter => Self::Voter,
            Kind::Witness => Self::Witness,
            Kind::Observer => Self::Observer,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Witness => "witness",
            Self::Observer => "observer",
        })
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberBody {
    pub(crate) id: u64,
    /// Where the other nodes reach it.
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) kind: Kind,
}

/// All members, and how many of those that vote are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersBody {
    pub(crate) members: Vec<MemberBody>,
    /// To elect a leader.
    pub(crate) phase1_quorum: usize,
    /// To choose a command.
    pub(crate) phase2_quorum: usize,
}

impl From<&Membership> for MembersBody {
    fn from(membership: &Membership) -> Self {
        let (phase1_quorum, phase2_quorum) = membership.quorums();
        Self { members: bodies(membership), phase1_quorum, phase2_quorum }
    }
}

impl MembersBody {
    /// How many count in quorums.
    pub(crate) fn voting(&self) -> usize {
        self.members.iter().filter(|member| member.kind != Kind::Observer).count()
    }
}

/// The members in the order of their ids.
pub(super) fn bodies(membership: &Membership) -> Vec<MemberBody> {
    let body = |(id, member): (&NodeId, &Member)| MemberBody {
        id: id.get(),
        address: member.address.clone(),
        kind: member.kind.into(),
    };
    membership.members().iter().map(body).collect()
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum ChangeBody {
    /// One more, or another kind or address for one that is there.
    Add {
        id: u64,
        address: String,
        #[serde(default)]
        kind: Kind,
    },
    /// One less.
    Remove { id: u64 },
    /// One in the place of another, which is lost.
    Replace { lost: u64, id: u64, address: String },
    /// These, whatever was there, in one step.
    Set { members: Vec<MemberBody> },
}

impl ChangeBody {
    /// The first address in it that is none.
    pub(super) fn malformed_address(&self) -> Option<&str> {
        let addresses: Vec<&String> = match self {
            Self::Add { address, .. } | Self::Replace { address, .. } => vec![address],
            Self::Remove { .. } => Vec::new(),
            Self::Set { members } => members.iter().map(|member| &member.address).collect(),
        };
        addresses.into_iter().map(String::as_str).find(|address| !is_address(address))
    }

    /// The change, seen from the `present` members.
    ///
    /// # Errors
    ///
    /// [`ChangeRefusal`], if the members could not do their work.
    pub(super) fn change(self, present: Option<&Membership>) -> Result<Change, ChangeRefusal> {
        Ok(match self {
            Self::Add { id, address, kind } => {
                Change::Add { node: NodeId::new(id), member: Member { kind: kind.into(), address } }
            }
            Self::Remove { id } => Change::Remove { node: NodeId::new(id) },
            Self::Replace { lost, id, address } => {
                Change::Replace { lost: NodeId::new(lost), node: NodeId::new(id), address }
            }
            Self::Set { members } => {
                let present = present.ok_or(ChangeRefusal::InProgress)?;
                let member = |body: MemberBody| {
                    (NodeId::new(body.id), Member { kind: body.kind.into(), address: body.address })
                };
                Change::Set(present.with_members(members.into_iter().map(member).collect())?)
            }
        })
    }
}

/// Whether `text` is `HOST:PORT`.
pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ChangeBody, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_change_is_read_as_it_is_documented() {
        let add = read(r#"{"change":"add","id":4,"address":"h:1"}"#).unwrap();
        assert_eq!(add, ChangeBody::Add { id: 4, address: "h:1".into(), kind: Kind::Voter });
        let witness = read(r#"{"change":"add","id":4,"address":"h:1","kind":"witness"}"#).unwrap();
        assert_eq!(witness, ChangeBody::Add { id: 4, address: "h:1".into(), kind: Kind::Witness });
        assert_eq!(read(r#"{"change":"remove","id":4}"#).unwrap(), ChangeBody::Remove { id: 4 });
        let replace = read(r#"{"change":"replace","lost":3,"id":4,"address":"h:1"}"#).unwrap();
        assert_eq!(replace, ChangeBody::Replace { lost: 3, id: 4, address: "h:1".into() });
    }

    #[test]
    fn what_is_not_a_change_is_refused() {
        for text in [
            "{}",
            r#"{"change":"drop","id":4}"#,
            r#"{"change":"remove"}"#,
            r#"{"change":"remove","id":-4}"#,
            r#"{"change":"remove","id":4,"force":true}"#,
            r#"{"change":"add","id":4,"address":"h:1","kind":"king"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_set_keeps_the_constants_of_the_cluster_and_majorities() {
        let present = Membership::voters([(NodeId::new(1), "a:1")]).unwrap().with_alpha(7).unwrap();
        let body = |id| MemberBody { id, address: "b:1".into(), kind: Kind::Voter };
        let set = ChangeBody::Set { members: vec![body(2), body(3), body(4)] };
        let Change::Set(goal) = set.change(Some(&present)).unwrap() else { unreachable!() };
        assert!(goal.has_constants_of(&present));
        assert_eq!(goal.quorums(), (2, 2));
        let nobody = ChangeBody::Set { members: Vec::new() };
        assert!(matches!(nobody.change(Some(&present)), Err(ChangeRefusal::Impossible(_))));
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert!(["a:1", "10.0.0.1:7001", "[::1]:7001"].into_iter().all(is_address));
        assert!(!["", "a", ":1", "a:", "a:0", "a:x", "a:65536"].into_iter().any(is_address));
    }
}
