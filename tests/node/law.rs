//! Law: one place appends and sends, so one place has to be read to know that nothing is sent before it is durable.

use std::fs;
use std::path::Path;

#[test]
fn only_carry_out_appends_cuts_and_sends() {
    let actors = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/actors");
    let mut found = 0;
    for file in fs::read_dir(actors).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let calls = ["storage.append(", "storage.trim(", "transport.send("];
        let uses: usize = calls.iter().map(|call| text.matches(call).count()).sum();
        if path.ends_with("carry_out.rs") {
            found = uses;
        } else {
            assert_eq!(uses, 0, "{}", path.display());
        }
    }
    assert_eq!(found, 3, "one append, one cut, one send");
}
