//! `[[test]]`.

use super::codes;
use super::model::{Row, TableName, Test};
use super::problem::{Place, Problem};
use super::reader::{Found, Reader, Section, entries};
use super::scalar::{nearest, table_name};
use super::tables::TableAt;
use super::values;
use toml::Spanned;
use toml::de::DeValue;

/// Reads every test. `broken`: the file has syntax errors, so that what is missing may only be hidden.
pub(super) fn cases<'a>(
    reader: &mut Reader<'a>,
    value: Option<&'a Spanned<DeValue<'a>>>,
    tables: &[TableAt],
    broken: bool,
) -> Vec<Test> {
    let Some(value) = value else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let place = Place::Span(value.span());
        reader.error(codes::WRONG_TYPE, &place, "tests are written [[test]], with two brackets");
        return Vec::new();
    };
    array.iter().filter_map(|item| case(reader, item, tables, broken)).collect()
}

fn case<'a>(reader: &mut Reader<'a>, item: &'a Spanned<DeValue<'a>>, tables: &[TableAt], broken: bool) -> Option<Test> {
    let table = reader.table(&Found::Toml(item), "test", "a section [[test]]")?;
    let place = Place::Span(item.span());
    let mut s = Section::local("test".into(), table);
    let name = s.get(reader, "name").and_then(|f| reader.name(f, "test.name"));
    let named = table.contains_key("name");
    let on = s.get(reader, "table");
    let old = s.get(reader, "old").map(|f| row(reader, &f, "test.old"));
    let new = s.get(reader, "new").map(|f| row(reader, &f, "test.new"));
    let truncate = s.get(reader, "truncate").and_then(|f| reader.boolean(f, "test.truncate"));
    let expect = s.get(reader, "expect");
    s.finish(reader);
    for (missing, what, form) in [
        (!named, "name", "name = \"a new call evicts the user's dashboard\""),
        (on.is_none(), "table", "table = \"calls\""),
        (expect.is_none(), "expect", "expect = [\"user_dashboard:7\"], or expect = [] where nothing may go"),
    ] {
        if missing && !broken {
            let message = format!("a test has no `{what}`");
            reader.push(Problem::error(codes::MISSING, place.clone(), message).help(format!("such as {form}")));
        }
    }
    let truncates = truncate.as_ref().is_some_and(|t| t.value);
    let rows = old.is_some() || new.is_some();
    if truncates && rows {
        reader.error(codes::TEST_ROWS, &place, "a test with `truncate = true` has no `old` and no `new`");
    } else if !truncates && !rows && !broken {
        reader
            .error(codes::TEST_ROWS, &place, "a test has neither `old` nor `new` nor `truncate = true`")
            .help
            .push("`new` alone is an INSERT, `old` alone a DELETE, both an UPDATE".into());
    }
    let expect = expect.and_then(|f| reader.list(f, "test.expect")).unwrap_or_default();
    let on = on.and_then(|f| reader.name(f, "test.table"))?;
    let watched = match table_name(&on.value) {
        Ok(watched) => watched,
        Err(why) => {
            reader.error(codes::BAD_TABLE, &on.place, format!("`{}` is no table name", on.value)).label = why;
            return None;
        }
    };
    let known: Vec<&TableName> = tables
        .iter()
        .flat_map(|t| std::iter::once(&t.table.name).chain(t.table.lookups.iter().map(|l| &l.to)))
        .collect();
    if !known.contains(&&watched) && !broken {
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        let near = nearest(&on.value, names.iter().map(String::as_str));
        let message = format!("no table `{watched}` is watched");
        reader.push(Problem::error(codes::TEST_TABLE, on.place.clone(), message).did_you_mean(near));
    }
    Some(Test {
        name: name.map(|n| n.value).unwrap_or_default(),
        line: 1 + reader.source.get(..item.span().start).map_or(0, |s| s.matches('\n').count()),
        table: watched,
        old: old.flatten(),
        new: new.flatten(),
        truncate: truncates,
        expect: expect.into_iter().map(|e| e.value).collect(),
    })
}

fn row<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Option<Row> {
    let table = reader.table(found, path, "a row, such as { user_id = 7, status = \"x\" }")?;
    let mut out = Row::new();
    for (column, _, value) in entries(table) {
        if let Some(value) = values::row(reader, value, &format!("{path}.{column}")) {
            out.insert(column.to_owned(), value);
        }
    }
    Some(out)
}
