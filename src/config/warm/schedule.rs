//! `warm.schedule` of a cache.

use crate::config::codes;
use crate::config::model::Quiet;
use crate::config::problem::{Place, Problem};
use crate::config::reader::{Found, Reader, Section};
use crate::config::scalar::nearest;
use crate::rules::query::Query;
use crate::rules::schedule::{Schedule, Window};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Reads `schedule`. `on`: where "schedule" stands in `on`; `startup`: the keys, unless it names its own.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    found: Option<Found<'a>>,
    path: String,
    on: Option<&Place>,
    startup: Option<&Query>,
) -> Option<Quiet> {
    let Some(found) = found else {
        let message = format!("`{path}` is missing: when are the hours quiet?");
        let help = "such as warm.schedule = { windows = [\"02:00-05:00\"], time_zone = \"Europe/Berlin\" }";
        reader.error(codes::MISSING, on?, message).help.push(help.into());
        return None;
    };
    let place = found.place();
    let table = reader.table(&found, &path, "a table, such as { windows = [\"02:00-05:00\"] }")?;
    let mut s = Section::local(path.clone(), table);
    let windows = s.get(reader, "windows").map(|f| windows(reader, f, &s.path("windows")));
    let days = s.get(reader, "days").map(|f| days(reader, f, &s.path("days"))).unwrap_or_default();
    let zone = s.get(reader, "time_zone").map(|f| zone(reader, f, &s.path("time_zone")));
    let below = s.get(reader, "below_ops_per_second");
    let below = below.and_then(|f| reader.integer(f, &s.path("below_ops_per_second"), 1..=10_000_000));
    let sql = s.get(reader, "sql").map(|f| reader.name(f, &s.path("sql")));
    let sql_path = s.path("sql");
    s.finish(reader);
    if on.is_none() {
        let message = format!("`{path}` does nothing without \"schedule\" in `on`");
        let problem = Problem::error(codes::WARM_SCHEDULE, place.clone(), message);
        reader.push(problem.help("add to the cache: warm.on = [\"evict\", \"schedule\"]"));
    }
    if windows.is_none() && below.is_none() {
        let message = format!("`{path}` says neither `windows` nor `below_ops_per_second`: when are the hours quiet?");
        reader.error(codes::MISSING, &place, message);
        return None;
    }
    let query = match sql {
        Some(sql) => super::naming(reader, &sql?, &sql_path)?,
        None => match startup {
            Some(query) => query.clone(),
            None => {
                let message = format!("`{sql_path}` is missing, and `startup.sql`: which keys?");
                let help = "such as warm.startup.sql = \"SELECT id FROM users WHERE active\"";
                reader.error(codes::MISSING, &place, message).help.push(help.into());
                return None;
            }
        },
    };
    // Without windows the day is one: everything is filled once a day.
    let windows = windows.unwrap_or_else(|| vec![Window::ALWAYS]);
    let zone = zone.unwrap_or(Some(TimeZone::UTC))?;
    (!windows.is_empty()).then_some(Quiet { schedule: Schedule { windows, days, zone }, below, query })
}

fn windows<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> Vec<Window> {
    let place = found.place();
    let items = reader.list(found, path).unwrap_or_default();
    if items.is_empty() {
        reader.error(codes::EMPTY, &place, format!("`{path}` is empty"));
    }
    let mut out = Vec::new();
    for item in items {
        match Window::parse(&item.value) {
            Ok(window) => out.push(window),
            Err(why) => {
                reader.error(codes::WARM_SCHEDULE, &item.place, format!("`{path}`: {why}"));
            }
        }
    }
    out
}

fn days<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> Vec<Weekday> {
    let mut out = Vec::new();
    for item in reader.list(found, path).unwrap_or_default() {
        if let Some((_, day)) = DAYS.iter().find(|(name, _)| *name == item.value) {
            out.push(*day);
            continue;
        }
        let near = nearest(&item.value, DAYS.map(|(name, _)| name));
        let message = format!("`{}` is no day: mon, tue, wed, thu, fri, sat, sun", item.value);
        reader.push(Problem::error(codes::NOT_A_CHOICE, item.place, message).did_you_mean(near));
    }
    out
}

fn zone<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> Option<TimeZone> {
    let name = reader.name(found, path)?;
    if let Ok(zone) = TimeZone::get(&name.value) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
    let near = nearest(&name.value, known.iter().map(String::as_str));
    let message = format!("`{path}`: the system knows no time zone `{}`", name.value);
    let mut problem = Problem::error(codes::WARM_SCHEDULE, name.place, message).did_you_mean(near);
    if near.is_none() {
        problem = problem.help(
            "names are those of the system's tzdata, such as Europe/Berlin; without that package there is only UTC",
        );
    }
    reader.push(problem);
    None
}
