//! Files that are written in a folder which others may have prepared: no link in it is followed to a file
//! elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Options that open a file of the folder itself: a symbolic link in its place is refused.
pub(crate) fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options
}

/// Opens a file so, and says of a link that it is one. A link to a device, `/dev/null` say, is followed:
/// nothing of anybody's can be overwritten there. A pipe is not waited for.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match tts_model::files::can_open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
        _ => {}
    }
    let is_link = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    match no_link(options).open(path) {
        Err(_) if is_link(path) => device(path)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is a symbolic link, which is not followed",
            )
        }),
        other => other,
    }
}

/// The device that a link leads to, if it does; what was opened is looked at, not what stood there before.
fn device(path: &Path) -> io::Result<Option<File>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let is_device = |metadata: &std::fs::Metadata| metadata.file_type().is_char_device();
        if std::fs::metadata(path).is_ok_and(|metadata| is_device(&metadata)) {
            let file = OpenOptions::new().append(true).open(path)?;
            return Ok(is_device(&file.metadata()?).then_some(file));
        }
    }
    let _ = path;
    Ok(None)
}

/// A new file: what stood in its place, or the link that did, is removed and not written through.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Puts a file of these bytes in the place of `path`, whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    let mut file = create_new(&tmp)?;
    file.write_all(bytes)?;
    drop(file);
    std::fs::rename(tmp, path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_are_refused_or_replaced_and_never_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let victim = at("victim");
        for name in ["a", "b", "c", "c.tmp"] {
            std::fs::write(&victim, "mine").unwrap();
            std::os::unix::fs::symlink(&victim, at(name)).unwrap();
        }
        let refused = open(OpenOptions::new().append(true).create(true), &at("a")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it is a symbolic link, which is not followed"
        );
        std::os::unix::fs::symlink("/dev/null", at("null")).unwrap();
        open(OpenOptions::new().append(true), &at("null")).unwrap();
        create_new(&at("b")).unwrap().write_all(b"new").unwrap();
        replace(&at("c"), b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
        for name in ["b", "c"] {
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "new");
            assert!(!at(name).is_symlink());
        }
    }
}
