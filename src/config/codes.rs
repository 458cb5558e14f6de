//! The codes of all problems, each with its cause and remedy. `pgevict help PE101` prints them; `docs/errors.md` is
//! made of them.

use std::fmt;

/// A stable code: once published it keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

impl Code {
    /// `PE101`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What there is to say about a code.
#[derive(Debug)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// One line.
    pub title: &'static str,
    /// What happened.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Entry {
    /// The entry of `code`, in any case.
    #[must_use]
    pub fn of(code: &str) -> Option<&'static Self> {
        ALL.iter().find(|e| e.code.0.eq_ignore_ascii_case(code))
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $title:literal cause $cause:literal remedy $remedy:literal)*) => {
        $(#[doc = $title] pub const $name: Code = Code($code);)*
        /// Every code, ascending.
        pub const ALL: &[Entry] = &[$(Entry { code: $name, title: $title, cause: $cause, remedy: $remedy }),*];
    };
}

codes! {
NO_FILE "PE001" "The configuration file cannot be read."
    cause "No file was found at the places where pgevict looks, or the file named by `-c` or `PGEVICT_CONFIG` does not exist or may not be read."
    remedy "Name the file with `-c FILE`, or put it at `./config.toml` or `/etc/pgevict/config.toml`. Check that the user of the service may read it."
NOT_UTF8 "PE002" "The configuration file is not UTF-8."
    cause "TOML files are UTF-8 text; this one holds bytes that are not."
    remedy "Save the file as UTF-8."
SYNTAX "PE003" "The file is not TOML."
    cause "A bracket, quote or equals sign is missing or in the wrong place, or a setting or section is written twice."
    remedy "Mend the marked place. Texts stand in quotes; a section begins with `[name]` on a line of its own; every setting stands once."
UNKNOWN_VARIABLE "PE010" "An environment variable that begins with PGEVICT_ is no setting."
    cause "A mistyped variable would silently do nothing, so every variable with this prefix must name a setting: `PGEVICT_` + section + `__` + setting, in capitals; settings outside sections have no `__`."
    remedy "Mend the name, or unset the variable. Settings under `[cache]`, `[table]` and `[[test]]` cannot be overridden by variables."
VARIABLE_TWICE "PE011" "A setting is given by a variable and by its _FILE form."
    cause "`PGEVICT_X` and `PGEVICT_X_FILE` are both set, and nothing says which of them is meant."
    remedy "Unset one of the two."
VARIABLE_FILE "PE012" "The file that a variable names cannot be read."
    cause "A variable that ends in `_FILE` names a file that holds the value. The file does not exist, may not be read, or is not UTF-8."
    remedy "Mend the path or the permissions of the file."
CREDENTIAL "PE013" "A systemd credential cannot be read."
    cause "`$CREDENTIALS_DIRECTORY` holds `postgres.password` or `redis.password`, but reading it failed."
    remedy "Check `LoadCredential=` in the unit, and that the file is UTF-8 text."
PGPASS "PE014" "The password file is ignored."
    cause "`~/.pgpass` (or `passfile`, or `PGPASSFILE`) may be read by other users, or is not a plain file. libpq ignores such a file, and so does pgevict."
    remedy "`chmod 0600` the file."
UNKNOWN_SETTING "PE101" "There is no such setting."
    cause "The name is mistyped, or stands in the wrong section. Unknown settings are errors because a mistyped one would silently do nothing."
    remedy "Mend the name, move it to its section, or delete it. `docs/configuration.md` lists all settings."
WRONG_TYPE "PE102" "The value has the wrong type."
    cause "The setting wants another type: a text in quotes, a number, `true` or `false`, a list in brackets, or a table."
    remedy "Write the value in the type that the message names."
NOT_A_CHOICE "PE103" "The value is none of those the setting knows."
    cause "The setting knows a fixed set of words; this is none of them."
    remedy "Use one of the words that the message lists."
BAD_DURATION "PE104" "The duration cannot be read."
    cause "A duration is a text of whole numbers with units, largest unit first: `250ms`, `10m`, `1h30m`, `7d`. Units: `ms`, `s`, `m`, `h`, `d`, `w`."
    remedy "Write a number with a unit, in quotes. A bare number says no unit and is not accepted."
BAD_SIZE "PE105" "The size cannot be read."
    cause "A size is a text of one whole number with a unit: `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024)."
    remedy "Write a number with a unit, in quotes, such as `\"1GB\"`."
OUT_OF_RANGE "PE106" "The value is out of range."
    cause "The setting has limits, and the value is beyond them."
    remedy "Choose a value within the limits that the message names."
MISSING "PE107" "A required setting is missing."
    cause "The setting has no default, because none would be right for everybody."
    remedy "Add the setting."
DUPLICATE "PE108" "A list names the same thing twice."
    cause "The second mention changes nothing; often another name was meant."
    remedy "Delete the second mention, or write the name that was meant."
NOT_BUILT "PE109" "This setting is designed, but not yet built."
    cause "The setting belongs to a later version of pgevict. It is refused rather than ignored, so that nobody relies on what does not happen."
    remedy "Delete the setting, or upgrade to a version that has it."
EMPTY "PE110" "A text is empty that must not be."
    cause "The setting names or describes something, and the empty text does neither."
    remedy "Write the text, or delete the setting."
BAD_NUMBER "PE111" "The number cannot be compared with text of PostgreSQL."
    cause "`when` and rows of tests compare with the text that PostgreSQL prints, which is decimal."
    remedy "Write the number in decimal, or the text in quotes as PostgreSQL prints it."
BAD_ADDRESS "PE112" "The address cannot be read."
    cause "`admin.listen` wants an IP address and a port, such as `127.0.0.1:9847` or `[::1]:9847`."
    remedy "Write an address and a port. Names are not looked up here."
RETENTION "PE113" "Durations contradict each other."
    cause "A delay reaches as far back as the journal is kept (`repeat_after` or `debounce` against `retention`), or `retention_max` is less than `retention`. What is repeated must still be in the journal."
    remedy "Raise `postgres.retention`, or lower the delay."
PG_URL "PE120" "The PostgreSQL connection text cannot be read."
    cause "`postgres.url` is neither a URL `postgresql://user@host:port/database` nor key/value text `host=… dbname=…`."
    remedy "Compare with the form above. Special characters of a user name or password are percent-encoded in a URL (`@` is `%40`, `/` is `%2F`)."
PG_PARAMETER "PE121" "Unknown parameter of a PostgreSQL connection text."
    cause "libpq has no parameter of that name."
    remedy "Mend the name."
PG_VALUE "PE122" "A parameter of the PostgreSQL connection text has a value that cannot be."
    cause "The parameter wants another value."
    remedy "Use a value that the message names."
PG_UNSUPPORTED "PE123" "A parameter of the PostgreSQL connection text is not supported."
    cause "libpq knows the parameter or value, pgevict cannot keep what it promises, and ignoring it could weaken security or send the daemon to the wrong server."
    remedy "Remove the parameter, or choose a value that the message names."
REDIS_URL "PE125" "The Redis URL cannot be read."
    cause "`redis.url` is none of `redis://[user:password@]host:port/db`, `rediss://…` (TLS), `redis+unix:///path?db=N`."
    remedy "Compare with the forms above. Special characters of a user name or password are percent-encoded."
TEMPLATE "PE201" "The template cannot be read."
    cause "A hole is `{name}` or `{name|filter}`; braces that stand for themselves are written twice."
    remedy "Close or double the marked brace, or name the hole."
UNKNOWN_FILTER "PE202" "There is no such filter."
    cause "Filters are `lower`, `upper`, `trim`, `date`, `md5`, `sha1`, `sha256` and `tag`, chained with `|`."
    remedy "Use one of them."
WILDCARD_IN_KEY "PE203" "A wildcard in a key."
    cause "`key` names exactly one Redis key, so `*` would stand for itself, which is hardly meant."
    remedy "Use `pattern` instead of `key` for a template with wildcards."
BROAD "PE204" "The template begins with a wildcard."
    cause "Its whole form (every hole as `*`) begins with `*`, so that evicting the cache whole deletes more or less everything in the namespace."
    remedy "Put a fixed text in front of the first hole or wildcard, or say `allow_broad = true` where this is meant."
KEY_AND_PATTERN "PE205" "A cache has both `key` and `pattern`."
    cause "A cache is either one key for each set of values, or everything that a pattern matches."
    remedy "Keep one, or make two caches of it."
VERSION "PE206" "`{version}` and `versions` do not fit together."
    cause "`namespace.prefix` and `namespace.versions` require each other: the prefix holds `{version}` exactly when there is a list of versions. A prefix has no other holes and no filters."
    remedy "Add what is missing, or delete the other."
NO_EDGE "PE207" "No table evicts this cache."
    cause "The cache is described, but no `evict` list names it, so that nothing ever makes it stale."
    remedy "Name it in the `evict` list of the tables it depends on, or delete it."
COVERS "PE208" "One cache's whole form covers another cache."
    cause "A TRUNCATE, a flush or a statement without usable values evicts a cache whole: every hole becomes `*`. That pattern matches the other cache's keys too."
    remedy "Where this is meant, nothing need be done. Otherwise give the two caches different prefixes."
PROTECTED "PE209" "Nothing of this edge can ever be deleted."
    cause "`limits.never_delete` covers the whole form of the cache, so that every eviction of this edge is passed over."
    remedy "Narrow `never_delete`, or delete the edge."
REPEAT_TTL "PE210" "`repeat_after` is not shorter than `ttl`."
    cause "A stale entry that was stored before the second delete has expired by itself by then."
    remedy "Lower `repeat_after`; a few seconds longer than the slowest fill is enough."
GUARD_NOTIFY "PE211" "`guard_fills` needs the journal."
    cause "A late fill is refused by comparing the snapshot that it was read from with the one that the change is in. With `delivery = \"notify\"` changes carry no snapshot, so nothing could be compared."
    remedy "Use `delivery = \"journal\"`, or take `guard_fills` away and give the cache a `repeat_after`."
GUARD_OPEN "PE212" "Two caches hold the same keys, and only one of them guards its fills."
    cause "One cache's whole form covers the other. What the one without `guard_fills` evicts leaves no tombstone, so that a value read before could be stored again after it."
    remedy "Set `guard_fills = true` in both, or give the two caches different prefixes."
WARM_SQL "PE213" "The query of `warm.sql` cannot be read."
    cause "`warm.sql` is one SELECT in which `:name` stands for the value of a hole. Quotes and comments must end, and there is no second statement."
    remedy "Mend the marked place. PostgreSQL itself checks the rest of the query: `pgevict check` asks it to."
WARM_PARAMETER "PE214" "The query has a parameter that the key lacks."
    cause "`:name` in `warm.sql` is the value of the hole `{name}` in the cache's `key`, and `:version` the newest of `namespace.versions`. Nothing else is known when a key is warmed."
    remedy "Use a hole of the key. A colon that begins no parameter, as in a slice of an array, has a blank behind it."
WARM_UNUSED "PE215" "The query does not use a hole of the key."
    cause "Keys that differ only in this hole would all get the same value."
    remedy "Use the hole in the query, or take it out of the key."
WARM_NOTIFY "PE216" "`warm.sql` needs the journal."
    cause "A value that was read before a change must not be stored after the change was evicted. That is refused by comparing snapshots, which notifications do not carry."
    remedy "Use `delivery = \"journal\"`, or take `warm` away."
WARM_PATTERN "PE217" "`warm.sql` needs a cache with `key`."
    cause "A pattern stands for many keys, and nothing says which of them the value belongs to."
    remedy "Describe the key that is to be warmed as a cache of its own, with `key`."
WARM_TTL "PE218" "`warm.sql` needs the cache's `ttl`."
    cause "What pgevict stores expires as what the application stores does; without `ttl` it would stay for ever."
    remedy "Set `ttl` to what the application uses."
WARM_NEIGHBOUR "PE219" "Another cache evicts warmed keys under a name that cannot be told from them."
    cause "A pattern of another cache matches warmed keys. A value is stored only if no such pattern was evicted since it was read, and to ask for that, the pattern must be rendered from the values in the key."
    remedy "Call the holes alike in both templates, `with = { hole = \"column\" }` names the column; or give the two caches different prefixes."
WARM_TWICE "PE220" "A cache says twice how it is warmed."
    cause "Either pgevict makes the value (`warm.sql`) and stores it in `warm.format`, or the application does both (`warm.http`)."
    remedy "Keep one of the two."
WARM_URL "PE221" "The request of `warm.http` cannot be made."
    cause "A URL begins with `http://` or `https://`; scheme, host and port are fixed text; path, query and body may hold holes of the cache's template, `{version}` among them where there are versions. Headers that belong to the connection are set by pgevict."
    remedy "Mend the marked place."
WARM_REFRESH "PE222" "The cache cannot be refreshed as it stands."
    cause "`warm.on` with `refresh` reads entries anew before they expire: each is a `key` with a `ttl`, and `refresh_at` and `only_if_read_within` belong to it."
    remedy "Add what is missing, or delete the setting that does nothing."
WARM_SCHEDULE "PE223" "The schedule of a cache's warming cannot be kept."
    cause "`warm.schedule` has `windows` (times of day, `02:00-05:00`) on the clock of a `time_zone`, or `below_ops_per_second`, and belongs to `\"schedule\"` in `warm.on`. Zones are those of the system's tzdata."
    remedy "Mend the marked place; where a zone is missing that should be there, install the package tzdata."
WARM_AFTER "PE225" "The caches cannot be warmed in this order."
    cause "`warm.after` names caches from which this one is made: they are warmed first. Each has a `warm` of its own, and none waits for itself, directly or over others."
    remedy "Give the named cache a `warm`, or take one of the names away."
BAD_TABLE "PE301" "The table name cannot be read."
    cause "A table is `name` or `schema.name`, spelled as in the catalog; a part that holds a dot or a quote stands in SQL quotes: `'\"my.schema\".t'`."
    remedy "Write the name in one of these forms. In a section header, a name with a dot stands in quotes: `[table.\"shop.orders\"]`."
TABLE_TWICE "PE302" "The same table twice."
    cause "`calls` and `public.calls` are the same table."
    remedy "Merge the two sections."
NO_EVICT "PE303" "The table evicts nothing."
    cause "A table without entries in `evict` would be watched for nothing."
    remedy "Name a cache in `evict`, or delete the section."
UNKNOWN_CACHE "PE304" "There is no such cache."
    cause "`evict` names a cache that has no `[cache.NAME]` section."
    remedy "Mend the name, or add the section."
UNKNOWN_HOLE "PE305" "The cache has no such hole."
    cause "`with` or `lookup` fills a hole that no template of the named caches has."
    remedy "Mend the hole's name: the left side is the hole `{name}`, the right side the column."
WITH_AND_LOOKUP "PE306" "A hole is filled twice."
    cause "`with` of an edge and `lookup` of its table both fill the same hole."
    remedy "Delete one of the two."
EDGE_TWICE "PE307" "The same edge twice."
    cause "Two entries of one `evict` list name the same cache with the same `with`; the operations and columns of one are never more than those of both."
    remedy "Merge the two entries, or give them different `with`."
IDLE_COLUMNS "PE308" "`columns` has no effect here."
    cause "`columns` narrows UPDATE only, and the edge's `ops` do not include update."
    remedy "Delete `columns` from the edge, or add `update` to `ops`."
TEST_ROWS "PE401" "The rows of a test do not fit together."
    cause "A test has `old` (DELETE), `new` (INSERT), both (UPDATE), or `truncate = true` and neither."
    remedy "Add the row that is missing, or delete what contradicts."
TEST_TABLE "PE402" "No table of that name is watched."
    cause "The test names a table that has no `[table.NAME]` section and is no parent of a lookup."
    remedy "Mend the name."
TEST_VALUE "PE403" "The value cannot stand in a row."
    cause "A value is a text, a number, `true` or `false`, a date or time, or `{ null = true }` for NULL."
    remedy "Write the value as PostgreSQL prints it, in quotes."
NO_POSTGRES "PE501" "PostgreSQL cannot be reached."
    cause "The connection failed, the server refused it, or no host of `postgres.url` is a primary of version 14 or newer. The message says which."
    remedy "Check `postgres.url`, that the server runs, that `pg_hba.conf` lets the role in, and that the primary is named."
NO_TABLE "PE502" "The database has no such table."
    cause "A table of the configuration does not exist in the database, or is of a kind that cannot have triggers."
    remedy "Mend the name (names are case-sensitive and unfolded), or create the table first."
NO_COLUMN "PE503" "The table has no such column."
    cause "A hole takes the column of its name unless `with` or `lookup` say otherwise; this column does not exist."
    remedy "Mend the name, or say with `with = { hole = \"column\" }` where the value comes from."
LOOKUP_KEY "PE504" "The lookup does not say what to join on."
    cause "`by` is not given and the parent's primary key does not exist or has more than one column; or the two columns have types that cannot be compared."
    remedy "Name the parent's column with `by = \"column\"` in the lookup."
ROW_SECURITY "PE505" "Row security can hide the parent's rows."
    cause "The parent of a lookup has row security that applies to the owner of pgevict's functions, so that a lookup could find nothing where there is something."
    remedy "Let the owner of pgevict's functions bypass row security (`BYPASSRLS`), or own the table without `FORCE ROW LEVEL SECURITY`."
NOTIFY_PREPARED "PE506" "Notify delivery does not go with prepared transactions."
    cause "`max_prepared_transactions` is above 0, and PostgreSQL refuses PREPARE TRANSACTION after NOTIFY: the application's transaction would fail."
    remedy "Use `delivery = \"journal\"`, or set `max_prepared_transactions = 0`."
NOT_PRIMARY "PE507" "The server is read-only."
    cause "Sessions of the role are read-only (`default_transaction_read_only`). The daemon writes its beacon and retires journal rows."
    remedy "`ALTER ROLE … SET default_transaction_read_only = off`, or name the server that takes writes."
PG_RIGHTS "PE509" "The role lacks a right."
    cause "The role may not use what it needs of the schema of pgevict."
    remedy "Apply the migration (`pgevict sql apply`), or grant what the message names."
NOTIFY_PROMISES "PE510" "Notify delivery loses what happens while the daemon is away."
    cause "With `delivery = \"notify\"` changes made while the daemon or the connection is down are gaps, writers take NOTIFY's lock at commit, and a full queue fails the commit."
    remedy "Use `delivery = \"journal\"` unless the database cannot have the journal table."
NO_SCHEMA "PE511" "The migration has not been applied."
    cause "The schema of pgevict does not exist in the database, so that no change is captured yet."
    remedy "`pgevict sql up | psql`, or `pgevict sql apply`."
DEAF "PE512" "LISTEN hears nothing."
    cause "A notification sent on one connection did not arrive on another: `postgres.url` leads to a transaction pooler, which accepts LISTEN and delivers nothing, or to different servers."
    remedy "Name the server itself in `postgres.url`, not the pooler."
WARM_QUERY "PE513" "A query of `warm` does not work."
    cause "PostgreSQL was asked to prepare and plan the query, as the role that will run it, without running it. The message is its answer."
    remedy "Mend the marked place. A type that cannot be told is written as a cast, `:name::bigint`; a right that is missing is granted to the role of `[warm] url`."
REPLICA "PE514" "The replica is not asked."
    cause "`warm.replica_url` names a server that cannot be reached, is no standby, or is one of another cluster or database. Warming goes on: the primary is asked."
    remedy "Name a streaming standby of the primary, with the same database, and a role that may read there."
NO_REDIS "PE520" "Redis cannot be reached."
    cause "The connection failed, or the server refused it. The message says which."
    remedy "Check `redis.url`, that the server runs, and user and password."
REDIS_RIGHTS "PE521" "The Redis user lacks a right."
    cause "A command or key that pgevict needs is refused by the ACL of its user."
    remedy "Set the ACL line that the message shows."
REDIS_UNFIT "PE522" "The Redis server does not fit."
    cause "The server is older than 6.2, a replica, a cluster node, or evicts keys without TTL: pgevict's position would be lost under memory pressure, and everything flushed."
    remedy "The message says which, and what to change."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(ALL.windows(2).all(|w| w[0].code < w[1].code));
        assert!(ALL.iter().all(|e| e.code.0.len() == 5 && e.code.0.starts_with("PE")));
    }

    #[test]
    fn a_code_is_found_in_any_case() {
        assert_eq!(Entry::of("pe104").map(|e| e.code), Some(BAD_DURATION));
        assert!(Entry::of("PE999").is_none());
    }
}
