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
    let section = readme.split("\n## ").find(|section| section.starts_with("Settings\n")).unwrap();
    let settings = section.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(settings.count(), NAMES.len());
}
