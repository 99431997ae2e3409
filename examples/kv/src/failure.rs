//! Failures: one line on stderr, and an exit code.

use std::error::Error;
use std::process::ExitCode;

/// Why the program ends before its work is done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Someone has to change something before another try makes sense: exit code 2.
    Refused(String),
    /// It was asked for the right thing, and it did not work out: exit code 1.
    Failed(String),
    /// A program that it ran for somebody ended with this code, and has told why itself.
    Ended(u8),
}

impl Failure {
    /// Says on stderr what happened.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Refused(text) => (2, text),
            Self::Failed(text) => (1, text),
            Self::Ended(code) => return ExitCode::from(code),
        };
        eprintln!("kv: {}", text.trim_end().replace('\n', " "));
        ExitCode::from(code)
    }
}

/// `error` and its sources in one line.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors quote their source; once is enough.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
