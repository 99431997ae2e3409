//! What an operator asks a running cluster for: its members and other ones, another leader, a snapshot.

use crate::cli::{At, say};
use crate::client::Client;
use crate::failure::Failure;
use crate::http::members::{ChangeBody, Kind, MemberBody, MembersBody, is_address};
use clap::{Args, Subcommand};
use serde::Serialize;

/// Where the service is, and how to print what it answers.
#[derive(Debug, Args)]
pub(crate) struct Operator {
    #[command(flatten)]
    at: At,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `kv member`.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Print the members: id, kind, address.
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// One more member, started with `kv serve --join`; or another kind or address for one that is there.
    Add {
        id: u64,
        /// Where the other nodes reach it.
        #[arg(value_parser = address)]
        address: String,
        /// It keeps the log and votes, but has no state and never leads.
        #[arg(long, conflicts_with = "observer")]
        witness: bool,
        /// It learns, and does not vote.
        #[arg(long)]
        observer: bool,
        #[command(flatten)]
        operator: Operator,
    },
    /// One member less; it learns so, and stops. Its id is never used again.
    Remove {
        id: u64,
        #[command(flatten)]
        operator: Operator,
    },
    /// A new node in the place of one that is lost, in one step.
    Replace {
        /// The lost one; its id is never used again.
        lost: u64,
        /// The new one, started with `kv serve --join`.
        id: u64,
        /// Where the other nodes reach the new one.
        #[arg(value_parser = address)]
        address: String,
        #[command(flatten)]
        operator: Operator,
    },
}

impl MemberCommand {
    /// Does it, and prints the members in force then.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (operator, change) = match self {
            Self::List { operator } => {
                let members = client.members(&operator.at.node).await?;
                operator.say(&members, || table(&members));
                return Ok(());
            }
            Self::Add { id, address, witness, observer, operator } => {
                let kind = match (witness, observer) {
                    (true, _) => Kind::Witness,
                    (_, true) => Kind::Observer,
                    (false, false) => Kind::Voter,
                };
                (operator, ChangeBody::Add { id, address, kind })
            }
            Self::Remove { id, operator } => (operator, ChangeBody::Remove { id }),
            Self::Replace { lost, id, address, operator } => {
                (operator, ChangeBody::Replace { lost, id, address })
            }
        };
        let members = client.change(&operator.at.node, &change).await?;
        operator.say(&members, || table(&members));
        if let Some(advice) = advice(&members) {
            eprintln!("kv: {advice}");
        }
        Ok(())
    }
}

impl Operator {
    /// Lets the node take a snapshot.
    pub(crate) async fn snapshot(&self, client: &Client) -> Result<(), Failure> {
        let snapshot = client.snapshot(&self.at.node).await?;
        self.say(&snapshot, || snapshot.slot.to_string());
        Ok(())
    }

    /// Hands the lead over.
    pub(crate) async fn transfer(&self, client: &Client, to: Option<u64>) -> Result<(), Failure> {
        let leader = client.transfer(&self.at.node, to).await?;
        self.say(&leader, || leader.leader.to_string());
        Ok(())
    }

    fn say(&self, answer: &impl Serialize, text: impl FnOnce() -> String) {
        say(if self.json { serde_json::json!(answer).to_string() } else { text() });
    }
}

/// One line for each member.
fn table(members: &MembersBody) -> String {
    let width = members.members.iter().map(|member| member.id.to_string().len()).max().unwrap_or(0);
    let line = |member: &MemberBody| {
        let MemberBody { id, address, kind } = member;
        format!("{id:>width$}  {kind:<8}  {address}")
    };
    members.members.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// An even number is allowed, and seldom meant.
fn advice(members: &MembersBody) -> Option<String> {
    let voting = members.voting();
    let losses = voting - members.phase2_quorum.max(members.phase1_quorum).min(voting);
    voting
        .is_multiple_of(2)
        .then(|| format!("{voting} members vote, and may lose {losses}, like {} would", voting - 1))
}

fn address(text: &str) -> Result<String, &'static str> {
    if is_address(text) { Ok(text.into()) } else { Err("an address is HOST:PORT, as in 127.0.0.1:7001") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(kinds: &[Kind]) -> MembersBody {
        let member = |(id, kind): (u64, &Kind)| MemberBody { id, address: format!("h:{id}"), kind: *kind };
        let voting = kinds.iter().filter(|kind| **kind != Kind::Observer).count();
        let quorum = voting / 2 + 1;
        MembersBody {
            members: (9..).zip(kinds).map(member).collect(),
            phase1_quorum: quorum,
            phase2_quorum: quorum,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_member() {
        let table = table(&members(&[Kind::Voter, Kind::Witness]));
        assert_eq!(table, " 9  voter     h:9\n10  witness   h:10");
    }

    #[test]
    fn only_an_even_number_of_voting_members_calls_for_advice() {
        assert_eq!(advice(&members(&[Kind::Voter; 3])), None);
        assert_eq!(advice(&members(&[Kind::Voter, Kind::Observer])), None);
        let two = advice(&members(&[Kind::Voter, Kind::Witness])).unwrap_or_default();
        assert_eq!(two, "2 members vote, and may lose 0, like 1 would");
        let four = advice(&members(&[Kind::Voter; 4])).unwrap_or_default();
        assert_eq!(four, "4 members vote, and may lose 1, like 3 would");
    }
}
