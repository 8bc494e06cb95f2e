//! Partitioned tables of each engine: by range, by list and by hash.

use super::kind::Kind;
use super::step::{Action, Context, sql};
use super::tables::{change, create, fill};

const ENGINES: [&str; 3] = ["ENGINE=InnoDB", "ENGINE=Aria", "ENGINE=MyISAM"];

/// Bounds are below this; the rows of tables to exchange are above.
const FIRST_EXCHANGED: u64 = 5_000_000;
/// Numbers of the partitions of a list.
const LIST: u64 = 4;

/// By range: partitions up to some bounds, and `pmax`.
#[derive(Debug)]
struct Range {
    name: String,
    /// Partition and its bound, ascending.
    parts: Vec<(String, u64)>,
}

/// By list: `p0` to `p3`, each of which may be away as a table of its own.
#[derive(Debug)]
struct List {
    name: String,
    here: Vec<u64>,
    /// Number and table.
    away: Vec<(u64, String)>,
}

#[derive(Debug)]
struct Hash {
    name: String,
    /// `None`: not partitioned now.
    parts: Option<u64>,
}

/// The partitioned tables of one worker.
#[derive(Debug, Default)]
pub struct Partitions {
    ranges: Vec<Range>,
    lists: Vec<List>,
    hashes: Vec<Hash>,
}

impl Partitions {
    /// Creates the tables.
    pub fn set_up(&mut self, c: &mut Context) -> Vec<Action> {
        let mut actions = Vec::new();
        for engine in ENGINES {
            let mut add = |c: &Context, name: &str, partitions: &str| {
                let path = c.own(name);
                actions.push(sql(format!("{} {engine} {partitions}", create(&path))));
                path
            };
            let range = c.plain("range");
            let path = add(
                c,
                &range,
                "PARTITION BY RANGE (id) (PARTITION pa VALUES LESS THAN (500), \
                 PARTITION pb VALUES LESS THAN (1000), PARTITION pc VALUES LESS THAN (1500), \
                 PARTITION pmax VALUES LESS THAN MAXVALUE)",
            );
            let list = c.plain("list");
            let list_path = add(
                c,
                &list,
                "PARTITION BY LIST (id MOD 4) (PARTITION p0 VALUES IN (0), \
                 PARTITION p1 VALUES IN (1), PARTITION p2 VALUES IN (2), \
                 PARTITION p3 VALUES IN (3))",
            );
            let hash = c.plain("hash");
            let hash_path = add(c, &hash, "PARTITION BY HASH (id) PARTITIONS 3");
            for path in [&path, &list_path, &hash_path] {
                actions.push(fill(c, path, 0, 40));
            }
            let exchanged = c.own(&exchanged(&range));
            actions.push(sql(format!("CREATE TABLE {exchanged} LIKE {path}")));
            actions.push(sql(format!("ALTER TABLE {exchanged} REMOVE PARTITIONING")));
            actions.push(fill(c, &exchanged, FIRST_EXCHANGED, 20));
            let bounds = [("pa", 500), ("pb", 1000), ("pc", 1500)];
            let parts = bounds.map(|(name, bound)| (name.to_owned(), bound)).to_vec();
            self.ranges.push(Range { name: range, parts });
            self.lists.push(List { name: list, here: (0..LIST).collect(), away: Vec::new() });
            self.hashes.push(Hash { name: hash, parts: Some(3) });
        }
        actions
    }

    /// The names of all tables.
    pub fn names(&self, c: &Context) -> Vec<String> {
        let ranges = self.ranges.iter().flat_map(|t| [t.name.clone(), exchanged(&t.name)]);
        let away = self.lists.iter().flat_map(|t| t.away.iter().map(|(_, name)| name.clone()));
        let others = self.lists.iter().map(|t| t.name.clone());
        let others = others.chain(self.hashes.iter().map(|t| t.name.clone()));
        ranges.chain(away).chain(others).map(|name| c.own(&name)).collect()
    }

    /// A statement on the rows of one table.
    pub fn dml(&mut self, c: &mut Context) -> Action {
        let names: Vec<&String> = self
            .ranges
            .iter()
            .map(|t| &t.name)
            .chain(self.lists.iter().map(|t| &t.name))
            .chain(self.hashes.iter().map(|t| &t.name))
            .collect();
        let name = c.random.pick(&names).as_str();
        let path = c.own(name);
        change(c, &path)
    }

    /// A step of a kind that is about partitions.
    pub fn step(&mut self, kind: Kind, c: &mut Context) -> Vec<Action> {
        let engine = c.index(ENGINES.len());
        let mut actions = Vec::new();
        let path = match kind {
            Kind::PartitionAdd | Kind::PartitionConvertOut | Kind::PartitionConvertIn => {
                self.lists.get_mut(engine).map(|list| list.step(kind, c, &mut actions))
            }
            Kind::PartitionAddHash
            | Kind::PartitionCoalesce
            | Kind::PartitionRemove
            | Kind::PartitionBy => {
                self.hashes.get_mut(engine).map(|hash| hash.step(kind, c, &mut actions))
            }
            _ => self.ranges.get_mut(engine).map(|range| range.step(kind, c, &mut actions)),
        };
        if let Some(path) = path {
            actions.push(change(c, &path));
        }
        actions
    }
}

fn exchanged(name: &str) -> String {
    format!("{name}_exchanged")
}

impl Range {
    fn step(&mut self, kind: Kind, c: &mut Context, actions: &mut Vec<Action>) -> String {
        let path = c.own(&self.name);
        let mut alter = |change: String| actions.push(sql(format!("ALTER TABLE {path} {change}")));
        match kind {
            Kind::PartitionReorganise if self.parts.len() > 4 => {
                let place = c.index(self.parts.len() - 1);
                let new = c.plain("p");
                let (first, _) = self.parts.remove(place);
                if let Some((second, bound)) = self.parts.get_mut(place) {
                    alter(format!(
                        "REORGANIZE PARTITION {first}, {second} INTO \
                         (PARTITION {new} VALUES LESS THAN ({bound}))"
                    ));
                    *second = new;
                }
            }
            Kind::PartitionReorganise => alter(self.split(c)),
            Kind::PartitionDrop => {
                if self.parts.len() < 3 {
                    alter(self.split(c));
                }
                let place = c.index(self.parts.len());
                let (name, _) = self.parts.remove(place);
                alter(format!("DROP PARTITION {name}"));
            }
            Kind::PartitionTruncate => {
                let (name, _) = c.random.pick(&self.parts).clone();
                alter(format!("TRUNCATE PARTITION {name}"));
            }
            Kind::PartitionRebuild => {
                let (name, _) = c.random.pick(&self.parts).clone();
                let verb = *c.random.pick(&["REBUILD", "OPTIMIZE"]);
                alter(format!("{verb} PARTITION {name}"));
            }
            Kind::PartitionExchange => {
                let table = c.own(&exchanged(&self.name));
                alter(format!("EXCHANGE PARTITION pmax WITH TABLE {table}"));
                actions.push(fill(c, &table, FIRST_EXCHANGED, 5));
            }
            _ => unreachable!("{kind} is not about ranges"),
        }
        path
    }

    /// Divides a partition in two.
    fn split(&mut self, c: &mut Context) -> String {
        let new = [c.plain("p"), c.plain("p")];
        // The first one that is wide enough; the bounds are far enough from each other for that.
        let mut low = 0;
        for place in 0..self.parts.len() {
            let Some((name, high)) = self.parts.get(place).cloned() else { break };
            if high - low > 3 {
                let middle = low + 1 + c.random.below(high - low - 2);
                let [first, second] = new;
                self.parts.splice(place..=place, [(first.clone(), middle), (second.clone(), high)]);
                return format!(
                    "REORGANIZE PARTITION {name} INTO (PARTITION {first} VALUES LESS THAN \
                     ({middle}), PARTITION {second} VALUES LESS THAN ({high}))"
                );
            }
            low = high;
        }
        let [name, _] = new;
        let bound = low + 1000;
        self.parts.push((name.clone(), bound));
        format!(
            "REORGANIZE PARTITION pmax INTO (PARTITION {name} VALUES LESS THAN ({bound}), \
             PARTITION pmax VALUES LESS THAN MAXVALUE)"
        )
    }
}

impl List {
    fn step(&mut self, kind: Kind, c: &mut Context, actions: &mut Vec<Action>) -> String {
        let path = c.own(&self.name);
        let out = |list: &mut Self, c: &mut Context, actions: &mut Vec<Action>| {
            if let Some(number) = c.take(&mut list.here) {
                let table = c.plain("out");
                let to = c.own(&table);
                actions.push(sql(format!(
                    "ALTER TABLE {path} CONVERT PARTITION p{number} TO TABLE {to}"
                )));
                list.away.push((number, table));
            }
        };
        let back = |list: &mut Self, c: &mut Context, actions: &mut Vec<Action>| {
            if let Some((number, table)) = c.take(&mut list.away) {
                let from = c.own(&table);
                actions.push(sql(format!(
                    "ALTER TABLE {path} CONVERT TABLE {from} TO PARTITION p{number} \
                     VALUES IN ({number})"
                )));
                list.here.push(number);
            }
        };
        match kind {
            Kind::PartitionConvertOut => {
                while self.here.len() < 2 {
                    back(self, c, actions);
                }
                out(self, c, actions);
            }
            Kind::PartitionConvertIn => {
                if self.away.is_empty() {
                    out(self, c, actions);
                }
                back(self, c, actions);
            }
            _ => {
                while self.here.len() < 2 {
                    back(self, c, actions);
                }
                if let Some(number) = c.take(&mut self.here) {
                    actions.push(sql(format!("ALTER TABLE {path} DROP PARTITION p{number}")));
                    actions.push(sql(format!(
                        "ALTER TABLE {path} ADD PARTITION (PARTITION p{number} \
                         VALUES IN ({number}))"
                    )));
                    self.here.push(number);
                }
            }
        }
        path
    }
}

impl Hash {
    fn step(&mut self, kind: Kind, c: &mut Context, actions: &mut Vec<Action>) -> String {
        const MOST: u64 = 5;
        let path = c.own(&self.name);
        let mut alter = |change: &str| actions.push(sql(format!("ALTER TABLE {path} {change}")));
        let by = "PARTITION BY HASH (id) PARTITIONS 3";
        let wanted = kind != Kind::PartitionBy;
        match self.parts {
            None if wanted => {
                alter(by);
                self.parts = Some(3);
            }
            Some(_) if !wanted => {
                alter("REMOVE PARTITIONING");
                self.parts = None;
            }
            _ => {}
        }
        let parts = self.parts.unwrap_or(0);
        self.parts = match kind {
            Kind::PartitionRemove => {
                alter("REMOVE PARTITIONING");
                None
            }
            Kind::PartitionBy => {
                alter(by);
                Some(3)
            }
            Kind::PartitionAddHash => {
                if parts >= MOST {
                    alter("COALESCE PARTITION 2");
                }
                alter("ADD PARTITION PARTITIONS 1");
                Some(if parts >= MOST { parts - 1 } else { parts + 1 })
            }
            _ => {
                if parts < 2 {
                    alter("ADD PARTITION PARTITIONS 1");
                }
                alter("COALESCE PARTITION 1");
                Some(if parts < 2 { parts } else { parts - 1 })
            }
        };
        path
    }
}
