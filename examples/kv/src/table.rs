//! The table that the demo loads: one entry a line, key and value separated by a tab.

use crate::failure::Failure;
use crate::http::KEY_BYTES_MAX;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// The characters below U+2000 and their names in the Unicode character database.
const UNICODE: &str = include_str!("../data/unicode.tsv");

/// Keys and values; of a key that comes twice, the last.
pub(crate) type Table = BTreeMap<String, Bytes>;

/// Reads the table in `path`, or the one that comes with the program.
pub(crate) fn read(path: Option<&Path>) -> Result<Table, Failure> {
    let Some(path) = path else { return parse(UNICODE, "the table") };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Refused(format!("cannot read {name}: {error}")))?;
    parse(&text, &name)
}

fn parse(text: &str, name: &str) -> Result<Table, Failure> {
    let mut table = Table::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        match line.split_once('\t') {
            Some((key, value)) if (1..=KEY_BYTES_MAX).contains(&key.len()) => {
                table.insert(key.into(), Bytes::copy_from_slice(value.as_bytes()));
            }
            _ => {
                let form = format!("a key of 1 to {KEY_BYTES_MAX} bytes, a tab and a value");
                return Err(Failure::Refused(format!("{name}, line {number}: not {form}")));
            }
        }
    }
    if table.len() < 2 {
        return Err(Failure::Refused(format!(
            "{name} has no two entries to load before and after the failure"
        )));
    }
    Ok(table)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_comes_with_the_program_has_thousands_of_rows() {
        let table = parse(UNICODE, "the table").unwrap();
        assert!(table.len() >= 5000, "{}", table.len());
        assert_eq!(table["U+03A9"], "GREEK CAPITAL LETTER OMEGA");
    }

    #[test]
    fn the_last_line_of_a_key_counts_and_a_value_may_hold_tabs() {
        let table = parse("a\t1\nb\t2\t3\n\na\t4\n", "t").unwrap();
        assert_eq!(table, Table::from([("a".into(), "4".into()), ("b".into(), "2\t3".into())]));
    }

    #[test]
    fn a_line_without_a_tab_is_refused_by_its_number() {
        let Err(Failure::Refused(text)) = parse("a\t1\n\nnothing\n", "t") else { panic!("it was taken") };
        assert!(text.starts_with("t, line 3"), "{text}");
    }
}
