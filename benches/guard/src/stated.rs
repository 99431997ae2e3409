//! The file that says what each path costs, and which functions spend it.

use crate::Error;
use crate::callgrind::Counted;
use crate::paths::Path;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What is stated of each path.
pub(crate) type Stated = BTreeMap<Path, Counted>;

const HEAD: &str = "\
# Instructions per unit of work of each path, counted by callgrind; below each, those of its functions that spend 1 % of it or
# more. Compared, to 5 %, by `cargo run --release -p synod-guard`; written anew with SYNOD_BLESS=1.
";

/// Where it is.
pub(crate) fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/stated.txt"))
}

/// Reads it; a file that is not there states nothing.
pub(crate) fn read() -> Result<Stated, Error> {
    let text = match std::fs::read_to_string(file()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut stated = Stated::new();
    let mut path = None;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (first, rest) = line.trim_start().split_once(' ').ok_or("a line of stated.txt has one word")?;
        if line.starts_with(' ') {
            let Some(counted) = path.and_then(|path| stated.get_mut(&path)) else { continue };
            counted.functions.insert(rest.to_owned(), first.parse()?);
        } else {
            // A path that there is no more states nothing.
            path = Path::ALL.into_iter().find(|path| path.name() == first);
            if let Some(path) = path {
                stated.insert(path, Counted { instructions: rest.trim().parse()?, ..Counted::default() });
            }
        }
    }
    Ok(stated)
}

/// Writes it anew.
pub(crate) fn write(counted: &Stated) -> Result<(), Error> {
    let mut text = String::from(HEAD);
    for (path, counted) in counted {
        writeln!(text, "\n{} {}", path.name(), counted.instructions)?;
        let mut functions: Vec<(&String, &u64)> = counted.functions.iter().collect();
        functions.sort_by_key(|(name, cost)| (std::cmp::Reverse(**cost), *name));
        for (name, cost) in functions.iter().filter(|(_, cost)| **cost * 100 >= counted.instructions) {
            writeln!(text, "  {cost} {name}")?;
        }
    }
    Ok(std::fs::write(file(), text)?)
}
