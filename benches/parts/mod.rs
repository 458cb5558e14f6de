//! One file a question. A part returns its table; what it measures on ends with it.

mod backlog;
mod bulk;
mod bystander;
mod footprint;
mod latency;
mod loaded;
mod patterns;
mod scaling;
mod trigger;
mod warming;
mod writers;

use crate::report::Section;

pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Section,
}

pub(crate) const ALL: [Part; 11] = [
    Part { name: "writers", run: writers::run },
    Part { name: "trigger", run: trigger::run },
    Part { name: "bulk", run: bulk::run },
    Part { name: "latency", run: latency::run },
    Part { name: "loaded", run: loaded::run },
    Part { name: "backlog", run: backlog::run },
    Part { name: "patterns", run: patterns::run },
    Part { name: "bystander", run: bystander::run },
    Part { name: "footprint", run: footprint::run },
    Part { name: "warming", run: warming::run },
    Part { name: "scaling", run: scaling::run },
];

/// The table most parts write to: row 0 is nobody's, it marks the end of what was written.
const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, user_id int NOT NULL, status int NOT NULL, note text NOT NULL);
     INSERT INTO items SELECT g, g % 1000, 0, repeat('x', 60) FROM generate_series(0, 100000) g";

/// One statement of an application changes one row.
const ONE_ROW: &str = "\\set id random(1, 100000)\nUPDATE items SET status = status + 1 WHERE id = :id;\n";

/// One exact key a row.
const EXACT: &str = "[cache.item]\nkey = \"item:{id}\"\n[table.items]\ncolumns = [\"status\"]\nevict = [\"item\"]\n";
const MARK: &str = "item:0";
const MARKED: &str = "UPDATE items SET status = status + 1 WHERE id = 0";
