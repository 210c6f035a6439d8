//! The memory map of a file, and what happens when the file shrinks under it; and the removal of
//! a file when a signal ends the program, [`Doomed`].
//!
//! This is the only unsafe code of the crate. A process that maps a file gets
//! SIGBUS when it touches a page behind the end of the file, which any other
//! process can cause by truncating it. The handler here puts a zero page in
//! the place of the lost one and takes a note; whoever reads the map asks
//! [`Map::lost`] before an answer leaves the program.
#![expect(
    unsafe_code,
    reason = "mapping a file, advising on pages and handling signals have no safe interface"
)]

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Maps that can exist at one time.
const SLOTS: usize = 256;

struct Slot {
    /// 0: free; `usize::MAX`: taken, no map yet; else the address of the map.
    start: AtomicUsize,
    len: AtomicUsize,
    lost: AtomicBool,
}

static WATCHED: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; SLOTS];
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// A read-only map of a regular file.
pub struct Map {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
    slot: &'static Slot,
    /// Whether pages came from the disk, not from memory, at any time so far.
    is_read: AtomicBool,
}

/// How far reading is ahead of what is asked for, in bytes.
const AHEAD: usize = 4 << 20;

/// What one request to read ahead is for: systems cut longer ones.
const REQUEST: usize = 512 << 10;

/// Pages in memory are mapped in a tenth of that time.
const FROM_DISK: Duration = Duration::from_micros(250);

impl Map {
    /// Maps the first `len` bytes of `file`.
    ///
    /// # Errors
    /// The system's refusal to map, or more than 256 maps at one time.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        handle_sigbus()?;
        let slot = WATCHED
            .iter()
            .find(|slot| {
                slot.start
                    .compare_exchange(0, usize::MAX, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            })
            .ok_or_else(|| io::Error::other("too many files are mapped at one time"))?;
        slot.lost.store(false, Ordering::Release);
        let mut this = Self {
            map: None,
            slot,
            is_read: AtomicBool::new(false),
        };
        if len > 0 {
            // SAFETY: the map is private to this struct and only read. Another
            // process may still change the file: bytes then differ between two
            // reads, so nothing that was checked is read again as a length or
            // position (`Image` copies header and table), and a shorter file is
            // caught by the handler below. No reference outlives `self`.
            let map = unsafe { MmapOptions::new().len(len).map(file)? };
            // Read-ahead is a wish; a refusal costs only time.
            let _ = map.advise(Advice::Sequential);
            slot.len.store(len, Ordering::Release);
            slot.start.store(map.as_ptr().addr(), Ordering::Release);
            this.map = Some(map);
        }
        Ok(this)
    }

    /// The mapped bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Maps the pages of a range in one step, which is cheaper than a fault for each few.
    ///
    /// Once that had to wait for a disk, what comes behind the range is asked for as well, so
    /// that it is read while the range is used: of its own the system reads ahead only 128 KiB
    /// by default, and waits for a disk and hashing then take turns.
    pub fn prepare(&self, range: Range<usize>) {
        let Some(map) = &self.map else { return };
        if self.is_read.load(Ordering::Relaxed) {
            let end = range.end.saturating_add(AHEAD).min(map.len());
            for start in (range.end..end).step_by(REQUEST) {
                let _ = map.advise_range(Advice::WillNeed, start, REQUEST.min(end - start));
            }
        }
        let begin = Instant::now();
        // A wish as well: older systems refuse, and the faults come one by one.
        let _ = map.advise_range(Advice::PopulateRead, range.start, range.len());
        if begin.elapsed() > FROM_DISK {
            self.is_read.store(true, Ordering::Relaxed);
        }
    }

    /// Gives the pages of a range back to the system.
    pub fn release(&self, range: Range<usize>) {
        if let Some(map) = &self.map {
            // SAFETY: the map is read-only and backed by a file, so a page that
            // is dropped comes back with the same content when it is touched.
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
    }

    /// Whether a page was lost since the map was made.
    pub fn lost(&self) -> bool {
        self.slot.lost.load(Ordering::Acquire)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.slot.start.store(usize::MAX, Ordering::Release);
        self.map = None;
        self.slot.start.store(0, Ordering::Release);
    }
}

/// Installs the handler once, and has a write past a file size limit return an
/// error instead of ending the process.
fn handle_sigbus() -> io::Result<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let installed = *INSTALLED.get_or_init(|| {
        PAGE.store(rustix::param::page_size(), Ordering::Release);
        // SAFETY: `sigaction` is plain data for which zero is a valid value;
        // the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                on_sigbus;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) == 0
        }
    });
    if installed {
        Ok(())
    } else {
        Err(io::Error::other("cannot install a handler for SIGBUS"))
    }
}

/// Puts zero pages where pages of a watched map were lost.
///
/// Only atomics, `mmap` and `sigaction` are used, which are safe here.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` for SIGBUS. The new pages
    // replace a part of a map that this process owns and only reads.
    unsafe {
        let address = (*info).si_addr().addr();
        for slot in &WATCHED {
            let start = slot.start.load(Ordering::Acquire);
            let end = start.saturating_add(slot.len.load(Ordering::Acquire));
            if start == 0 || address < start || address >= end {
                continue;
            }
            let page = address & !(PAGE.load(Ordering::Acquire).wrapping_sub(1));
            slot.lost.store(true, Ordering::Release);
            let errno = *libc::__errno_location();
            let zeros = libc::mmap(
                std::ptr::with_exposed_provenance_mut(page),
                end.wrapping_sub(page),
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            *libc::__errno_location() = errno;
            if zeros != libc::MAP_FAILED {
                return;
            }
        }
        // Not ours: the default action follows when the access is repeated.
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

/// A file that goes when a signal ends the program, as long as this value lives; one at a time.
pub struct Doomed(());

/// Path of that file: null, or a C string that is never freed.
static DOOMED: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

impl Doomed {
    /// Watches a file; nothing if another one is watched or the path cannot be a C string.
    pub fn new(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let null = std::ptr::null_mut();
        // A signal may come at any time after this, so the text stays for good.
        let text = path.into_raw();
        let won = DOOMED.compare_exchange(null, text, Ordering::AcqRel, Ordering::Relaxed);
        if won.is_err() {
            // SAFETY: it came from `into_raw` above and nobody else has seen it.
            drop(unsafe { CString::from_raw(text) });
            return None;
        }
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let handler: extern "C" fn(libc::c_int) = on_ending;
            // SAFETY: the handler has the signature that `signal` asks for and calls only what
            // is safe in a handler. What was ignored (nohup) stays so.
            unsafe {
                if libc::signal(signal, handler as libc::sighandler_t) == libc::SIG_IGN {
                    libc::signal(signal, libc::SIG_IGN);
                }
            }
        }
        Some(Self(()))
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        DOOMED.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// Removes the file and ends the program as the signal would have done.
extern "C" fn on_ending(signal: libc::c_int) {
    // SAFETY: the pointer is null or a C string that is never freed; `unlink`, `signal` and
    // `raise` are safe in a handler.
    unsafe {
        let path = DOOMED.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !path.is_null() {
            libc::unlink(path);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
