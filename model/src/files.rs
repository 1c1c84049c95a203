//! Reading whole files that others made: only what is a file, and no more of it than makes sense.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a regular file of at most `most` bytes. A pipe is not waited for and a device not read to no
/// end.
///
/// # Errors
/// What the system says; a path that is no regular file, or a longer one.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let metadata = regular(path)?;
    if metadata.len() > most {
        return Err(too_long(most));
    }
    read_to(File::open(path)?, most)
}

/// The bytes of a file, a pipe or a device that gives at most `most`: for what a user names on purpose, such
/// as `<(command)`.
///
/// # Errors
/// What the system says, a folder, or more bytes.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(not_regular(metadata.file_type()));
    }
    if metadata.is_file() && metadata.len() > most {
        return Err(too_long(most));
    }
    read_to(File::open(path)?, most)
}

/// Opens a file or a device to read from. A pipe, at whose other end nobody may ever write, is not waited for.
///
/// # Errors
/// What the system says; a folder, a pipe or a socket.
pub fn open(path: &Path) -> io::Result<File> {
    can_open(path)?;
    File::open(path)
}

/// Whether a path is a file or a device, so that nobody has to be waited for when it is opened.
///
/// # Errors
/// As [`open`].
pub fn can_open(path: &Path) -> io::Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() || is_device(kind) {
        Ok(())
    } else {
        Err(not_regular(kind))
    }
}

/// The text of a file, a pipe or a device, as [`read_bounded`] reads it.
///
/// # Errors
/// As [`read_bounded`]; also bytes that are not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// What the system knows of a regular file.
pub(crate) fn regular(path: &Path) -> io::Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    match metadata.is_file() {
        true => Ok(metadata),
        false => Err(not_regular(metadata.file_type())),
    }
}

fn read_to(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(too_long(most)),
        false => Ok(bytes),
    }
}

fn too_long(most: u64) -> io::Error {
    let most = match most >> 20 {
        0 => format!("{most} bytes"),
        mib => format!("{mib} MiB"),
    };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most}"))
}

fn not_regular(kind: FileType) -> io::Error {
    let what = if kind.is_dir() { "a folder" } else { special(kind) };
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what}, where a regular file should be"),
    )
}

#[cfg(unix)]
fn is_device(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: FileType) -> bool {
    false
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if is_device(kind) => "a device",
        () => "something else",
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "something else"
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bearable_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read_regular(&file, 4).unwrap(), b"1234");
        let said = |result: io::Result<Vec<u8>>| result.unwrap_err().to_string();
        assert_eq!(said(read_regular(&file, 3)), "it has more than 3 bytes");
        assert_eq!(said(read_bounded(&file, 3)), "it has more than 3 bytes");
        let zero = Path::new("/dev/zero");
        assert!(said(read_regular(zero, 9)).starts_with("it is a device"));
        assert_eq!(said(read_bounded(zero, 2 << 20)), "it has more than 2 MiB");
        assert!(said(read_regular(folder.path(), 9)).starts_with("it is a folder"));
        assert!(said(read_bounded(folder.path(), 9)).starts_with("it is a folder"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(zero, &link).unwrap();
        assert!(said(read_regular(&link, 9)).starts_with("it is a device"));
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            assert!(said(read_regular(&pipe, 9)).starts_with("it is a pipe"));
            assert!(said(open(&pipe).map(|_| Vec::new())).starts_with("it is a pipe"));
        }
        assert_eq!(
            read_regular(&folder.path().join("none"), 9).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
