//! The project's aims for these figures, and whether they are met.

use serde::Serialize;

use super::measure::Row;
use super::server::Kind;
use super::table::{Table, number};

/// One aim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Bar {
    what: String,
    aim: String,
    measured: f64,
    unit: &'static str,
    passed: bool,
}

impl Bar {
    /// An aim that asks for `least` at least.
    pub(super) fn at_least(what: &str, measured: f64, least: f64, unit: &'static str) -> Self {
        let aim = format!(">= {}", number(least));
        Self { what: what.to_owned(), aim, measured, unit, passed: measured >= least }
    }

    /// An aim that allows `most` at most.
    pub(super) fn at_most(what: &str, measured: f64, most: f64, unit: &'static str) -> Self {
        let aim = format!("<= {}", number(most));
        Self { what: what.to_owned(), aim, measured, unit, passed: measured <= most }
    }
}

/// What the rows of one run say of the aims; those whose rows are missing are left out.
pub(super) fn of_rows(rows: &[Row]) -> Vec<Bar> {
    let find = |kind: Kind, paced: bool| {
        rows.iter().find(|row| row.server == kind.name() && row.paced.is_some() == paced)
    };
    let mut bars = Vec::new();
    if let Some(manager) = find(Kind::Manager, false) {
        if let Some(flask) = find(Kind::Flask, false) {
            bars.push(Bar::at_least("rate against Flask", manager.rate / flask.rate, 15.0, "times"));
        }
        if let Some(echo) = find(Kind::Echo, false) {
            bars.push(Bar::at_least("rate against the gate's echo", manager.rate / echo.rate, 0.5, "times"));
        }
        bars.extend([
            Bar::at_least("rate saturated", manager.rate, 8000.0, "reports/s"),
            Bar::at_most("CPU saturated", manager.cpu_us, 100.0, "µs/report"),
            Bar::at_most("p99 saturated", manager.p99_ms, 35.0, "ms"),
            Bar::at_most("written saturated", manager.written, 5000.0, "B/report"),
        ]);
        // 2 MB a day and agent, in 2,880 reports.
        bars.push(Bar::at_most("wire, both directions", manager.wire, 694.0, "B/report"));
        if let Some(database) = manager.database {
            bars.push(Bar::at_most("database", database, 750.0, "B/report"));
        }
    }
    if let Some(paced) = find(Kind::Manager, true) {
        bars.push(Bar::at_most("CPU paced", paced.cpu_us, 300.0, "µs/report"));
        bars.push(Bar::at_most("p99 paced", paced.p99_ms, 10.0, "ms"));
    }
    let managers = rows.iter().filter(|row| row.server == Kind::Manager.name());
    if let Some(peak) = managers.clone().map(|row| row.peak_rss_mb).reduce(f64::max) {
        bars.push(Bar::at_most("peak RSS", peak, 32.0, "MB"));
        let failed = managers.map(|row| row.failed).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a count of failures")]
        bars.push(Bar::at_most("reports not stored", failed as f64, 0.0, "reports"));
    }
    bars
}

/// The aims as a table.
pub(super) fn render(bars: &[Bar]) -> String {
    let mut table = Table::new(&["aim", "bar", "measured", "unit", "verdict"]);
    for bar in bars {
        let verdict = if bar.passed { "PASS" } else { "MISS" };
        table.row([bar.what.clone(), bar.aim.clone(), number(bar.measured), bar.unit.into(), verdict.into()]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_compare_rows_of_the_same_run() {
        let row = |kind: Kind, rate| Row { server: kind.name().into(), rate, ..Row::default() };
        let rows = [row(Kind::Manager, 9000.0), row(Kind::Flask, 500.0)];
        let bars = of_rows(&rows);
        let verdict =
            |what: &str| bars.iter().find(|bar| bar.what == what).map(|bar| (bar.measured, bar.passed));
        assert_eq!(verdict("rate against Flask"), Some((18.0, true)));
        assert_eq!(verdict("rate against the gate's echo"), None, "it did not run");
        assert_eq!(verdict("CPU paced"), None);
        let text = render(&[Bar::at_most("x", 2.0, 1.0, "ms"), Bar::at_least("y", 2.0, 1.0, "ms")]);
        assert!(text.contains("| x   | <= 1.00 |     2.00 |   ms |    MISS |"), "{text}");
        assert!(text.contains("PASS"));
    }
}
