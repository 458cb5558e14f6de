//! What surrounds the file: variables, the user, credentials. Given as a value, so that tests need no process state.

use super::model::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables and the operating system's user. `Debug` prints names only.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    user: Option<String>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.keys()).field("user", &self.user).finish()
    }
}

impl Environment {
    /// No variables, no user, no home.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// These variables. `USER` names the user.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables: BTreeMap<String, String> = variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let user = variables.get("USER").cloned();
        Self { variables, user }
    }

    /// The process' own. The user is that of the effective uid, as libpq takes it.
    #[must_use]
    pub fn from_process() -> Self {
        let mut variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.to_string_lossy().into_owned())))
            .collect();
        let passwd = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        if let Some(home) = passwd.as_ref().and_then(|u| u.dir.to_str()) {
            variables.entry("HOME".into()).or_insert_with(|| home.to_owned());
        }
        Self { variables, user: passwd.map(|u| u.name) }
    }

    /// The variable's value; empty counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Names that begin with `PGEVICT_`, ascending.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.variables
            .iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(k, _)| k.as_str())
            .filter(|k| k.starts_with("PGEVICT_"))
    }

    /// The user who runs the process.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A systemd credential, one trailing newline cut; None where there is none of that name.
    pub(super) fn credential(&self, name: &str) -> Result<Option<Secret>, (PathBuf, String)> {
        let Some(folder) = self.get("CREDENTIALS_DIRECTORY") else { return Ok(None) };
        let path = Path::new(folder).join(name);
        match read_value(&path) {
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err((path, e.to_string())),
        }
    }
}

/// The contents of a file that holds one value. At most 1 MiB: a value is a line, not a device.
pub(super) fn read_value(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
