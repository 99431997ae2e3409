//! The peers, each driven as its own documentation advises, as well as we can.

pub(crate) mod etcd;
pub(crate) mod omnipaxos;
pub(crate) mod openraft;
pub(crate) mod raft;
