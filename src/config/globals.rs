//! `mode`, `[namespace]`, `[limits]`, `[admin]`, `[log]`.

use super::codes;
use super::model::{Admin, Limits, Log, LogFormat, LogKeys, LogLevel, Mode, Namespace, OverLimit};
use super::problem::Problem;
use super::reader::{At, Reader, Section};
use crate::rules::template::{Fill, Kind, Segment, Template};
use toml::de::DeTable;

/// The words of `mode`.
pub(super) const MODES: [(&str, Mode); 3] =
    [("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)];

/// Reads `[namespace]`.
pub(super) fn namespace<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> Namespace {
    let mut s = Section::global("namespace", table);
    let prefix = s.get(reader, "prefix").and_then(|f| reader.text(f, "namespace.prefix"));
    let versions = s.get(reader, "versions").map(|f| {
        let place = f.place();
        At { value: reader.list(f, "namespace.versions"), place }
    });
    s.finish(reader);
    let list: Vec<String> = versions.iter().flat_map(|v| v.value.iter().flatten()).map(|v| v.value.clone()).collect();
    if let Some(v) = versions.as_ref().filter(|v| v.value.as_ref().is_some_and(Vec::is_empty)) {
        reader
            .error(codes::VERSION, &v.place, "`namespace.versions` is empty")
            .help
            .push("name a version, or delete both".into());
    }
    let Some(prefix) = prefix.filter(|p| !p.value.is_empty()) else {
        if let Some(v) = &versions {
            reader
                .error(codes::VERSION, &v.place, "`namespace.versions` without `{version}` in `namespace.prefix`")
                .help
                .push("add to [namespace]: prefix = \"app:{version}:\"".into());
        }
        return Namespace { prefix: String::new(), prefixes: vec![(None, String::new())] };
    };
    if let Some(i) = prefix.value.find('*') {
        let place = reader.inside(&prefix.place, &prefix.value, i..i + 1);
        let help = "a prefix stands in front of every key as it is; several versions are named in `versions`";
        reader.error(codes::WILDCARD_IN_KEY, &place, "`*` in `namespace.prefix`").help.push(help.into());
        return Namespace::default();
    }
    let template = template(reader, &prefix, Kind::Key);
    let Some(template) = template else { return Namespace::default() };
    let mut has_version = false;
    for segment in &template.segments {
        let Segment::Hole(hole) = segment else { continue };
        let at = prefix
            .value
            .find(&format!("{{{}", hole.name))
            .map_or(0..prefix.value.len(), |i| i..i + hole.name.len() + 1);
        let place = reader.inside(&prefix.place, &prefix.value, at);
        if hole.name != "version" {
            reader.error(
                codes::VERSION,
                &place,
                format!("a prefix has no hole `{{{}}}`, only `{{version}}`", hole.name),
            );
        } else if hole.filters.is_empty() {
            has_version = true;
        } else {
            has_version = true;
            reader.error(codes::VERSION, &place, "`{version}` takes no filters");
        }
    }
    if has_version && versions.is_none() {
        reader
            .error(codes::VERSION, &prefix.place, "`{version}` in `namespace.prefix` without `namespace.versions`")
            .help
            .push("add to [namespace]: versions = [\"v1\"]".into());
    } else if let Some(v) = versions.as_ref().filter(|_| !has_version) {
        let place = v.place.clone();
        let problem =
            Problem::error(codes::VERSION, place, "`namespace.versions` without `{version}` in `namespace.prefix`");
        reader.push(problem.context(&prefix.place, "`{version}` belongs in here"));
    }
    let render = |version: &str| {
        let bytes = template.render(b"", |_| Fill::Value(version.as_bytes())).bytes().to_vec();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let prefixes = if has_version {
        list.iter().map(|v| (Some(v.clone()), render(v))).collect()
    } else {
        vec![(None, render(""))]
    };
    Namespace { prefix: prefix.value, prefixes }
}

/// Parses a template and reports its problems where they stand in the text.
pub(super) fn template(reader: &mut Reader<'_>, text: &At<String>, kind: Kind) -> Option<Template> {
    use crate::rules::filter::Filter;
    use crate::rules::template::Problem as Wrong;
    match Template::parse(&text.value, kind) {
        Ok(template) => Some(template),
        Err(errors) => {
            for error in errors {
                let place = reader.inside(&text.place, &text.value, error.at);
                let code = match &error.problem {
                    Wrong::UnknownFilter(_) => codes::UNKNOWN_FILTER,
                    Wrong::WildcardInKey => codes::WILDCARD_IN_KEY,
                    _ => codes::TEMPLATE,
                };
                let help = match &error.problem {
                    Wrong::UnknownFilter(name) => {
                        match super::scalar::nearest(name, Filter::ALL.iter().map(|(n, _)| *n)) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => {
                                format!("there are {}", Filter::ALL.map(|(n, _)| n).join(", "))
                            }
                        }
                    }
                    Wrong::WildcardInKey => {
                        "write `pattern = …` instead of `key = …` for a template with wildcards".into()
                    }
                    Wrong::Unclosed => "a hole is `{name}`; a brace that stands for itself is written `{{`".into(),
                    Wrong::StrayBrace => "a brace that stands for itself is written `}}`".into(),
                    Wrong::NoName => "a hole is `{name}` or `{name|filter}`".into(),
                    Wrong::Empty => "such as \"user_dashboard:{user_id}\"".into(),
                };
                reader.error(code, &place, error.problem.to_string()).help.push(help);
            }
            None
        }
    }
}

/// Reads `[limits]`. Also returns where each pattern of `never_delete` stands.
pub(super) fn limits<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> (Limits, Vec<At<String>>) {
    let mut s = Section::global("limits", table);
    let never = s.get(reader, "never_delete").and_then(|f| reader.list(f, "limits.never_delete")).unwrap_or_default();
    let most = s
        .get(reader, "max_keys_per_change")
        .and_then(|f| reader.integer(f, "limits.max_keys_per_change", 1..=1_000_000_000_000));
    let over = [("slow", OverLimit::Slow), ("refuse", OverLimit::Refuse)];
    let over = s.get(reader, "over_limit").and_then(|f| reader.choice(f, "limits.over_limit", &over));
    let index_memory = s.get(reader, "index_memory").and_then(|f| reader.size(f, "limits.index_memory"));
    s.finish(reader);
    let limits = Limits {
        never_delete: never.iter().map(|n| n.value.clone()).collect(),
        max_keys_per_change: most.unwrap_or(100_000),
        over_limit: over.map(|o| o.value).unwrap_or_default(),
        index_memory: index_memory.unwrap_or(128_000_000),
    };
    (limits, never)
}

/// Reads `[admin]`.
pub(super) fn admin<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> Admin {
    let mut s = Section::global("admin", table);
    let socket = s.get(reader, "socket").and_then(|f| reader.name(f, "admin.socket"));
    // sun_path of Linux holds 108 bytes with its end.
    if let Some(socket) = socket.as_ref().filter(|s| s.value.len() > 107) {
        reader.error(codes::OUT_OF_RANGE, &socket.place, "`admin.socket` is longer than 107 bytes");
    }
    let listen = s.get(reader, "listen").and_then(|f| reader.name(f, "admin.listen")).and_then(|text| {
        let address = text.value.parse().ok();
        if address.is_none() {
            reader
                .error(codes::BAD_ADDRESS, &text.place, "`admin.listen` is no address with port")
                .help
                .push("such as \"127.0.0.1:9847\" or \"[::1]:9847\"".into());
        }
        address
    });
    s.not_built(reader, "token");
    s.finish(reader);
    Admin { socket: socket.map_or_else(|| "/run/pgevict/admin.sock".into(), |s| s.value.into()), listen }
}

/// Reads `[log]`.
pub(super) fn log<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> Log {
    let mut s = Section::global("log", table);
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    let format = s.get(reader, "format").and_then(|f| reader.choice(f, "log.format", &formats));
    let keys = [("full", LogKeys::Full), ("hashed", LogKeys::Hashed), ("none", LogKeys::None)];
    let keys = s.get(reader, "keys").and_then(|f| reader.choice(f, "log.keys", &keys));
    let levels =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    let level = s.get(reader, "level").and_then(|f| reader.choice(f, "log.level", &levels));
    s.finish(reader);
    Log {
        format: format.map(|f| f.value).unwrap_or_default(),
        keys: keys.map(|k| k.value).unwrap_or_default(),
        level: level.map(|l| l.value).unwrap_or_default(),
    }
}
