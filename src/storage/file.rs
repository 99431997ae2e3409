//! Placeholder.
/// Placeholder.
#[derive(Debug)]
pub struct FileStorage;
