//! Tables that fit a width: columns that matter less go first, then names are cut. Pure.

/// How wide and tall it may be, and whether in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    /// Lines of the terminal, where it has to fit.
    pub height: Option<usize>,
    /// Whether colours may be used.
    pub color: bool,
}

/// A colour that says how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Bad,
    Doubtful,
    Good,
    Faint,
    Title,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers stand right.
    pub(super) right: bool,
    /// When room is short the highest goes first; 0 always stays.
    pub(super) rank: u8,
    /// Whether it may be cut, to this many characters at the least.
    pub(super) least: Option<usize>,
}

/// A field of a row.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    /// The end of the text that stays when it is cut.
    tail: usize,
    color: Option<Color>,
}

impl Cell {
    /// Text from anywhere: what would steer the terminal does not get through.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()), tail: 0, color: None }
    }

    /// A name that may be cut, and what follows it and stays.
    pub(super) fn ending(name: &str, tail: &str) -> Self {
        let tail = clean(tail);
        Self { text: clean(name) + &tail, tail: tail.len(), color: None }
    }

    pub(super) fn colored(text: impl AsRef<str>, color: Option<Color>) -> Self {
        Self { color, ..Self::new(text) }
    }
}

/// Lines with two spaces before each and between columns; the first has the titles.
pub(super) fn table(columns: &[Column], rows: &[Vec<Cell>], look: &Look) -> Vec<String> {
    let widest = |at: usize| {
        let cells = rows.iter().map(|row| width(&row[at].text)).max().unwrap_or(0);
        // A column without anything in it has no room, and no title either.
        if cells == 0 { 0 } else { cells.max(columns[at].title.len()) }
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let total = |widths: &[usize]| widths.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>();
    let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).filter(|rank| *rank > 0).collect();
    ranks.sort_unstable();
    let least = |widths: &[usize]| {
        let cut = widths.iter().zip(columns).filter(|(width, _)| **width > 0);
        cut.map(|(width, column)| column.least.map_or(*width, |least| least.min(*width)) + 2).sum::<usize>()
    };
    while least(&widths) > look.width {
        let Some(rank) = ranks.pop() else { break };
        for (width, _) in widths.iter_mut().zip(columns).filter(|(_, column)| column.rank == rank) {
            *width = 0;
        }
    }
    while total(&widths) > look.width {
        let room = |at: &usize| columns[*at].least.map_or(0, |least| widths[*at].saturating_sub(least));
        let Some(at) = (0..columns.len()).max_by_key(room).filter(|at| room(at) > 0) else { break };
        widths[at] -= 1;
    }
    let titles = columns.iter().map(|column| Cell::colored(column.title, Some(Color::Faint))).collect();
    std::iter::once(&titles).chain(rows).map(|row| line(columns, row, &widths, look)).collect()
}

fn line(columns: &[Column], row: &[Cell], widths: &[usize], look: &Look) -> String {
    let mut line = String::new();
    for ((column, cell), room) in columns.iter().zip(row).zip(widths).filter(|(_, room)| **room > 0) {
        let (name, tail) = cell.text.split_at(cell.text.len() - cell.tail);
        let text = fit(name, tail, *room);
        let pad = " ".repeat(room - width(&text));
        line.push_str("  ");
        if column.right {
            line.push_str(&pad);
        }
        line.push_str(&paint(&text, cell.color, look));
        if !column.right {
            line.push_str(&pad);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

pub(super) fn paint(text: &str, color: Option<Color>, look: &Look) -> String {
    let Some(color) = color.filter(|_| look.color && !text.is_empty()) else { return text.to_owned() };
    let code = match color {
        Color::Bad => "31",
        Color::Doubtful => "33",
        Color::Good => "32",
        Color::Faint => "2",
        Color::Title => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The name and its tail in at most `room` columns; the name has a mark where it was cut. A tail that
/// leaves it no room is cut too.
fn fit(name: &str, tail: &str, room: usize) -> String {
    if width(name) + width(tail) <= room {
        return format!("{name}{tail}");
    }
    let tail = if width(tail) + 4 <= room { tail } else { "" };
    let room = room - width(tail);
    let (mut cut, mut used) = (String::new(), 0);
    for c in name.chars() {
        used += columns_of(c);
        if used >= room {
            break;
        }
        cut.push(c);
    }
    format!("{cut}…{tail}")
}

/// Words in lines of at most `room` columns; a word that is longer has a line of its own.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && width(&line) + 1 + width(word) > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// East Asian wide characters and emoji take two columns, combining marks none (after UAX 11).
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Without what steers a terminal or turns the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "HOST", right: false, rank: 0, least: Some(4) },
        Column { title: "AGE", right: true, rank: 0, least: None },
        Column { title: "MORE", right: false, rank: 1, least: None },
    ];

    fn shown(width: usize) -> Vec<String> {
        let row = |fields: [&str; 3]| fields.map(Cell::new).to_vec();
        let rows = [row(["router-in-the-cellar", "5 s", "x"]), row(["a", "12 min", "yyyyyyyy"])];
        table(&COLUMNS, &rows, &Look { width, height: None, color: false })
    }

    #[test]
    fn columns_go_by_rank_and_then_names_are_cut() {
        assert_eq!(
            shown(80),
            [
                "  HOST                     AGE  MORE",
                "  router-in-the-cellar     5 s  x",
                "  a                     12 min  yyyyyyyy",
            ]
        );
        assert_eq!(shown(26)[1], "  route…     5 s  x");
        assert_eq!(shown(20), ["  HOST           AGE", "  router-in…     5 s", "  a           12 min"]);
        assert!(shown(5).iter().all(|line| width(line) <= 14), "never less than what stays");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\x1b[2J\u{9b}1m\n\u{202e}b"), "a\u{fffd}[2J\u{fffd}1m\u{fffd}\u{fffd}b");
        assert_eq!(Cell::new("\t").text, "\u{fffd}");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("漢字 e\u{301}"), 6);
        assert_eq!(fit("漢字漢字", "", 5), "漢字…");
        assert_eq!(fit("a-long-name", " wg0", 9), "a-lo… wg0");
        assert_eq!(fit("a-long-name", " a-long-interface", 9), "a-long-n…");
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
    }
}
