//! The kinds of DDL on `InnoDB` tables, for [`check`](crate::ddl::check).

use crate::ddl::{Kind, Moments, Reference};

/// A table, and rows for it.
const T: &str =
    "CREATE TABLE {t} (id INT PRIMARY KEY, k INT, v VARCHAR(250), KEY (k)) ENGINE=InnoDB";
const T_ROWS: &str =
    "INSERT INTO {t} SELECT seq, seq % 100, REPEAT(MD5(seq), 6) FROM test.seq_1_to_{rows}";
/// A few other rows, as a sign of what a file went through.
const T_MORE: &str = "INSERT INTO {t} (id, k, v) VALUES (-1, 1, 'later'), (-2, 2, 'later still')";
/// A second table.
const B: &str = "CREATE TABLE {b} ENGINE=InnoDB SELECT seq b FROM test.seq_1_to_77";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident { $($fields:tt)* })*) => {
        $($(#[$doc])* pub const $name: Kind =
            Kind { name: stringify!($name), $($fields)*, ..Kind::NONE };)*
    };
}

kinds! {
    /// New tables.
    CREATE {
        before: &[T, T_ROWS],
        then: &[
            "CREATE TABLE {new} LIKE {t}",
            "INSERT INTO {new} SELECT * FROM {t} LIMIT 150",
            "CREATE TABLE {empty} (id INT PRIMARY KEY) ENGINE=InnoDB ROW_FORMAT=REDUNDANT",
        ]
    }

    /// Tables filled by the statement that creates them.
    CREATE_SELECT {
        before: &[T, T_ROWS],
        then: &["CREATE TABLE {new} (PRIMARY KEY (id)) ENGINE=InnoDB SELECT * FROM {t}"]
    }

    /// Rows into an empty table without an undo record for each.
    BULK_INSERT {
        before: &[T, T_ROWS, "CREATE TABLE {bulk} LIKE {t}"],
        then: &[
            "SET unique_checks=0, foreign_key_checks=0",
            "INSERT INTO {bulk} SELECT * FROM {t}",
            "BEGIN",
            "DELETE FROM {bulk} WHERE id % 3 = 0",
            "COMMIT",
        ],
        file: ("bulk", ""),
        moments: Moments::OfRows
    }

    /// Tables that are gone.
    DROP {
        before: &[T, T_ROWS, B],
        then: &["DROP TABLE {t}, {b}"]
    }

    /// Tables of an old name.
    DROP_AND_CREATE {
        before: &[T, T_ROWS],
        then: &["DROP TABLE {t}", T, T_MORE]
    }

    /// Tables replaced by a statement.
    CREATE_OR_REPLACE {
        before: &[T, T_ROWS],
        then: &["CREATE OR REPLACE TABLE {t} ENGINE=InnoDB SELECT seq, 'new' FROM test.seq_1_to_9"]
    }

    /// New names.
    RENAME {
        before: &[T, T_ROWS],
        then: &["RENAME TABLE {t} TO {renamed}", "INSERT INTO {renamed} VALUES (-1, 1, 'later')"]
    }

    /// New databases.
    RENAME_ACROSS {
        before: &[T, T_ROWS],
        then: &["RENAME TABLE {t} TO {>t}", "INSERT INTO {>t} VALUES (-1, 1, 'later')"]
    }

    /// A table takes another one's name, and a new one takes that table's.
    RENAME_CHAIN {
        before: &[T, T_ROWS, B],
        then: &["RENAME TABLE {b} TO {c}, {t} TO {b}", T, T_MORE, "INSERT INTO {c} VALUES (99)"]
    }

    /// Tables that change names among each other, of different databases too.
    RENAME_CIRCLE {
        before: &[T, T_ROWS, B, "CREATE TABLE {>c} ENGINE=InnoDB SELECT seq c FROM test.seq_1_to_9"],
        then: &[
            "RENAME TABLE {t} TO {x}, {b} TO {t}, {x} TO {b}",
            "RENAME TABLE {b} TO {x}, {>c} TO {b}, {x} TO {>c}",
            "INSERT INTO {t} VALUES (99)",
            "INSERT INTO {b} VALUES (99)",
        ]
    }

    /// Tables that leave and come back.
    RENAME_BACK {
        before: &[T, T_ROWS],
        then: &["RENAME TABLE {t} TO {x}", "RENAME TABLE {x} TO {t}", T_MORE]
    }

    /// New tables whose page 0 may not be written when they get their name.
    CREATE_AND_RENAME {
        before: &[T, T_ROWS],
        then: &[
            "CREATE TABLE {new} LIKE {t}",
            "RENAME TABLE {new} TO {x}",
            "INSERT INTO {x} SELECT * FROM {t} LIMIT 50",
            "RENAME TABLE {x} TO {>x}",
            "CREATE TABLE {new} LIKE {t}",
        ]
    }

    /// A new table takes the place of one that is dropped, as tools for online changes do it.
    SWAP {
        before: &[T, T_ROWS],
        then: &[
            "CREATE TABLE {new} LIKE {t}",
            "INSERT INTO {new} SELECT * FROM {t} WHERE id % 2 = 0",
            "RENAME TABLE {t} TO {old}, {new} TO {t}",
            "DROP TABLE {old}",
        ]
    }

    /// Tables with foreign keys, of which the parent is renamed.
    FOREIGN_KEY {
        before: &[
            T,
            T_ROWS,
            "CREATE TABLE {child} (id INT PRIMARY KEY, p INT, CONSTRAINT FOREIGN KEY (p) \
             REFERENCES {t} (id) ON DELETE CASCADE) ENGINE=InnoDB",
            "INSERT INTO {child} SELECT id, id FROM {t} WHERE id < 100",
        ],
        then: &[
            "RENAME TABLE {t} TO {parent}",
            "ALTER TABLE {child} ADD n INT DEFAULT 5, ALGORITHM=COPY",
            "DELETE FROM {parent} WHERE id = 7",
        ]
    }

    /// Emptied tables.
    TRUNCATE {
        before: &[T, T_ROWS, B],
        then: &["TRUNCATE TABLE {t}", T_MORE, "TRUNCATE TABLE {b}", "RENAME TABLE {b} TO {c}"]
    }

    /// Tables that are copied to change.
    ALTER_COPY {
        before: &[T, T_ROWS],
        then: &["ALTER TABLE {t} ADD n INT DEFAULT 7, ALGORITHM=COPY", T_MORE]
    }

    /// Tables that are rebuilt in place.
    ALTER_REBUILD {
        before: &[T, T_ROWS],
        then: &[
            "ALTER TABLE {t} DROP PRIMARY KEY, ADD PRIMARY KEY (id, k), ALGORITHM=INPLACE",
            T_MORE,
        ]
    }

    /// Tables that are rebuilt and get another name at once.
    ALTER_RENAME {
        before: &[T, T_ROWS],
        then: &[
            "ALTER TABLE {t} ADD n INT DEFAULT 7, RENAME TO {>x}, ALGORITHM=COPY",
            "INSERT INTO {>x} VALUES (-1, 1, 'later', 8)",
        ]
    }

    /// Columns that come and go without a change of rows.
    ALTER_INSTANT {
        before: &[T, T_ROWS],
        then: &[
            "ALTER TABLE {t} ADD n INT NOT NULL DEFAULT 7 FIRST, ALGORITHM=INSTANT",
            T_MORE,
            "ALTER TABLE {t} DROP COLUMN v, ALGORITHM=INSTANT",
        ]
    }

    /// Indexes that come and go in place.
    INDEX {
        before: &[T, T_ROWS],
        then: &[
            "ALTER TABLE {t} ADD INDEX (v), DROP INDEX k, ALGORITHM=INPLACE",
            T_MORE,
        ]
    }

    /// Tables rebuilt as they are.
    OPTIMIZE {
        before: &[T, T_ROWS, B],
        then: &["OPTIMIZE TABLE {t}", T_MORE, "ALTER TABLE {b} FORCE"]
    }

    /// Files much smaller after a rebuild than before.
    SHRINK {
        before: &[T, T_ROWS],
        then: &["DELETE FROM {t} WHERE id > 10", "ALTER TABLE {t} FORCE", T_MORE]
    }

    /// Files that grow by much.
    GROW {
        before: &[T, T_ROWS],
        then: &[
            "INSERT INTO {t} SELECT seq, seq, REPEAT(MD5(-seq), 7) FROM test.seq_100000_to_120000",
        ],
        moments: Moments::OfRows
    }

    /// Full-text indexes that come, go and are rebuilt with their auxiliary tables.
    FULLTEXT {
        before: &[
            T,
            T_ROWS,
            "CREATE TABLE {f} (id INT PRIMARY KEY, v TEXT, FULLTEXT (v)) ENGINE=InnoDB",
            "INSERT INTO {f} VALUES (1, 'early bird'), (2, 'late worm')",
            "CREATE TABLE {g} LIKE {f}",
            "INSERT INTO {g} SELECT * FROM {f}",
            "CREATE TABLE {h} LIKE {f}",
            "INSERT INTO {h} SELECT * FROM {f}",
        ],
        then: &[
            "ALTER TABLE {t} ADD FULLTEXT (v)",
            T_MORE,
            "ALTER TABLE {f} DROP INDEX v",
            "ALTER TABLE {g} FORCE",
            "INSERT INTO {g} VALUES (3, 'early riser')",
            "DROP TABLE {h}",
            "CREATE TABLE {h} LIKE {g}",
            "INSERT INTO {h} VALUES (4, 'early')",
            "CREATE TABLE {i} LIKE {g}",
            "RENAME TABLE {g} TO {>g}",
        ],
        queries: &[
            "SELECT id FROM {t} WHERE MATCH (v) AGAINST ('later') ORDER BY id",
            "SELECT id FROM {>g} WHERE MATCH (v) AGAINST ('early') ORDER BY id",
            "SELECT id FROM {h} WHERE MATCH (v) AGAINST ('early') ORDER BY id",
        ]
    }

    /// New partitions.
    PARTITION_ADD {
        before: &[PARTS, PARTS_ROWS],
        then: &[
            "ALTER TABLE {t} ADD PARTITION (PARTITION p3 VALUES LESS THAN (400000))",
            "INSERT INTO {t} VALUES (300001, 'in the new one')",
        ],
        file: ("t", "#P#p0")
    }

    /// Partitions that are gone.
    PARTITION_DROP {
        before: &[PARTS, PARTS_ROWS],
        then: &["ALTER TABLE {t} DROP PARTITION p0"],
        file: ("t", "#P#p0")
    }

    /// Partitions divided and joined.
    PARTITION_REORGANIZE {
        before: &[PARTS, PARTS_ROWS],
        then: &[
            "ALTER TABLE {t} REORGANIZE PARTITION p0 INTO \
             (PARTITION a VALUES LESS THAN (100), PARTITION p0 VALUES LESS THAN (100000))",
            "ALTER TABLE {t} REORGANIZE PARTITION p1, p2 INTO \
             (PARTITION p1 VALUES LESS THAN (300000))",
            "ALTER TABLE {t} REBUILD PARTITION p0",
        ],
        file: ("t", "#P#p0")
    }

    /// Emptied partitions.
    PARTITION_TRUNCATE {
        before: &[PARTS, PARTS_ROWS],
        then: &["ALTER TABLE {t} TRUNCATE PARTITION p0", "INSERT INTO {t} VALUES (5, 'five')"],
        file: ("t", "#P#p0")
    }

    /// A partition and a table that change places.
    PARTITION_EXCHANGE {
        before: &[
            PARTS,
            PARTS_ROWS,
            "CREATE TABLE {x} (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB",
            "INSERT INTO {x} VALUES (17, 'exchanged'), (18, 'exchanged')",
        ],
        then: &[
            "ALTER TABLE {t} EXCHANGE PARTITION p0 WITH TABLE {x}",
            "INSERT INTO {t} VALUES (19, 'later')",
            "DELETE FROM {x} WHERE id = 3",
        ],
        file: ("t", "#P#p0")
    }

    /// Partitions by hash, and none any more.
    PARTITION_HASH {
        before: &[
            "CREATE TABLE {t} (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB \
             PARTITION BY HASH (id) PARTITIONS 2",
            PARTS_ROWS,
        ],
        then: &[
            "ALTER TABLE {t} COALESCE PARTITION 1",
            "ALTER TABLE {t} REMOVE PARTITIONING",
            "INSERT INTO {t} VALUES (0, 'zero')",
        ],
        file: ("t", "#P#p0")
    }

    /// Tables whose file is thrown away.
    DISCARD {
        before: &[T, T_ROWS],
        then: &["ALTER TABLE {t} DISCARD TABLESPACE"],
        // What is in such a table cannot be asked.
        after: &["DROP TABLE {t}"]
    }

    /// Files of one table that become another one's. The tablespace keeps its id, and of an id that
    /// was deleted once the reference applies no redo any more.
    IMPORT {
        before: &[T, T_ROWS, SAVE, "@save t", "UNLOCK TABLES", "CREATE TABLE {x} LIKE {t}"],
        then: &[
            "ALTER TABLE {x} DISCARD TABLESPACE",
            "@put t x",
            "ALTER TABLE {x} IMPORT TABLESPACE",
            "INSERT INTO {x} VALUES (-1, 1, 'later')",
        ],
        file: ("x", ""),
        moments: Moments::Unblocked,
        reference: Reference::Cannot
    }

    /// Files that are in place already, with the ids of other tablespaces, and change them while
    /// they are copied.
    IMPORT_IN_PLACE {
        before: &[
            T,
            T_ROWS,
            SAVE,
            "@save t",
            "UNLOCK TABLES",
            "CREATE TABLE {x} LIKE {t}",
            "ALTER TABLE {x} DISCARD TABLESPACE",
            "DROP TABLE {t}",
            "@put t x",
        ],
        then: &["ALTER TABLE {x} IMPORT TABLESPACE", "INSERT INTO {x} VALUES (-1, 1, 'later')"],
        file: ("x", ""),
        moments: Moments::Unblocked,
        reference: Reference::Cannot
    }

    /// A table's own file thrown away and taken back: the tablespace keeps its id.
    IMPORT_AGAIN {
        before: &[T, T_ROWS, SAVE, "@save t", "UNLOCK TABLES", "DELETE FROM {t} WHERE id < 50"],
        then: &[
            "ALTER TABLE {t} DISCARD TABLESPACE",
            "@put t t",
            "ALTER TABLE {t} IMPORT TABLESPACE",
            T_MORE,
        ],
        moments: Moments::Unblocked,
        reference: Reference::Cannot
    }

    /// Tables that become those of another engine.
    ENGINE_FROM {
        before: &[
            T,
            T_ROWS,
            B,
            "CREATE TABLE {r} ENGINE=InnoDB SELECT seq r FROM test.seq_1_to_88",
        ],
        then: &[
            // Rows of other engines cannot be changed from stage FLUSH on.
            "ALTER TABLE {t} ENGINE=MyISAM",
            "ALTER TABLE {b} ENGINE=Aria",
            "ALTER TABLE {r} ENGINE=InnoDB, ADD n INT DEFAULT 3",
            "INSERT INTO {r} VALUES (99, 4)",
        ]
    }

    /// Tables of other engines that become those of `InnoDB`.
    ENGINE_TO {
        before: &[
            T,
            T_ROWS,
            "CREATE TABLE {m} ENGINE=MyISAM SELECT seq m FROM test.seq_1_to_55",
            "CREATE TABLE {a} ENGINE=Aria SELECT seq a FROM test.seq_1_to_66",
            "CREATE TABLE {r} ENGINE=InnoDB SELECT seq r FROM test.seq_1_to_88",
        ],
        then: &[
            "ALTER TABLE {m} ENGINE=InnoDB",
            "ALTER TABLE {a} ENGINE=InnoDB",
            "INSERT INTO {a} VALUES (99)",
            "ALTER TABLE {r} ENGINE=Aria",
            "ALTER TABLE {r} ENGINE=InnoDB",
            "INSERT INTO {r} VALUES (99)",
        ],
        // From stage FLUSH on, such statements wait for the end.
        moments: Moments::WithoutLocks
    }

    /// New databases.
    DATABASE_CREATE {
        before: &[T, T_ROWS],
        then: &[
            "CREATE DATABASE {+empty}",
            "CREATE DATABASE {+full} CHARACTER SET latin1",
            "CREATE TABLE {+full}.t LIKE {t}",
            "INSERT INTO {+full}.t SELECT * FROM {t} LIMIT 30",
            "RENAME TABLE {t} TO {+full}.renamed",
        ]
    }

    /// Databases that are gone, or new by an old name.
    DATABASE_DROP {
        before: &[
            T,
            T_ROWS,
            "CREATE DATABASE {+d}",
            "CREATE TABLE {+d}.t LIKE {t}",
            "INSERT INTO {+d}.t SELECT * FROM {t} LIMIT 30",
            "CREATE DATABASE {+e}",
            "CREATE TABLE {+e}.t LIKE {t}",
            "CREATE TABLE {+e}.u LIKE {t}",
        ],
        then: &[
            "DROP DATABASE {+d}",
            "DROP DATABASE {+e}",
            "CREATE DATABASE {+e}",
            "CREATE TABLE {+e}.t LIKE {t}",
            "INSERT INTO {+e}.t SELECT * FROM {t} LIMIT 7",
        ]
    }

    /// Tables whose files lie elsewhere.
    DATA_DIRECTORY {
        before: &[
            T,
            T_ROWS,
            "CREATE TABLE {far} (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{dir}'",
            "INSERT INTO {far} SELECT seq FROM test.seq_1_to_{rows}",
            "CREATE TABLE {gone} LIKE {far}",
            "CREATE TABLE {moved} (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{dir}'",
            "INSERT INTO {moved} VALUES (4), (5)",
        ],
        then: &[
            "CREATE TABLE {new} (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{dir}'",
            "INSERT INTO {new} VALUES (1), (2)",
            "TRUNCATE TABLE {far}",
            "INSERT INTO {far} VALUES (3)",
            "DROP TABLE {gone}",
            // Renamed to another database, the server itself does not find it after a restart.
            "RENAME TABLE {moved} TO {x}",
            "INSERT INTO {x} VALUES (6)",
        ],
        file: ("far", "")
    }

    /// Sequences.
    SEQUENCE {
        before: &[
            T,
            T_ROWS,
            "CREATE SEQUENCE {s} ENGINE=InnoDB",
            "CREATE SEQUENCE {gone} ENGINE=InnoDB",
            "CREATE SEQUENCE {old} ENGINE=InnoDB",
        ],
        then: &[
            "CREATE SEQUENCE {new} START WITH 100 ENGINE=InnoDB",
            "DO NEXTVAL({new})",
            "ALTER SEQUENCE {s} INCREMENT BY 10",
            "DO NEXTVAL({s})",
            "DROP SEQUENCE {gone}",
            "RENAME TABLE {old} TO {renamed}",
            "DO SETVAL({renamed}, 500)",
        ],
        queries: &[
            "SELECT next_not_cached_value, start_value, increment FROM {new}",
            "SELECT next_not_cached_value, start_value, increment FROM {s}",
            "SELECT next_not_cached_value, start_value, increment FROM {renamed}",
        ]
    }

    /// Tables that keep former rows.
    SYSTEM_VERSIONED {
        before: &[
            "CREATE TABLE {t} (id INT PRIMARY KEY, k INT, v VARCHAR(250)) ENGINE=InnoDB \
             WITH SYSTEM VERSIONING",
            T_ROWS,
            "UPDATE {t} SET k = k + 1 WHERE id < 30",
        ],
        then: &[
            "CREATE TABLE {new} (id INT PRIMARY KEY) ENGINE=InnoDB WITH SYSTEM VERSIONING",
            "INSERT INTO {new} VALUES (1), (2)",
            "UPDATE {new} SET id = 3 WHERE id = 1",
            "ALTER TABLE {t} ADD n INT, ALGORITHM=COPY",
            "DELETE FROM {t} WHERE id < 10",
            "RENAME TABLE {new} TO {renamed}",
        ],
        queries: &[
            "SELECT id, k, n FROM {t} FOR SYSTEM_TIME ALL ORDER BY id, k",
            "SELECT id FROM {renamed} FOR SYSTEM_TIME ALL ORDER BY id",
        ]
    }

    /// Columns that are computed, with indexes.
    GENERATED {
        before: &[T, T_ROWS],
        then: &[
            "ALTER TABLE {t} ADD d INT AS (k * 2) VIRTUAL, ADD INDEX (d)",
            T_MORE,
            "ALTER TABLE {t} ADD e INT AS (k * 3) PERSISTENT, ADD UNIQUE INDEX (e, id)",
            "CREATE TABLE {new} LIKE {t}",
            "INSERT INTO {new} (id, k) VALUES (1, 2)",
        ],
        queries: &["SELECT COUNT(*) FROM {t} FORCE INDEX (d) WHERE d > 10"]
    }
}

const SAVE: &str = "FLUSH TABLES {t} FOR EXPORT";

const PARTS: &str = "CREATE TABLE {t} (id INT PRIMARY KEY, v VARCHAR(250)) ENGINE=InnoDB \
                     PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100000), \
                     PARTITION p1 VALUES LESS THAN (200000), PARTITION p2 VALUES LESS THAN (300000))";
const PARTS_ROWS: &str =
    "INSERT INTO {t} (id, v) SELECT seq, REPEAT(MD5(seq), 6) FROM test.seq_1_to_{rows}";
