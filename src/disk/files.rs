//! Small files: capped reads and atomic, private writes.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Largest key file, in bytes.
pub const MAX_KEY_FILE: u64 = 1 << 20;
/// Longest line of a descriptor, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// Start of the names of files that are being written.
const TEMPORARY: &str = ".sigsif-new-";
/// Largest keyring file, in bytes.
pub const MAX_KEYRING: u64 = 1 << 30;

/// Reads a whole file of at most `cap` bytes; works on pipes too.
///
/// # Errors
/// The system's refusal, or a file above the cap.
pub fn read(path: &Path, cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_all(File::open(path)?, cap)
}

/// Reads a file whose last path element is no symbolic link.
///
/// # Errors
/// As [`read`]; `too many levels of symbolic links` for a link.
pub fn read_no_follow(path: &Path, cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    read_all(file, cap)
}

/// Reads what standard input still has, at most `cap` bytes.
///
/// # Errors
/// As [`read`].
pub fn read_stdin(cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Not by its path: that would open a file anew, from its beginning, and no socket at all.
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let known = file.metadata().map_or(0, |data| data.len());
    read_up_to(Patient(file), known, cap)
}

/// Reads one line from a descriptor that the caller has open: the next one, and no byte more.
///
/// # Errors
/// The system's refusal, for example a number that is not open; a line without end.
pub fn read_line_from_fd(number: i32) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = Patient(of_number(number)?);
    let room = usize::try_from(MAX_LINE).unwrap_or_default();
    // One allocation: growing would leave copies of secrets.
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    let mut byte = Zeroizing::new([0]);
    while line.last() != Some(&b'\n') {
        match file.read(&mut byte[..]) {
            Ok(0) => break,
            Ok(_) if line.len() == room => {
                return Err(io::Error::other(format!(
                    "line is longer than {MAX_LINE} bytes"
                )));
            }
            Ok(_) => line.extend_from_slice(&byte[..]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    Ok(line)
}

/// The file behind a number, the very one that is open; the number stays the caller's.
fn of_number(number: i32) -> io::Result<File> {
    let same = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    match same {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::BADF) => Err(Errno::BADF.into()),
        // Systems before 5.6 and some containers do not give it. What /proc has is opened anew,
        // which no socket can be.
        Err(_) => {
            let mut file = File::open(format!("/proc/self/fd/{number}"))?;
            let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
            let position = facts.unwrap_or_default();
            let position = position.lines().find_map(|line| line.strip_prefix("pos:"));
            let position = position.and_then(|text| text.trim().parse().ok());
            if let (Some(position), true) = (position, file.metadata()?.is_file()) {
                file.seek(SeekFrom::Start(position))?;
            }
            Ok(file)
        }
    }
}

/// Reads the first line of a file, without its end.
///
/// # Errors
/// As [`read`].
pub fn read_first_line(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    first_line(File::open(path)?)
}

fn first_line(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut all = read_all(file, MAX_KEY_FILE)?;
    if let Some(end) = all.iter().position(|b| *b == b'\n') {
        all.truncate(end);
        if all.last() == Some(&b'\r') {
            all.pop();
        }
    }
    Ok(all)
}

/// What somebody else opened, who may have set it not to wait for what comes.
pub(super) struct Patient<F>(pub(super) F);

impl<F: Read + AsFd> Read for Patient<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(&self.0, PollFlags::IN)];
                    rustix::io::retry_on_intr(|| poll(&mut wanted, None))?;
                }
                other => return other,
            }
        }
    }
}

pub(super) fn read_all(file: File, cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let known = file.metadata().map_or(0, |data| data.len());
    read_up_to(file, known, cap)
}

/// `known`: how long the system says it is.
fn read_up_to(file: impl Read, known: u64, cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // One allocation for ordinary files: growing would leave copies of secrets.
    let room = usize::try_from(known.min(cap))
        .unwrap_or(0)
        .saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > cap) {
        return Err(io::Error::other(format!("file is larger than {cap} bytes")));
    }
    Ok(bytes)
}

/// Replaces a file in one step: old content or new content, never a mixture.
///
/// # Errors
/// The system's refusal; then the old file is untouched.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let mut new = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(PermissionsExt::from_mode(mode))
        .tempfile_in(folder)?;
    new.write_all(content)?;
    // The mode at creation is cut by the umask.
    new.as_file()
        .set_permissions(PermissionsExt::from_mode(mode))?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Whether a path means what the caller has open for us, behind `sudo` for example.
fn is_given(path: &Path) -> bool {
    let own = ["/dev/fd", "/proc/self/fd"];
    let ends = ["/dev/stdout", "/dev/stderr"];
    ends.iter().any(|end| path == Path::new(end))
        || path
            .parent()
            .is_some_and(|folder| own.iter().any(|own| folder == Path::new(own)))
}

/// Makes a file that is not there yet: whole or not at all. The umask cuts `mode`.
///
/// # Errors
/// The system's refusal; of kind [`io::ErrorKind::AlreadyExists`] if anything
/// has that name, a symbolic link included.
pub fn create_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let mut new = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(PermissionsExt::from_mode(mode))
        .tempfile_in(folder)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Removes a file.
///
/// # Errors
/// The system's refusal.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Writes a file that a user named: at once if it is an ordinary file or new, else into what is
/// there, a pipe for example. A symbolic link is followed.
///
/// The umask cuts `mode`. What only this user may read goes into no pipe of another one.
///
/// # Errors
/// The system's refusal; then an old file is untouched.
pub fn write_named(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let target = match std::fs::metadata(path) {
        Ok(data) if !data.is_file() => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            let owner = file.metadata()?.uid();
            let user = rustix::process::geteuid().as_raw();
            if mode & 0o077 == 0 && ![0, user].contains(&owner) && !is_given(path) {
                return Err(io::Error::other(format!(
                    "belongs to user {owner}, who could read the key"
                )));
            }
            return file.write_all(content);
        }
        Ok(_) => std::fs::canonicalize(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            path.to_owned()
        }
        Err(error) => return Err(error),
    };
    let folder = folder_of(&target);
    let mut new = tempfile::Builder::new()
        .prefix(".sigsif-out-")
        .permissions(PermissionsExt::from_mode(mode))
        .tempfile_in(folder)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(&target).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Removes what killed writers left in a folder. The caller holds its lock.
///
/// Best effort: a file that stays is private and read by nobody.
pub fn sweep(folder: &Path, _lock: &Lock) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Holds an advisory lock until it is dropped.
pub struct Lock(#[expect(dead_code, reason = "dropping it releases the lock")] File);

/// Waits for the exclusive lock of a folder.
///
/// Whoever may open something may hold its lock for ever: of a folder that others can read, a
/// private file in it is locked.
///
/// # Errors
/// The system's refusal.
pub fn lock_folder(folder: &Path) -> io::Result<Lock> {
    let file = File::open(folder)?;
    let is_private = file.metadata()?.mode() & 0o044 == 0;
    if !is_private {
        match lock_file_in(folder) {
            // Where nothing can be made nothing will be written.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) => {}
            other => return other,
        }
    }
    match lock(file.as_fd()) {
        Ok(()) => Ok(Lock(file)),
        // Some network file systems lock no folders.
        Err(error) if error.kind() != io::ErrorKind::Interrupted => lock_file_in(folder),
        Err(error) => Err(error),
    }
}

fn lock_file_in(folder: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(folder.join(".lock"))?;
    lock(file.as_fd())?;
    Ok(Lock(file))
}

fn lock(file: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive))
        .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_away_what_killed_writers_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(folder.path(), private).unwrap();
        for name in [".sigsif-new-abc", "pgp-secret", ".sigsif-other"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        sweep(folder.path(), &lock_folder(folder.path()).unwrap());
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".sigsif-other", "pgp-secret"]);
    }
}
