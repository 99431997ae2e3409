//! For your own tests: conformance suites for a transport and a storage of your own.

mod storage_suite;
mod transport_suite;

pub use storage_suite::{CaseOutcome, CaseResult, StoragePlace, StorageReport, storage_suite};
pub use transport_suite::{
    TransportFailure, TransportHarness, TransportHarnessError, TransportReport, transport_suite,
};
