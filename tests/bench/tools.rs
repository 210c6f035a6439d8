//! What the benchmarks share: images, runs, times.
#![allow(dead_code, reason = "every benchmark uses only a part")]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const SIGSIF: &str = env!("CARGO_BIN_EXE_sigsif");
pub const MIB: u64 = 1 << 20;

/// Whether this is a run to measure; `cargo test --benches` is none.
pub fn is_wanted() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// A folder that is thrown away at the end.
pub fn folder() -> tempfile::TempDir {
    let root = std::env::var_os("SIGSIF_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(root).expect("folder for images")
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/peers")
        .join(name)
}

/// `apptainer` with arguments, if `SIGSIF_APPTAINER` gives its command.
pub fn apptainer(args: &[&str]) -> Option<Command> {
    let words = std::env::var("SIGSIF_APPTAINER").ok()?;
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next()?);
    command.args(words).args(args);
    Some(command)
}

pub fn verify(public: &Path, image: &Path) -> Command {
    let mut command = Command::new(SIGSIF);
    command.args(["verify", "--key"]).arg(public).arg(image);
    command
}

pub fn sign(image: &Path, key: &Path) {
    run(Command::new(SIGSIF)
        .args(["sign", "--key"])
        .arg(key)
        .arg(image));
}

pub fn run(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("start");
    assert!(status.success(), "{command:?}: {status}");
}

pub fn time(work: &impl Fn()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub fn text(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// xorshift64: data that no file system compresses away.
pub fn next(state: &mut u64) -> [u8; 8] {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.to_le_bytes()
}

/// What an image is made of.
pub struct Layout<'a> {
    /// Size of each object in bytes, and its group.
    pub objects: &'a [(u64, u32)],
    /// Descriptors that the table has room for.
    pub capacity: usize,
    /// Whether the data is a hole.
    pub is_sparse: bool,
}

/// Writes an image of objects with pseudo-random data, or holes.
pub fn make_image(path: &Path, layout: &Layout<'_>) {
    let mut file = File::create(path).expect("create");
    let mut header = [0_u8; 128];
    header[32..45].copy_from_slice(b"SIF_MAGIC\x0001\x00");
    header[45..48].copy_from_slice(b"02\0");
    header[48..64].copy_from_slice(b"sigsif-benchmark");
    let mut table = Vec::new();
    let table_len = layout.capacity as u64 * 585;
    let data = (4096 + table_len).next_multiple_of(4096);
    let mut offset = data;
    for (index, (size, group)) in layout.objects.iter().enumerate() {
        if !layout.is_sparse {
            file.seek(SeekFrom::Start(offset)).expect("seek");
            let mut state = offset;
            let mut left = *size;
            while left > 0 {
                let block: Vec<u8> = (0..left.min(MIB).div_ceil(8))
                    .flat_map(|_| next(&mut state))
                    .collect();
                file.write_all(&block).expect("write");
                left -= left.min(MIB);
            }
        }
        let mut slot = vec![0_u8; 585];
        let id = u32::try_from(index + 1).expect("id");
        slot[0..4].copy_from_slice(&0x4007_i32.to_le_bytes());
        slot[4] = 1;
        slot[5..9].copy_from_slice(&id.to_le_bytes());
        slot[9..13].copy_from_slice(&(0xf000_0000_u32 | group).to_le_bytes());
        slot[17..25].copy_from_slice(&offset.to_le_bytes());
        slot[25..33].copy_from_slice(&size.to_le_bytes());
        table.extend_from_slice(&slot);
        offset += size;
    }
    table.resize(layout.capacity * 585, 0);
    let total = layout.capacity as u64;
    let free = total - layout.objects.len() as u64;
    let numbers = [0, 0, free, total, 4096, table_len, data, offset - data];
    for (index, number) in numbers.into_iter().enumerate() {
        header[64 + index * 8..72 + index * 8].copy_from_slice(&number.to_le_bytes());
    }
    for (position, bytes) in [(0, &header[..]), (4096, &table[..])] {
        file.seek(SeekFrom::Start(position)).expect("seek");
        file.write_all(bytes).expect("write");
    }
    file.set_len(offset).expect("length");
    file.sync_all().expect("sync");
}
