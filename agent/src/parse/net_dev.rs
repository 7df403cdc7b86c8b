//! `/proc/net/dev`: the interfaces of this network namespace and their counters.

use proto::report::Counters;

use super::{BadField, Fields, Parsed, Row, interface_name, rows};

/// Lines before the first interface.
pub const HEADER: usize = 2;

/// Every interface with its counters, in the kernel's order.
#[must_use]
pub fn parse(text: &str) -> Parsed<(String, Counters)> {
    rows(text, HEADER, row)
}

/// One interface. The name ends at the *last* colon: old kernels allow colons in names, and older
/// ones print no blank after it.
///
/// # Errors
/// The first column that is missing or not a number.
pub fn row(line: &str) -> Row<(String, Counters)> {
    let (name, numbers) =
        line.rsplit_once(':').ok_or(BadField { column: 1, field: "interface name before a colon" })?;
    let name = interface_name(name.trim()).ok_or(BadField { column: 1, field: "interface name" })?;
    let mut fields = Fields::new(numbers, 1);
    let mut counters = Counters {
        rx_bytes: fields.parse("number of bytes received")?,
        rx_packets: fields.parse("number of packets received")?,
        rx_errors: fields.parse("number of receive errors")?,
        rx_dropped: fields.parse("number of packets dropped on receive")?,
        ..Counters::default()
    };
    fields.skip(1);
    counters.rx_frame = fields.parse("number of frame errors")?;
    fields.skip(2);
    counters.tx_bytes = fields.parse("number of bytes sent")?;
    counters.tx_packets = fields.parse("number of packets sent")?;
    counters.tx_errors = fields.parse("number of transmit errors")?;
    counters.tx_dropped = fields.parse("number of packets dropped on transmit")?;
    Ok(Some((name.to_owned(), counters)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
eth0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
  wg0: 18446744073709551615 1 2 3 4 5 6 7 8 9 10 11 12
broken 1 2 3
  bad: 1 x
";

    #[test]
    fn columns_are_the_kernels() {
        let parsed = parse(TEXT);
        let names: Vec<&str> = parsed.rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0:1", "wg0"]);
        let expected = Counters {
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            rx_frame: 6,
            tx_bytes: 9,
            tx_packets: 10,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(parsed.rows[1].1, expected);
        assert_eq!(parsed.rows[2].1.rx_bytes, u64::MAX);
        let errors: Vec<_> = parsed.errors.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(errors, [(6, 1), (7, 3)]);
    }
}
