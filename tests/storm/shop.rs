//! The application of the storm: its tables, what it caches, and what the database says a key should hold.

/// Values that have a meaning somewhere on the way: in globs, SQL, logs, the protocol.
const HOSTILE: [&str; 10] =
    ["*", "[1]", "1", "\\", "a?c", "abc", "\u{1f600}\u{1f469}\u{200d}\u{1f4bb}", "line\r\nbreak", "'{x}'", "^-]"];

/// What the second delete waits; a filler must be done within [`LONGEST_FILL`], which is less.
pub(crate) const REPEAT_AFTER: &str = "500ms";
/// A fill that began longer ago is not stored, or taken back (`fillers.rs`): plain SETs are bounded by `repeat_after` alone.
pub(crate) const LONGEST_FILL: std::time::Duration = std::time::Duration::from_millis(450);

/// So many that most keys are not written again soon: a later eviction would hide what went wrong with an earlier one.
pub(crate) const ITEMS: u32 = 800;
pub(crate) const PARTS: u32 = 300;
pub(crate) const CHILDREN: u32 = 300;
pub(crate) const OWNERS: u32 = 40;
pub(crate) const BUCKETS: u32 = 20;
pub(crate) const DOCS: u32 = 300;
/// Rows of a table that no writer touches: it is built anew and swapped in.
pub(crate) const DAILY: u32 = 50;

pub(crate) const SCHEMA: &str = "
CREATE SEQUENCE versions;
CREATE TABLE items (id int PRIMARY KEY, grp text NOT NULL, name text NOT NULL, v bigint NOT NULL DEFAULT nextval('versions'), tag bigint NOT NULL DEFAULT 0);
CREATE TABLE part (id int, k int NOT NULL, v bigint NOT NULL DEFAULT nextval('versions'), tag bigint NOT NULL DEFAULT 0, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
CREATE TABLE part_a PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_b PARTITION OF part FOR VALUES FROM (100) TO (200);
CREATE TABLE part_c PARTITION OF part FOR VALUES FROM (200) TO (300);
CREATE TABLE owners (id int PRIMARY KEY, team text NOT NULL);
CREATE TABLE children (id int PRIMARY KEY, owner_id int NOT NULL REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE,
  v bigint NOT NULL DEFAULT nextval('versions'), tag bigint NOT NULL DEFAULT 0);
CREATE TABLE bulk (id int PRIMARY KEY, bucket int NOT NULL, v bigint NOT NULL DEFAULT 1);
CREATE TABLE docs (id int PRIMARY KEY, shelf text NOT NULL, at timestamptz NOT NULL, v bigint NOT NULL DEFAULT nextval('versions'), tag bigint NOT NULL DEFAULT 0);
CREATE TABLE held (id int PRIMARY KEY, owner text NOT NULL, v bigint NOT NULL DEFAULT nextval('versions'));
CREATE TABLE daily (id int PRIMARY KEY, v bigint NOT NULL DEFAULT nextval('versions'), tag bigint NOT NULL DEFAULT 0);
CREATE TABLE marks (id int PRIMARY KEY);
CREATE INDEX ON items (grp);
CREATE INDEX ON items (name);
";

/// `owner` is what the column of `held` is called now.
pub(crate) fn config(owner: &str) -> String {
    format!(
        r#"
[limits]
never_delete = ["canary:never:*"]
[warm]
max_per_second = 500

[cache.item]
key = "item:{{id}}"
repeat_after = "{REPEAT_AFTER}"
[cache.exact]
key = "exact:{{id}}"
[cache.guard]
key = "guard:{{id}}"
guard_fills = true
ttl = "1h"
warm.sql = "SELECT v || '.' || tag FROM items WHERE id = :id"
warm.format = "text"
warm.always = true
[cache.ring]
pattern = "ring:{{grp}}:*"
guard_fills = true
[cache.list]
pattern = "list:{{grp}}:*"
repeat_after = "{REPEAT_AFTER}"
[cache.named]
key = "named:{{name}}"
repeat_after = "{REPEAT_AFTER}"
[cache.part]
key = "part:{{id}}"
repeat_after = "{REPEAT_AFTER}"
[cache.child]
key = "child:{{id}}"
repeat_after = "{REPEAT_AFTER}"
[cache.team]
key = "team:{{team}}"
repeat_after = "{REPEAT_AFTER}"
[cache.bulk]
key = "bulk:{{bucket}}"
repeat_after = "{REPEAT_AFTER}"
[cache.shelf]
pattern = "shelf:{{shelf}}:*"
[cache.at]
key = "at:{{at}}"
repeat_after = "{REPEAT_AFTER}"
[cache.held]
key = "held:{{owner}}"
repeat_after = "{REPEAT_AFTER}"
[cache.daily]
key = "daily:{{id}}"
repeat_after = "{REPEAT_AFTER}"
[cache.mark]
key = "mark:{{id}}"
repeat_after = "{REPEAT_AFTER}"
[cache.probe]
key = "probe:{{id}}"

[table.items]
evict = ["item", "exact", "guard", "ring", "list", "named"]
[table.part]
evict = ["part"]
[table.children]
debounce = "100ms"
evict = ["child", "team"]
lookup.team = {{ follow = "owner_id", to = "owners", take = "team" }}
[table.bulk]
evict = ["bulk"]
[table.docs]
evict = ["shelf", "at"]
[table.held]
evict = [{{ cache = "held", with = {{ owner = "{owner}" }} }}]
[table.daily]
evict = ["daily"]
[table.marks]
evict = ["mark", "probe"]
"#
    )
}

/// Keys outside every rule. Whatever the data says, they stay.
pub(crate) const CANARIES: [&str; 8] =
    ["canary", "canary:never:1", "item", "items:1", "xlist:*:a", "list", "listing:1:a", "lock:item:1"];

/// What a key is made of; decides how it is asked and filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Item,
    Exact,
    Guard,
    Ring,
    List,
    Named,
    Part,
    Child,
    Team,
    Bulk,
    Shelf,
    At,
    Held,
    Daily,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) family: Family,
    arg: String,
}

/// Groups, names, teams and shelves: ordinary ones, hostile ones and a long one.
pub(crate) fn words() -> Vec<String> {
    let ordinary = (0..60).map(|n| format!("w{n}"));
    ordinary.chain(HOSTILE.map(str::to_owned)).chain([format!("long{}", "x".repeat(10_000))]).collect()
}

/// The instants of `docs.at`, as pgevict writes them in a key: UTC, ISO, no zeros at the end.
pub(crate) fn instants() -> Vec<String> {
    (1..=8).map(|n| format!("2026-03-29 0{n}:30:00.12345{n}+00")).collect()
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Key {
    fn new(family: Family, arg: impl ToString, suffix: &str) -> Self {
        let arg = arg.to_string();
        let first = format!("{family:?}").to_lowercase();
        Self { name: format!("{first}:{arg}{suffix}"), family, arg }
    }

    /// The table and id whose `v` the value begins with; None for keys of several rows.
    pub(crate) fn row(&self) -> Option<(&'static str, i64)> {
        let table = match self.family {
            Family::Item | Family::Exact | Family::Guard => "items",
            Family::Part => "part",
            Family::Child => "children",
            _ => return None,
        };
        Some((table, self.arg.parse().ok()?))
    }

    /// Whether a filler may store it only while it holds the rows: the cache has no second delete.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.family, Family::Exact | Family::Shelf)
    }

    /// For a cache that guards its fills: its name and the rendered template, as the fill script wants them.
    pub(crate) fn guard(&self) -> Option<(&'static str, String)> {
        match self.family {
            Family::Guard => Some(("guard", String::new())),
            Family::Ring => {
                let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\');
                let escape = |c: char| if special(c) { vec!['\\', c] } else { vec![c] };
                Some(("ring", format!("ring:{}:*", self.arg.chars().flat_map(escape).collect::<String>())))
            }
            _ => None,
        }
    }

    /// The expression that says what the key should hold.
    pub(crate) fn question(&self) -> String {
        let of = |table: &str, condition: String| {
            format!("SELECT string_agg(id || '=' || v || '.' || tag, ' ' ORDER BY id) FROM {table} WHERE {condition}")
        };
        let arg = literal(&self.arg);
        match self.family {
            Family::Item | Family::Exact | Family::Guard => {
                format!("SELECT v || '.' || tag FROM items WHERE id = {}", self.arg)
            }
            Family::Part => format!("SELECT v || '.' || tag FROM part WHERE id = {} ORDER BY v DESC LIMIT 1", self.arg),
            Family::Child => format!("SELECT v || '.' || tag FROM children WHERE id = {}", self.arg),
            Family::Daily => format!("SELECT v || '.' || tag FROM daily WHERE id = {}", self.arg),
            Family::List | Family::Ring => of("items", format!("grp = {arg}")),
            Family::Named => of("items", format!("name = {arg}")),
            Family::Team => of("children", format!("owner_id IN (SELECT id FROM owners WHERE team = {arg})")),
            Family::Bulk => format!("SELECT count(*) || ' ' || sum(v) FROM bulk WHERE bucket = {}", self.arg),
            Family::Shelf => of("docs", format!("shelf = {arg}")),
            Family::At => of("docs", format!("at = {arg}::timestamptz")),
            // The column is renamed during the storm.
            Family::Held => format!(
                "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM held h \
                 WHERE coalesce(to_jsonb(h) ->> 'owner', to_jsonb(h) ->> 'holder') = {arg}"
            ),
        }
    }
}

/// Every key the application can ask for.
pub(crate) fn keys() -> Vec<Key> {
    let mut all = Vec::new();
    for id in 1..=ITEMS {
        all.extend([Family::Item, Family::Exact, Family::Guard].map(|family| Key::new(family, id, "")));
    }
    all.extend((1..=PARTS).map(|id| Key::new(Family::Part, id, "")));
    all.extend((1..=CHILDREN).map(|id| Key::new(Family::Child, id, "")));
    all.extend((1..=DAILY).map(|id| Key::new(Family::Daily, id, "")));
    all.extend((0..BUCKETS).map(|n| Key::new(Family::Bulk, n, "")));
    all.extend(instants().into_iter().map(|at| Key::new(Family::At, at, "")));
    for word in words() {
        for family in [Family::Named, Family::Team, Family::Held] {
            all.push(Key::new(family, &word, ""));
        }
        for family in [Family::List, Family::Shelf, Family::Ring] {
            all.extend([":a", ":b"].map(|suffix| Key::new(family, &word, suffix)));
        }
    }
    all
}

/// The rows to begin with.
pub(crate) fn rows() -> String {
    let array = |all: &[String]| format!("ARRAY[{}]", all.iter().map(|w| literal(w)).collect::<Vec<_>>().join(", "));
    let (words, instants, count) = (array(&words()), array(&instants()), words().len());
    format!(
        "CREATE FUNCTION word(n int) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT ({words})[1 + n % {count}] $$;
         CREATE FUNCTION instant(n int) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS $$ SELECT ({instants})[1 + n % 8]::timestamptz $$;
         INSERT INTO items SELECT n, word(n), word(n / {count}) FROM generate_series(1, {ITEMS}) n;
         INSERT INTO part SELECT n, n % 300 FROM generate_series(1, {PARTS}) n;
         INSERT INTO owners SELECT n, word(n) FROM generate_series(1, {OWNERS}) n;
         INSERT INTO children SELECT n, 1 + n % {OWNERS} FROM generate_series(1, {CHILDREN}) n;
         INSERT INTO bulk SELECT n, n % {BUCKETS} FROM generate_series(1, 2000) n;
         INSERT INTO docs SELECT n, word(n), instant(n) FROM generate_series(1, {DOCS}) n;
         INSERT INTO held SELECT n, word(n) FROM generate_series(1, 200) n;
         INSERT INTO daily SELECT n FROM generate_series(1, {DAILY}) n;"
    )
}
