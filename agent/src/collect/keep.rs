//! A list of bounded size that keeps what matters most.

/// Keeps at most `max` of the items pushed, those of the lowest rank, and counts them all. Equal
/// ranks keep their order, so that two turns over the same rows keep the same ones.
#[derive(Debug)]
pub(super) struct Keep<T> {
    max: usize,
    total: usize,
    items: Vec<(u8, usize, T)>,
}

impl<T> Keep<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, total: 0, items: Vec::new() }
    }

    /// Adds an item; lower ranks are kept first.
    pub(super) fn push(&mut self, rank: u8, item: T) {
        self.items.push((rank, self.total, item));
        self.total += 1;
        if self.items.len() >= 2 * self.max {
            self.cut();
        }
    }

    /// Adds all items of another list after its own.
    pub(super) fn append(&mut self, other: Self) {
        let before = self.total;
        self.total += other.total;
        self.items.extend(other.items.into_iter().map(|(rank, order, item)| (rank, before + order, item)));
    }

    /// The items kept, in the order in which they came, and how many there were.
    pub(super) fn finish(mut self) -> (Vec<T>, u32) {
        self.cut();
        let total = u32::try_from(self.total).unwrap_or(u32::MAX);
        (self.items.into_iter().map(|(_, _, item)| item).collect(), total)
    }

    fn cut(&mut self) {
        if self.items.len() > self.max {
            // The items stay in their order; sorting their keys alone is one function for all lists.
            let mut keys: Vec<(u8, usize)> =
                self.items.iter().map(|(rank, order, _)| (*rank, *order)).collect();
            keys.sort_unstable();
            let first_out = keys[self.max];
            self.items.retain(|(rank, order, _)| (*rank, *order) < first_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ranks_stay_in_their_order() {
        let mut keep = Keep::new(4);
        for number in 0..1000_u32 {
            keep.push(if number == 3 || number >= 998 { 0 } else { 1 }, number);
        }
        assert_eq!(keep.finish(), (vec![0, 3, 998, 999], 1000));
        let mut few = Keep::new(4);
        few.push(9, 'a');
        few.push(0, 'b');
        let mut more = Keep::new(4);
        "cdefghi".chars().for_each(|letter| more.push(if letter == 'i' { 0 } else { 5 }, letter));
        few.append(more);
        assert_eq!(few.finish(), (vec!['b', 'c', 'd', 'i'], 9));
    }
}
