//! The README's table of settings is the one that the programs know.

#![allow(clippy::unwrap_used, reason = "a test")]

use proto::settings::NAMES;

#[test]
fn every_setting_is_in_the_readme_as_it_is() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    for name in NAMES {
        let row = format!("| `{}` | {} | {} |", name.name, name.default, name.meaning);
        assert!(readme.contains(&row), "README.md lacks the row\n{row}");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `") && !line.contains("` | does"));
    let settings = rows.filter(|line| {
        line[3..].starts_with(|c: char| c.is_ascii_uppercase()) && !line.starts_with("| `GET")
    });
    assert_eq!(settings.count(), NAMES.len());
}
