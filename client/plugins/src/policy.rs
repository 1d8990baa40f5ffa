//! Which libraries may be loaded, and where they are looked for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The environment variable that [`LibraryPolicy::from_environment`] reads.
pub const PLUGIN_PATH_VARIABLE: &str = "MOFKA_PLUGIN_PATH";
/// Bytes of a library's file name: what file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;

/// Which libraries may be loaded for the topics that are opened. Their names come with the topics' documents: from the
/// network, from whoever may create topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LibraryPolicy {
    /// Those that the system's search path leads to (`LD_LIBRARY_PATH`, the cache of `ldconfig`, the system's directories), by
    /// plain file names. A name with a `/` is refused.
    SearchPath,
    /// Those that stand in one of these directories, in this order, and no others: by plain file names, or by paths of files
    /// there. Each has to be an absolute path.
    Directories(Vec<PathBuf>),
    /// None.
    Never,
}

impl Default for LibraryPolicy {
    /// What the environment says.
    fn default() -> Self {
        Self::from_environment()
    }
}

impl LibraryPolicy {
    /// What `MOFKA_PLUGIN_PATH` says: directories, with a `:` between them; nothing in it: no libraries; not set: the
    /// system's search path.
    pub fn from_environment() -> Self {
        Self::of_variable(std::env::var_os(PLUGIN_PATH_VARIABLE).as_deref())
    }

    fn of_variable(value: Option<&OsStr>) -> Self {
        let Some(value) = value else {
            return Self::SearchPath;
        };
        let directories = std::env::split_paths(value);
        // An empty entry is no wish for the current directory.
        let directories: Vec<PathBuf> = directories.filter(|path| !path.as_os_str().is_empty()).collect();
        match directories.is_empty() {
            true => Self::Never,
            false => Self::Directories(directories),
        }
    }

    /// What is to be given to the system's loader for this name: the name itself for its search path, else an absolute path.
    ///
    /// # Errors
    /// Why it may not be loaded, or that it is not there.
    pub(crate) fn find(&self, library: &str) -> Result<PathBuf, String> {
        if let Self::Never = self {
            return Err(format!(
                "this process may not load libraries ({PLUGIN_PATH_VARIABLE} is empty, or the program says so)"
            ));
        }
        let (directory, name) = match library.rsplit_once('/') {
            Some((directory, name)) => (Some(directory), name),
            None => (None, library),
        };
        check_name(name)?;
        match (self, directory) {
            (Self::Directories(known), Some(directory)) => with_directory(known, directory, name),
            (Self::Directories(known), None) => without_directory(known, name),
            (_, None) => Ok(name.into()),
            (_, Some(_)) => Err(format!(
                "a topic may name a library by its path only when its directory is in {PLUGIN_PATH_VARIABLE} (or given by the \
                 program)"
            )),
        }
    }
}

/// Whether this is the plain name of a file. The system's loader gives a meaning to others: an empty one is the program
/// itself, `$` begins a variable.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    match name.len() {
        1..=FILE_NAME_BYTES_MAX if name.chars().all(is_plain) && !name.starts_with('.') => Ok(()),
        _ => Err(format!(
            "{name:?} is no file name of a library: it has to be 1 to {FILE_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - +, with no . at \
             its beginning"
        )),
    }
}

fn without_directory(known: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    for directory in known {
        let path = absolute(directory)?.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    Err(format!(
        "there is no such file in {} ({PLUGIN_PATH_VARIABLE}, or what the program gave)",
        list(known)
    ))
}

fn with_directory(known: &[PathBuf], directory: &str, name: &str) -> Result<PathBuf, String> {
    if !directory.starts_with('/') && !directory.is_empty() {
        return Err("the path of a library has to be absolute".to_owned());
    }
    let asked = Path::new("/").join(directory);
    // Where it really is: `..` and links lead nowhere else.
    let asked = asked
        .canonicalize()
        .map_err(|error| format!("cannot look into {}: {error}", asked.display()))?;
    for directory in known {
        if absolute(directory)?
            .canonicalize()
            .is_ok_and(|known| known == asked)
        {
            return Ok(asked.join(name));
        }
    }
    Err(format!(
        "{} is not one of the directories that libraries may be loaded from, {} ({PLUGIN_PATH_VARIABLE}, or what the program gave)",
        asked.display(),
        list(known)
    ))
}

/// A relative directory would be another one in each place that the program is started in.
fn absolute(directory: &Path) -> Result<&Path, String> {
    match directory.is_absolute() {
        true => Ok(directory),
        false => Err(format!(
            "{:?} in {PLUGIN_PATH_VARIABLE} (or given by the program) is not an absolute path",
            directory.display()
        )),
    }
}

fn list(directories: &[PathBuf]) -> String {
    let directories: Vec<_> = directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    directories.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_says_where_to_look() {
        let of = |value: &str| LibraryPolicy::of_variable(Some(OsStr::new(value)));
        assert_eq!(LibraryPolicy::of_variable(None), LibraryPolicy::SearchPath);
        assert_eq!(of(""), LibraryPolicy::Never);
        assert_eq!(of(":"), LibraryPolicy::Never);
        assert_eq!(
            of("/a::/b/c"),
            LibraryPolicy::Directories(vec!["/a".into(), "/b/c".into()])
        );
    }

    #[test]
    fn only_plain_names_go_to_the_search_path() {
        let find = |name: &str| LibraryPolicy::SearchPath.find(name);
        for name in ["libenergy.so", "libenergy-2+x.so.1", "energy"] {
            assert_eq!(find(name), Ok(name.into()));
        }
        for name in [
            "", ".", "..", ".so", "$ORIGIN", "a b.so", "libé.so", "a\0.so", "a\\b.so",
        ] {
            assert!(find(name).unwrap_err().contains("is no file name"), "{name:?}");
        }
        assert!(find(&"x".repeat(256)).is_err());
        for name in ["/lib/libx.so", "./libx.so", "../libx.so", "/libx.so"] {
            assert!(find(name).unwrap_err().contains("MOFKA_PLUGIN_PATH"), "{name:?}");
        }
        assert!(find("/lib/").is_err());
        for name in ["libenergy.so", "/lib/libx.so"] {
            assert!(
                LibraryPolicy::Never
                    .find(name)
                    .unwrap_err()
                    .contains("may not load")
            );
        }
    }

    #[test]
    fn directories_are_looked_through_in_order_and_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["a", "b", "c/d"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        for file in ["b/libx.so", "c/libx.so", "c/d/liby.so", "libz.so"] {
            std::fs::write(at(file), "").unwrap();
        }
        let policy = LibraryPolicy::Directories(vec![at("none"), at("a"), at("b"), at("c")]);
        assert_eq!(policy.find("libx.so"), Ok(at("b/libx.so")));
        for missing in ["liby.so", "libz.so", "libc.so.6"] {
            let told = policy.find(missing).unwrap_err();
            assert!(
                told.contains("no such file in") && told.contains(at("a").to_str().unwrap()),
                "{told}"
            );
        }
        let by_path = |path: &str| policy.find(at(path).to_str().unwrap());
        let real = at("").canonicalize().unwrap();
        assert_eq!(by_path("c/libx.so"), Ok(real.join("c/libx.so")));
        assert_eq!(by_path("c/d/../libx.so"), Ok(real.join("c/libx.so")));
        std::os::unix::fs::symlink(at("c"), at("e")).unwrap();
        assert_eq!(by_path("e/libx.so"), Ok(real.join("c/libx.so")));
        for outside in ["c/d/liby.so", "c/../libz.so", "libz.so"] {
            let told = by_path(outside).unwrap_err();
            assert!(told.contains("is not one of the directories"), "{told}");
        }
        assert!(
            by_path("nowhere/libx.so")
                .unwrap_err()
                .contains("cannot look into")
        );
        assert!(policy.find("b/libx.so").unwrap_err().contains("absolute"));
        assert!(by_path("c/..").is_err());
        let relative = LibraryPolicy::Directories(vec!["here".into()]);
        assert!(
            relative
                .find("libx.so")
                .unwrap_err()
                .contains("not an absolute path")
        );
        assert!(
            relative
                .find(at("c/libx.so").to_str().unwrap())
                .unwrap_err()
                .contains("not an absolute path")
        );
    }
}
