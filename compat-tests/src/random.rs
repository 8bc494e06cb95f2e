//! Random numbers that are the same in every run with the same seed (the generator `SplitMix64`).

use std::ops::Range;

/// A source of random numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds give unrelated sequences.
        let mut random = Self { state: seed.wrapping_mul(0xd134_2543_de82_ef95) };
        random.next_u64();
        random
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number of `range`, which is not empty.
    pub fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// One of `items`, of which there is at least one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(items.len() as u64)).expect("below a usize");
        items.get(index).expect("below the number of items")
    }

    /// `len` printable characters, compressible to about half.
    pub fn text(&mut self, len: u64) -> String {
        const WORDS: &[&str] = &[
            "page", "redo", "undo", "log", "space", "extent", "lsn", "row", "index", "leaf",
            "q7Zk", "0xW9", "vB3n", "Hj5R", "tY2p", "mK8d",
        ];
        let mut text = String::new();
        while (text.len() as u64) < len {
            text.push_str(self.pick::<&str>(WORDS));
        }
        text.truncate(usize::try_from(len).expect("short"));
        text
    }
}
