//! For your own tests: a simulator of whole clusters, conformance suites for a transport and a storage of your own, and a
//! checker for what clients saw.

pub mod fuzzing;
mod linearizability;
pub mod simulation;
mod storage_suite;
mod transport_suite;

pub use linearizability::{
    LinearizabilityError, Operation, Register, RegisterInput, STEPS_MAX, Specification, check_linearizable,
};
pub use storage_suite::{CaseOutcome, CaseResult, StoragePlace, StorageReport, storage_suite};
pub use transport_suite::{
    TransportFailure, TransportHarness, TransportHarnessError, TransportReport, transport_suite,
};
