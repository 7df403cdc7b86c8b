//! `/proc/net/vlan/config`: VLAN ids, which /sys does not tell.

use super::{BadField, Parsed, Row, interface_name, rows};

/// Lines before the first VLAN.
pub const HEADER: usize = 2;

/// Every VLAN interface with its id.
#[must_use]
pub fn parse(text: &str) -> Parsed<(String, u32)> {
    rows(text, HEADER, row)
}

/// One VLAN interface: `NAME | ID | PARENT`.
///
/// # Errors
/// The first column that is missing or malformed.
pub fn row(line: &str) -> Row<(String, u32)> {
    let mut columns = line.split('|').map(str::trim);
    let name = columns.next().and_then(interface_name);
    let name = name.ok_or(BadField { column: 1, field: "interface name" })?;
    let id = columns.next().and_then(|id| id.parse().ok()).filter(|id| *id < 4096);
    let id = id.ok_or(BadField { column: 2, field: "VLAN id" })?;
    Ok(Some((name.to_owned(), id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids() {
        let text = "\
VLAN Dev name\t | VLAN ID
Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD
eth0.7         | 7  | eth0
iot            | 42  | eth0.7
odd            | 4096  | eth0
";
        let parsed = parse(text);
        assert_eq!(parsed.rows, [("eth0.7".to_owned(), 7), ("iot".to_owned(), 42)]);
        assert_eq!(parsed.errors.len(), 1);
        assert_eq!((parsed.errors[0].line, parsed.errors[0].column), (5, 2));
    }
}
