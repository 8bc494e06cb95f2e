//! Tables that all workers write to and change the shape of. Any statement may find the tables
//! otherwise than it expects.

use crate::random::Random;

use super::step::{Action, Context, quoted, sql};
use super::tables::{change, create, fill};

const SCHEMA: &str = "shared";
const NAMES: [&str; 4] = ["s0", "s1", "s2", "s3"];

/// Creates the tables.
pub fn set_up(c: &mut Context) -> Vec<Action> {
    let mut actions = vec![sql(format!("CREATE DATABASE {SCHEMA}"))];
    for name in NAMES {
        let path = quoted(SCHEMA, name);
        actions.push(sql(create(&path)));
        actions.push(fill(c, &path, 0, 50));
    }
    actions
}

/// The names of the tables.
pub fn names() -> Vec<String> {
    NAMES.into_iter().map(|name| quoted(SCHEMA, name)).collect()
}

/// A change of some rows.
pub fn dml(c: &mut Context) -> Action {
    let path = pick(&mut c.random);
    change(c, &path)
}

/// A change of a table's shape.
pub fn ddl(c: &mut Context) -> Vec<Action> {
    let path = pick(&mut c.random);
    let ddl = match c.random.below(9) {
        0 => format!("ALTER TABLE {path} ADD COLUMN IF NOT EXISTS x INT NOT NULL DEFAULT 5"),
        1 => format!("ALTER TABLE {path} DROP COLUMN IF EXISTS x"),
        2 => format!("ALTER TABLE {path} ADD KEY IF NOT EXISTS extra (c(40))"),
        3 => format!("ALTER TABLE {path} DROP KEY IF EXISTS extra"),
        4 => format!("TRUNCATE TABLE {path}"),
        5 => format!("ALTER TABLE {path} FORCE"),
        6 => format!("ALTER TABLE {path} ENGINE={}", *c.random.pick(&["InnoDB", "Aria"])),
        7 => create(&path).replacen("CREATE", "CREATE OR REPLACE", 1),
        _ => {
            let other = pick(&mut c.random);
            let between = quoted(SCHEMA, "between");
            if other == path {
                format!("OPTIMIZE TABLE {path}")
            } else {
                format!("RENAME TABLE {path} TO {between}, {other} TO {path}, {between} TO {other}")
            }
        }
    };
    vec![Action::Contended(ddl), change(c, &path)]
}

fn pick(random: &mut Random) -> String {
    quoted(SCHEMA, random.pick::<&str>(&NAMES))
}
