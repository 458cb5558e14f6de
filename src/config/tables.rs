//! `[table.NAME]`.

use super::codes;
use super::globals::MODES;
use super::model::{CaptureLevel, Edge, Lookup, OnError, Ops, Table, TableName, When};
use super::problem::{Place, Problem};
use super::reader::{At, Found, Reader, Section, entries};
use super::scalar::{nearest, table_name};
use super::values;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table with the places of what it says.
pub(super) struct TableAt {
    pub(super) table: Table,
    /// The NAME of the section.
    pub(super) place: Place,
    /// As many as the table has edges.
    pub(super) edges: Vec<EdgeAt>,
    /// As many as the table has lookups: where each hole stands.
    pub(super) lookups: Vec<Place>,
    pub(super) debounce: Option<At<Duration>>,
}

/// The places of an edge.
pub(super) struct EdgeAt {
    /// The cache's name.
    pub(super) cache: Place,
    /// The holes of `with`.
    pub(super) with: BTreeMap<String, Place>,
    /// `columns`.
    pub(super) columns: Option<Place>,
}

/// Reads every table. `broken`: the file has syntax errors, so that what is missing may only be hidden.
pub(super) fn tables<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>, broken: bool) -> Vec<TableAt> {
    let mut out: Vec<TableAt> = Vec::new();
    for (name, span, value) in table.map(entries).unwrap_or_default() {
        let place = Place::Span(span);
        let path = format!("table.{name}");
        let Some(section) = reader.table(&Found::Toml(value), &path, "a section, such as [table.NAME]") else {
            continue;
        };
        let parsed = match table_name(name) {
            Ok(parsed) => parsed,
            Err(why) => {
                reader.error(codes::BAD_TABLE, &place, format!("`{name}` is no table name")).label = why;
                TableName { schema: "public".into(), name: name.into() }
            }
        };
        if let Some(first) = out.iter().find(|t| t.table.name == parsed) {
            let message = format!("the table `{parsed}` has two sections");
            let problem =
                Problem::error(codes::TABLE_TWICE, place.clone(), message).context(&first.place, "first here");
            reader.push(problem.help("a name without schema is in `public`"));
        }
        out.push(one(reader, parsed, place, Section::local(path, section), broken));
    }
    out
}

fn one<'a>(reader: &mut Reader<'a>, name: TableName, place: Place, mut s: Section<'a>, broken: bool) -> TableAt {
    let columns = s.get(reader, "columns").and_then(|f| columns(reader, f, &s.path("columns")));
    let debounce = s.get(reader, "debounce").and_then(|f| reader.duration(f, &s.path("debounce"), "1ms"..="1h"));
    let mode = s.get(reader, "mode").and_then(|f| reader.choice(f, &s.path("mode"), &MODES));
    let when = s.get(reader, "when").map(|f| when(reader, &f, &s.path("when"))).unwrap_or_default();
    let always = s.get(reader, "always").and_then(|f| reader.boolean(f, &s.path("always")));
    let capture = [("auto", CaptureLevel::Auto), ("row", CaptureLevel::Row)];
    let capture = s.get(reader, "capture").and_then(|f| reader.choice(f, &s.path("capture"), &capture));
    let on_error = [("open", OnError::Open), ("closed", OnError::Closed)];
    let on_error = s.get(reader, "on_error").and_then(|f| reader.choice(f, &s.path("on_error"), &on_error));
    let lookups: Vec<(Lookup, Place)> =
        s.get(reader, "lookup").map(|f| lookups(reader, &f, &s.path("lookup"))).unwrap_or_default();
    let evict = s.get(reader, "evict");
    let path = s.path("evict");
    s.finish(reader);
    let edges = match evict {
        Some(found) => edges(reader, &found, &path),
        None => {
            if !broken {
                let message = format!("table `{name}` has no `evict`");
                let help = "such as evict = [\"user_dashboard\"]";
                reader.push(Problem::error(codes::NO_EVICT, place.clone(), message).help(help));
            }
            Vec::new()
        }
    };
    let (lookups, lookup_places) = lookups.into_iter().unzip();
    let (edges, edge_places) = edges.into_iter().unzip();
    let table = Table {
        name,
        columns,
        debounce: debounce.as_ref().map(|d| d.value),
        mode: mode.map(|m| m.value),
        when,
        lookups,
        always: always.is_some_and(|a| a.value),
        capture: capture.map(|c| c.value).unwrap_or_default(),
        on_error: on_error.map(|o| o.value).unwrap_or_default(),
        edges,
    };
    TableAt { table, place, edges: edge_places, lookups: lookup_places, debounce }
}

/// A list of columns that is not empty.
fn columns<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> Option<Vec<String>> {
    let place = found.place();
    let before = reader.problems.len();
    let list = reader.list(found, path)?;
    if list.is_empty() && reader.problems.len() == before {
        reader
            .error(codes::EMPTY, &place, format!("`{path}` is an empty list"))
            .help
            .push("delete it where every UPDATE counts; where none does, use ops = [\"insert\", \"delete\"]".into());
    }
    Some(list.into_iter().map(|c| c.value).collect())
}

fn edges<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Vec<(Edge, EdgeAt)> {
    let Found::Toml(value) = found else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let problem = reader.error(codes::WRONG_TYPE, &found.place(), format!("`{path}` wants a list"));
        problem.help.push("such as [\"user_dashboard\", { cache = \"user_stats\", columns = [\"status\"] }]".into());
        return Vec::new();
    };
    if array.is_empty() {
        reader
            .error(codes::NO_EVICT, &found.place(), format!("`{path}` is empty"))
            .help
            .push("name a cache, or delete the section of the table".into());
    }
    array.iter().filter_map(|item| edge(reader, item, path)).collect()
}

fn edge<'a>(reader: &mut Reader<'a>, item: &'a Spanned<DeValue<'a>>, path: &str) -> Option<(Edge, EdgeAt)> {
    let mut edge = Edge { cache: String::new(), columns: None, ops: Ops::ALL, with: BTreeMap::new(), when: Vec::new() };
    let mut at = EdgeAt { cache: Place::Span(item.span()), with: BTreeMap::new(), columns: None };
    let table = match item.get_ref() {
        DeValue::String(_) => {
            edge.cache = reader.name(Found::Toml(item), path)?.value;
            return Some((edge, at));
        }
        DeValue::Table(table) => table,
        _ => {
            let message = format!("`{path}` holds names of caches and tables {{ cache = \"name\", … }}");
            reader.error(codes::WRONG_TYPE, &at.cache, message);
            return None;
        }
    };
    let mut s = Section::local(path.to_owned(), table);
    let cache = s.get(reader, "cache");
    if let Some(found) = s.get(reader, "columns") {
        at.columns = Some(found.place());
        edge.columns = columns(reader, found, &s.path("columns"));
    }
    if let Some(ops) = s.get(reader, "ops").and_then(|f| ops(reader, f, &s.path("ops"))) {
        edge.ops = ops;
    }
    if let Some(found) = s.get(reader, "when") {
        edge.when = when(reader, &found, &s.path("when"));
    }
    if let Some(found) = s.get(reader, "with") {
        let path = s.path("with");
        let with = reader.table(&found, &path, "a table, such as { hole = \"column\" }");
        for (hole, span, value) in with.map(entries).unwrap_or_default() {
            at.with.insert(hole.to_owned(), Place::Span(span));
            if let Some(column) = reader.name(Found::Toml(value), &format!("{path}.{hole}")) {
                edge.with.insert(hole.to_owned(), column.value);
            }
        }
    }
    s.finish(reader);
    let Some(cache) = cache else {
        let place = Place::Span(item.span());
        reader.push(
            Problem::error(codes::MISSING, place, format!("an entry of `{path}` has no `cache`"))
                .help("such as { cache = \"user_stats\", columns = [\"status\"] }"),
        );
        return None;
    };
    let cache = reader.name(cache, "cache")?;
    (edge.cache, at.cache) = (cache.value, cache.place);
    Some((edge, at))
}

fn ops<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> Option<Ops> {
    let place = found.place();
    let before = reader.problems.len();
    let mut ops = Ops { insert: false, update: false, delete: false };
    for op in reader.list(found, path)? {
        match op.value.as_str() {
            "insert" => ops.insert = true,
            "update" => ops.update = true,
            "delete" => ops.delete = true,
            other => {
                let near = nearest(other, ["insert", "update", "delete"]);
                let message = format!("`{other}` is no operation: insert, update, delete");
                let mut problem = Problem::error(codes::NOT_A_CHOICE, op.place, message).did_you_mean(near);
                if other == "truncate" {
                    problem = problem.help("TRUNCATE counts as delete");
                }
                reader.push(problem);
            }
        }
    }
    let none = ops == (Ops { insert: false, update: false, delete: false });
    if none && reader.problems.len() == before {
        reader
            .error(codes::EMPTY, &place, format!("`{path}` is an empty list"))
            .help
            .push("delete it where all operations count".into());
    }
    (!none).then_some(ops)
}

fn when<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Vec<When> {
    let table = reader.table(found, path, "a table, such as { status = [\"active\"] }");
    let mut out = Vec::new();
    for (column, span, value) in table.map(entries).unwrap_or_default() {
        let path = format!("{path}.{column}");
        let items: Vec<&'a Spanned<DeValue<'a>>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        if items.is_empty() {
            reader
                .error(codes::EMPTY, &Place::Span(span), format!("`{path}` is an empty list: no row would ever count"))
                .help
                .push("name the values, or delete it".into());
        }
        let mut values: Vec<String> = Vec::new();
        for item in items {
            let Some(text) = values::condition(reader, item, &path) else { continue };
            if values.contains(&text) {
                let message = format!("`{text}` stands twice in `{path}`");
                reader.error(codes::DUPLICATE, &Place::Span(item.span()), message);
            } else {
                values.push(text);
            }
        }
        out.push(When { column: column.to_owned(), values });
    }
    out
}

fn lookups<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Vec<(Lookup, Place)> {
    const FORM: &str = "{ follow = \"call_id\", to = \"calls\", take = \"user_id\" }";
    let table = reader.table(found, path, "a table of holes: lookup.HOLE = { … }");
    let mut out = Vec::new();
    for (hole, span, value) in table.map(entries).unwrap_or_default() {
        let place = Place::Span(span);
        let path = format!("{path}.{hole}");
        let Some(table) = reader.table(&Found::Toml(value), &path, &format!("a table, such as {FORM}")) else {
            continue;
        };
        let mut s = Section::local(path.clone(), table);
        let mut get = |reader: &mut Reader<'a>, name: &'static str, required: bool| {
            let found = s.get(reader, name);
            if found.is_none() && required {
                let message = format!("`{path}` has no `{name}`");
                reader.push(Problem::error(codes::MISSING, place.clone(), message).help(format!("such as {FORM}")));
            }
            found.and_then(|f| reader.name(f, &s.path(name)))
        };
        let follow = get(reader, "follow", true);
        let to = get(reader, "to", true);
        let take = get(reader, "take", true);
        let by = get(reader, "by", false);
        s.finish(reader);
        let to = to.and_then(|text| match table_name(&text.value) {
            Ok(name) => Some(name),
            Err(why) => {
                let message = format!("`{}` is no table name", text.value);
                reader.error(codes::BAD_TABLE, &text.place, message).label = why;
                None
            }
        });
        if let (Some(follow), Some(to), Some(take)) = (follow, to, take) {
            let lookup =
                Lookup { hole: hole.to_owned(), follow: follow.value, to, take: take.value, by: by.map(|b| b.value) };
            out.push((lookup, place));
        }
    }
    out
}
