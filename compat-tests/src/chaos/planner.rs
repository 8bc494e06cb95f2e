//! The sequence of a worker's steps: decided by the seed alone.

use std::collections::VecDeque;

use crate::installation::Series;

use super::kind::Kind;
use super::objects::Objects;
use super::partitions::Partitions;
use super::shared;
use super::step::{Action, Context, Step, sql};
use super::tables::Tables;

/// Plans the steps of one worker.
///
/// It knows what its own statements have made of its own tables, because nobody else touches
/// them; so it need not look, and a run's statements do not depend on how fast they are.
#[derive(Debug)]
pub struct Planner {
    context: Context,
    tables: Tables,
    partitions: Partitions,
    objects: Objects,
    /// The kinds of DDL.
    kinds: Vec<Kind>,
    /// Those still to come in this round, which has each of them once.
    round: Vec<Kind>,
    queue: VecDeque<Step>,
}

impl Planner {
    /// For the worker `number` of the run with `seed` on a server of `series`; `elsewhere` is where
    /// tables outside of the data directory are.
    pub fn new(seed: u64, number: u64, series: Series, elsewhere: &str) -> Self {
        Self {
            context: Context::new(seed, number, elsewhere.to_owned()),
            tables: Tables::default(),
            partitions: Partitions::default(),
            objects: Objects::default(),
            kinds: Kind::ddl_of(series),
            round: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// What is there before the backup starts. The first worker also creates what all share.
    pub fn set_up(&mut self) -> Vec<Action> {
        let c = &mut self.context;
        let mut actions = Vec::new();
        if c.schema == "w0" {
            actions.extend(shared::set_up(c));
        }
        actions.push(sql(format!("CREATE DATABASE {}", c.schema)));
        actions.push(sql(format!("CREATE DATABASE {}b", c.schema)));
        actions.extend(self.tables.set_up(c));
        actions.extend(self.partitions.set_up(c));
        actions.extend(self.objects.set_up(c));
        actions
    }

    /// The tables that exist after all steps so far.
    pub fn tables(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tables.names().collect();
        names.extend(self.partitions.names(&self.context));
        names.extend(self.objects.names(&self.context));
        names.extend(shared::names());
        names
    }

    /// The next step.
    pub fn next_step(&mut self) -> Step {
        if self.queue.is_empty() {
            self.plan();
        }
        self.queue.pop_front().expect("something was planned")
    }

    /// A change of tables, and some of rows.
    fn plan(&mut self) {
        let c = &mut self.context;
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
        }
        let kind = c.take(&mut self.round).expect("a round has kinds");
        let actions = match kind {
            Kind::Shared => shared::ddl(c),
            kind if kind < Kind::DiscardImport => self.tables.step(kind, c),
            kind if kind > Kind::DiscardImport && kind < Kind::CsvCreate => {
                self.partitions.step(kind, c)
            }
            kind => self.objects.step(kind, c),
        };
        self.queue.push_back(Step { kind, actions });
        for _ in 0..self.context.random.below(3) {
            let actions = self.dml();
            self.queue.push_back(Step { kind: Kind::Dml, actions });
        }
    }

    fn dml(&mut self) -> Vec<Action> {
        let c = &mut self.context;
        match c.random.below(8) {
            0..3 => vec![self.tables.dml(c, false)],
            3 => vec![self.partitions.dml(c)],
            4..6 => vec![self.objects.dml(c)],
            6 => vec![shared::dml(c)],
            _ => {
                let mut actions = vec![sql("BEGIN")];
                for _ in 0..2 + c.random.below(4) {
                    actions.push(self.tables.dml(c, true));
                }
                let end = if c.random.below(6) == 0 { "ROLLBACK" } else { "COMMIT" };
                actions.push(sql(end));
                actions
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64, worker: u64) -> Vec<Vec<Action>> {
        let mut planner = Planner::new(seed, worker, Series::V11_8, "/elsewhere");
        let mut all = vec![planner.set_up()];
        all.extend((0..2000).map(|_| planner.next_step().actions));
        all
    }

    #[test]
    fn seed_and_worker_decide_all_statements() {
        assert_eq!(steps(7, 1), steps(7, 1));
        assert_ne!(steps(7, 1), steps(8, 1));
        assert_ne!(steps(7, 1), steps(7, 2));
    }

    #[test]
    fn every_kind_comes_in_every_round() {
        let mut planner = Planner::new(1, 0, Series::V11_8, "/elsewhere");
        planner.set_up();
        let ddl = std::iter::from_fn(|| Some(planner.next_step().kind));
        let mut round: Vec<_> =
            ddl.filter(|kind| *kind != Kind::Dml).take(Kind::DDL.len()).collect();
        round.sort();
        assert_eq!(round, Kind::DDL);
    }

    #[test]
    fn number_of_tables_stays_in_bounds() {
        let mut planner = Planner::new(3, 0, Series::V11_8, "/elsewhere");
        planner.set_up();
        for _ in 0..20_000 {
            planner.next_step();
            let count = planner.tables().len();
            assert!((40..150).contains(&count), "{count}");
        }
    }
}
