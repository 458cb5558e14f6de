//! `~/.pgpass`, as libpq reads it.

use super::environment::Environment;
use super::model::{PgUrl, Secret};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What the password file gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or no line that fits.
    Nothing,
    /// This password.
    Password(Secret),
    /// The file is not to be trusted; says why.
    Ignored(PathBuf, String),
}

/// Looks for the password of the first host that has one. `named` is the connection text's `passfile`.
pub(super) fn find(url: &PgUrl, named: Option<&Path>, environment: &Environment) -> Found {
    let home = || environment.get("HOME").map(|h| Path::new(h).join(".pgpass"));
    let path = named.map(Path::to_owned).or_else(|| environment.get("PGPASSFILE").map(PathBuf::from)).or_else(home);
    let Some(path) = path else { return Found::Nothing };
    let Ok(meta) = std::fs::metadata(&path) else { return Found::Nothing };
    if !meta.is_file() {
        return Found::Ignored(path, "it is not a plain file".into());
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Found::Ignored(path, "others than its owner may read it".into());
    }
    match std::fs::read(&path) {
        Ok(bytes) => lookup(&String::from_utf8_lossy(&bytes), url).map_or(Found::Nothing, Found::Password),
        Err(e) => Found::Ignored(path, e.to_string()),
    }
}

/// The password of the first line that fits, host by host.
fn lookup(text: &str, url: &PgUrl) -> Option<Secret> {
    url.hosts.iter().find_map(|host| {
        // libpq looks the default socket directory up as `localhost`.
        let name = if host.host == "/var/run/postgresql" { "localhost" } else { &host.host };
        let wanted = [name, &host.port.to_string(), &url.dbname, &url.user].map(str::to_owned);
        text.lines().filter(|l| !l.starts_with('#')).find_map(|line| {
            let fields = fields(line.trim_end_matches('\r'));
            let [host, port, dbname, user, password] = fields.as_slice() else { return None };
            let fits = [host, port, dbname, user].iter().zip(&wanted).all(|((raw, value), w)| raw == "*" || value == w);
            (fits && !password.1.is_empty()).then(|| Secret::new(password.1.clone()))
        })
    })
}

/// Splits at `:`; each field as it stands (a wildcard is a bare `*`) and unescaped. What follows the fourth colon is the
/// password up to the next bare colon.
fn fields(line: &str) -> Vec<(String, String)> {
    let mut out = vec![(String::new(), String::new())];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = out.len() - 1;
        match c {
            ':' if out.len() == 5 => break,
            ':' => out.push((String::new(), String::new())),
            '\\' => {
                let escaped = chars.next();
                out[last].0.push('\\');
                out[last].0.extend(escaped);
                out[last].1.extend(escaped);
            }
            c => {
                out[last].0.push(c);
                out[last].1.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(file: &str, url: &str) -> Option<String> {
        let url = crate::config::pg_url::parse(url, None).unwrap().url;
        lookup(file, &url).map(|s| s.expose().to_owned())
    }

    #[test]
    fn the_first_fitting_line_wins() {
        let file = "# h:5432:db:u:no\nh:5433:db:u:other\nh:5432:*:u:p\\:w\\\\\nh:5432:db:u:late\n";
        assert_eq!(password(file, "postgresql://u@h/db").as_deref(), Some("p:w\\"));
        assert_eq!(password(file, "postgresql://u@h:5433/db").as_deref(), Some("other"));
        assert_eq!(password(file, "postgresql://v@h/db"), None);
    }

    #[test]
    fn the_default_socket_is_localhost_and_an_escaped_star_is_no_wildcard() {
        assert_eq!(password("localhost:5432:d:u:x", "postgresql://u@/d").as_deref(), Some("x"));
        assert_eq!(password("\\*:*:*:*:x", "postgresql://u@h/d"), None);
        assert_eq!(password("a:*:*:*", "postgresql://u@a/d"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        std::fs::write(&path, "*:*:*:*:x").unwrap();
        let url = crate::config::pg_url::parse("postgresql://u@h/d", None).unwrap().url;
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o644);
        assert!(matches!(find(&url, Some(&path), &Environment::empty()), Found::Ignored(..)));
        set(0o600);
        let environment = Environment::of([("PGPASSFILE", path.to_str().unwrap())]);
        assert_eq!(find(&url, None, &environment), Found::Password(Secret::new("x")));
    }
}
