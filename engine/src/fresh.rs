//! New files under names that may be taken.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates an empty file, instead of any that has the name. `options`: how it is opened, apart from that.
///
/// What has the name is removed, never emptied: after a power cut on a file system without a journal, the name of a file that had been removed can
/// be there again and lead to another one, which was given its inode and is in use.
///
/// # Errors
/// What the file system said.
pub(crate) fn create(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).create_new(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_the_name_keeps_its_content_under_another_one() {
        let scratch = tempfile::tempdir().unwrap();
        let (name, other) = (scratch.path().join("name"), scratch.path().join("other"));
        std::fs::write(&other, "in use").unwrap();
        std::fs::hard_link(&other, &name).unwrap();
        let file = create(&mut OpenOptions::new(), &name).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "in use");
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "");
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let name = scratch.path().join("name");
        std::fs::create_dir(&name).unwrap();
        create(&mut OpenOptions::new(), &name).unwrap_err();
        assert!(name.is_dir());
    }
}
