//! For your own tests: conformance suites for a transport and a storage of your own.
