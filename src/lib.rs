//! Synod: Paxos for any application over any network.

#[cfg(feature = "codec")]
pub mod codec;
pub mod multi;
pub mod paxos;
pub mod storage;
#[cfg(feature = "testing")]
pub mod testing;
pub mod timer;
pub mod transport;
