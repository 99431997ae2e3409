//! The peers, each driven as its own documentation advises, as well as we can.

pub(crate) mod etcd;
