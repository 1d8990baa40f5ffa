//! Writes settings into the configuration's file: only what changes, so that the rest looks as its author left it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mofka_client::ConfigGetResponse;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Writes what these keys are now into the file that the node's configuration came from, and tells which that is.
///
/// Nothing is written when the file does not say what the node started with, but for what was changed since then: it is
/// another machine's, or somebody edited it.
///
/// # Errors
/// Why not.
pub(super) fn save(node: &ConfigGetResponse, keys: &[&str]) -> Result<PathBuf, String> {
    let Some(file) = &node.file else {
        return Err(
            "the node was started without a configuration file, or with one of the original's form"
                .to_owned(),
        );
    };
    let path = PathBuf::from(&file.path);
    if let Some(key) = keys
        .iter()
        .find(|key| file.overridden.iter().any(|known| known == *key))
    {
        return Err(format!(
            "the command line or the environment of the node says what {key} is, and counts more than {}: change it there",
            path.display()
        ));
    }
    let cannot_read = |error: &dyn std::fmt::Display| {
        format!(
            "{} cannot be read here, although the node was started with it: {error}",
            path.display()
        )
    };
    let text = std::fs::read_to_string(&path).map_err(|error| cannot_read(&error))?;
    let said = leaves(&text, node).map_err(|error| cannot_read(&error))?;
    for (key, value) in &said {
        let setting = node.settings.iter().find(|setting| setting.key == *key);
        let is_known = setting.is_some_and(|setting| [&setting.configured, &setting.value].contains(&value));
        if !is_known && !file.overridden.contains(key) {
            return Err(format!(
                "{} says {key}: {value}, which is neither what the node started with nor what it has now: it is another \
                 node's, or was edited since",
                path.display()
            ));
        }
    }
    let mut expected = said;
    let mut edited = text;
    for key in keys {
        let Some(setting) = node.settings.iter().find(|setting| setting.key == *key) else {
            return Err(format!("the node does not tell what {key} is"));
        };
        edited = set(&edited, &path_of(key), &setting.value).map_err(|error| cannot_read(&error))?;
        expected.insert(setting.key.clone(), setting.value.clone());
    }
    if leaves(&edited, node).as_ref() != Ok(&expected) {
        return Err(format!(
            "{} is written in a way that is not understood here",
            path.display()
        ));
    }
    replace(&path, &edited).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(path)
}

/// What is to be put into a configuration so that these keys are what they are now.
pub(super) fn lines(node: &ConfigGetResponse, keys: &[&str]) -> Value {
    let mut document = Map::new();
    for setting in &node.settings {
        if !keys.contains(&setting.key.as_str()) {
            continue;
        }
        match path_of(&setting.key)[..] {
            [outer, inner] => {
                let section = document.entry(outer).or_insert_with(|| json!({}));
                if let Some(section) = section.as_object_mut() {
                    section.insert(inner.to_owned(), setting.value.clone());
                }
            }
            _ => {
                document.insert(setting.key.clone(), setting.value.clone());
            }
        }
    }
    Value::Object(document)
}

/// A key's steps from the outside to the inside.
fn path_of(key: &str) -> Vec<&str> {
    key.splitn(2, '.').collect()
}

/// Every setting that a configuration gives, by its key with dots.
fn leaves(text: &str, node: &ConfigGetResponse) -> Result<BTreeMap<String, Value>, String> {
    let document: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let is_setting = |key: &str| node.settings.iter().any(|setting| setting.key == key);
    let mut found = BTreeMap::new();
    for (outer, value) in document {
        match value {
            Value::Object(section) if !is_setting(&outer) => {
                for (inner, value) in section {
                    found.insert(format!("{outer}.{inner}"), value);
                }
            }
            value => {
                found.insert(outer, value);
            }
        }
    }
    match found.keys().find(|key| !is_setting(key)) {
        Some(key) => Err(format!("it has a key \"{key}\" that the node does not know")),
        None => Ok(found),
    }
}

/// The same text, an object, with this value at the end of the path.
fn set(text: &str, path: &[&str], value: &Value) -> Result<String, serde_json::Error> {
    let Some((name, inner)) = path.split_first() else {
        return Ok(value.to_string());
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    if let Some(member) = members.get(*name).map(|member| member.get()) {
        // The member is a part of the text.
        let at = member.as_ptr().addr() - text.as_ptr().addr();
        let (before, after) = (&text[..at], &text[at + member.len()..]);
        return Ok(format!("{before}{}{after}", set(member, inner, value)?));
    }
    let new = inner
        .iter()
        .rev()
        .fold(value.clone(), |value, name| json!({ *name: value }));
    let new = format!("{}: {new}", Value::from(*name));
    let open = text.find('{').map_or(0, |at| at + 1);
    let (before, after) = text.split_at(open);
    let blanks = &after[..after.len() - after.trim_start().len()];
    Ok(match members.is_empty() {
        true => format!("{before}{new}{after}"),
        false if blanks.is_empty() => format!("{before}{new}, {after}"),
        false => format!("{before}{blanks}{new},{after}"),
    })
}

/// Replaces a file: readers and crashes see the old one or the new one. Owner and mode stay.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let old = std::fs::metadata(path)?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if let Err(error) = written {
        std::fs::remove_file(&beside).ok();
        return Err(error);
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use mofka_client::{ConfigFileInfo, Setting};

    use super::*;

    fn edited(text: &str, path: &[&str], value: Value) -> String {
        let edited = set(text, path, &value).unwrap();
        assert!(serde_json::from_str::<Value>(&edited).is_ok(), "{edited}");
        edited
    }

    #[test]
    fn only_what_changes_is_written() {
        let text =
            "{\n    \"limits\": { \"rings_max\": 3 ,\n \"x\": [1,  2]},\n    \"log_level\": \"info\"\n}\n";
        assert_eq!(
            edited(text, &["limits", "rings_max"], json!(40)),
            text.replace("3 ,", "40 ,")
        );
        assert_eq!(
            edited(text, &["log_level"], json!("warn")),
            text.replace("\"info\"", "\"warn\"")
        );
        assert_eq!(
            edited(text, &["rank"], json!(1)),
            text.replacen("\n    \"limits\"", "\n    \"rank\": 1,\n    \"limits\"", 1)
        );
        assert_eq!(
            edited(text, &["limits", "y"], json!(1)),
            text.replacen("{ \"rings_max\"", "{ \"y\": 1, \"rings_max\"", 1)
        );
        assert_eq!(edited("{}", &["a", "b"], json!([])), "{\"a\": {\"b\":[]}}");
        assert_eq!(
            edited("{\"z\":{}}", &["z", "b"], json!("\"")),
            "{\"z\":{\"b\": \"\\\"\"}}"
        );
    }

    fn node(path: &Path) -> ConfigGetResponse {
        let setting = |key: &str, configured: Value, value: Value| Setting {
            key: key.to_owned(),
            value,
            configured,
            live: true,
            note: String::new(),
        };
        ConfigGetResponse {
            settings: vec![
                setting("limits.rings_max", json!(3), json!(5)),
                setting("log_level", json!("info"), json!("info")),
                setting("shards", json!(2), json!(2)),
            ],
            file: Some(ConfigFileInfo {
                path: path.display().to_string(),
                overridden: vec!["shards".to_owned()],
            }),
        }
    }

    #[test]
    fn a_file_that_says_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let node = node(&path);
        let keys = ["limits.rings_max"];
        for (text, words) in [
            (
                "{\"limits\": {\"rings_max\": 4}}",
                "neither what the node started with",
            ),
            ("{\"log_level\": \"warn\"}", "log_level: \"warn\""),
            ("{\"other\": 1}", "\"other\""),
            ("[]", "cannot be read here"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = save(&node, &keys).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::write(&path, "{\"shards\": 7}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(save(&node, &["shards"]).unwrap_err().contains("command line"));
        // Twice: the second time the file has what the node has now.
        for _ in 0..2 {
            assert_eq!(save(&node, &keys).unwrap(), path);
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"limits\": {\"rings_max\":5}, \"shards\": 7}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(lines(&node, &keys), json!({"limits": {"rings_max": 5}}));
    }
}
