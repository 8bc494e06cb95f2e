//! A short run of every target, the same each time: inputs from real files, whole, damaged, cut,
//! and put together from two.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use cap::Cap;
use fuzz::Target;

/// All targets of one thread of tests at a time share this.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 16 * fuzz::MEMORY);

/// Damaged inputs of each target.
const INPUTS: usize = 4000;

/// Xorshift: the same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        const LIKELY: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 16];
        match self.below(3) {
            0 => LIKELY[self.below(LIKELY.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// An input made of the seeds.
    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        if self.below(4) == 0 {
            let other = &seeds[self.below(seeds.len())];
            let at = self.below(input.len().min(other.len()) + 1);
            input.truncate(at);
            input.extend(&other[at..]);
        }
        for _ in 0..self.below(6) {
            // Headers are short and at the start.
            let room = if self.below(2) == 0 { input.len().min(80) } else { input.len() };
            let at = self.below(room);
            let byte = self.byte();
            match self.below(8) {
                0 => input.truncate(at),
                1 => {
                    let len = self.below(9).min(input.len() - at);
                    input.drain(at..at + len);
                }
                2 => input.splice(at..at, [byte; 4]).for_each(drop),
                3 => input.get_mut(at).into_iter().for_each(|old| *old ^= 1 << (byte % 8)),
                _ => input.get_mut(at).into_iter().for_each(|old| *old = byte),
            }
        }
        input
    }
}

fn check(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let damaged = (0..INPUTS).map(|_| numbers.input(&seeds));
    let begin = Instant::now();
    for input in seeds.iter().cloned().chain(damaged).chain([Vec::new()]) {
        let start = Instant::now();
        let run = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let took = start.elapsed();
        assert!(
            run.is_ok() && took.as_secs() < 10,
            "{} took {took:?} for {} bytes: {input:02x?}",
            target.name,
            input.len()
        );
    }
    println!("{}: {} seeds, {INPUTS} inputs, {:?}", target.name, seeds.len(), begin.elapsed());
}

macro_rules! tests {
    ($($name:ident),*) => {
        $(#[test] fn $name() { check(fuzz::target(stringify!($name)).unwrap()); })*

        #[test]
        fn every_target_has_a_test() {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests!(
    log_header,
    log_ring,
    log_ring_encrypted,
    log_blocks,
    log_blocks_copied,
    log_archive,
    records,
    records_applied,
    space_header,
    page,
    page_compressed,
    aria_log,
    aria_table,
    definition,
    metadata,
    tar,
    delta
);
