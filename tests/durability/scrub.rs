//! The scrub: finds what rots while the storage is open, and nothing else.
