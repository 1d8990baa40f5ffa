//! `links`: this program under the names of the original's.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::original_names::NAMES;
use crate::output::Output;

pub(crate) fn run(directory: &Path, output: Output) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|e| Failure::failed(format!("cannot find this program's file: {e}")))?;
    let mut made = Vec::new();
    for name in NAMES {
        let link = directory.join(name);
        // Only a link is replaced: a file of that name is somebody's program.
        let replaced = match std::fs::symlink_metadata(&link) {
            Ok(found) if found.is_symlink() => std::fs::remove_file(&link),
            _ => Ok(()),
        };
        replaced
            .and_then(|()| symlink(&program, &link))
            .map_err(|e| Failure::failed(format!("cannot create the link {}: {e}", link.display())))?;
        made.push(link.display().to_string());
    }
    output.print(&json!({ "links": made, "program": program }), || made.join("\n"))
}
