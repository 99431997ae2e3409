//! Law: one place appends and sends, so one place has to be read to know that nothing is sent before it is durable.

use std::fs;
use std::path::Path;

#[test]
fn only_carry_out_appends_and_sends() {
    let actors = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/actors");
    let mut found = 0;
    for file in fs::read_dir(actors).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let uses = text.matches("storage.append(").count() + text.matches("transport.send(").count();
        if path.ends_with("carry_out.rs") {
            found = uses;
        } else {
            assert_eq!(uses, 0, "{}", path.display());
        }
    }
    assert_eq!(found, 2, "one append, one send");
}
