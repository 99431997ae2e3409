//! The node: roles and election put together.
use super::*;

/// Which role of a node takes `message`.
pub fn route(message: &Message) -> Role {
    match message {
        Message::Promise { .. } | Message::Nack { .. } | Message::Accepted { .. } => Role::Proposer,
        Message::Prepare { .. }
        | Message::Accept { .. }
        | Message::Heartbeat { .. }
        | Message::CatchUp { .. }
        | Message::Form { .. }
        | Message::AlreadyFormed { .. } => Role::Acceptor,
        Message::Chosen { .. } | Message::Trimmed { .. } => Role::Learner,
        Message::PrePrepare { .. } | Message::PrePrepareAnswer { .. } | Message::HeartbeatAck { .. } => {
            Role::Election
        }
        // Clients' messages: the proposer's shell deals with them before the role sees them.
        Message::Forward { .. }
        | Message::ForwardAnswer { .. }
        | Message::ReadMark { .. }
        | Message::ReadMarkAnswer { .. } => Role::Proposer,
    }
}
