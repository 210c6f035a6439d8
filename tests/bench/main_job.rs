//! Benchmark of the main job: `cargo bench --bench main_job`.
//!
//! Every figure stands beside a peer that was measured in the same run:
//! `openssl dgst -sha256`, the bare hash of bytes in memory, and Apptainer
//! where `SIGSIF_APPTAINER` gives its command. Runs alternate, the median
//! counts. Needs 4 GiB of free disk; `SIGSIF_BENCH_DIR` says where.

#![allow(missing_docs, reason = "a program, not a library")]

use sha2::Digest as _;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SIGSIF: &str = env!("CARGO_BIN_EXE_sigsif");
const ROUNDS: usize = 7;
const MIB: u64 = 1 << 20;

fn main() {
    // `cargo test --benches` runs this without the flag: nothing to measure.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let root = std::env::var_os("SIGSIF_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(root).expect("folder for images");
    let key = fixture("keys/ed25519.key.pem");
    let public = fixture("keys/ed25519.pub.pem");

    let one = folder.path().join("one.sif");
    make_image(&one, &[1024 * MIB]);
    sign(&one, &key);
    let eight = folder.path().join("eight.sif");
    fs::copy(&one, &eight).expect("copy");
    (0..7).for_each(|_| sign(&eight, &key));
    let four = folder.path().join("four.sif");
    make_image(&four, &[256 * MIB; 4]);
    sign(&four, &key);
    let small = fixture("native/pgp-one.sif");

    let bytes = fs::read(&one).expect("read");
    println!("median of {ROUNDS} alternating runs, warm page cache\n");
    println!("| what | time | beside | time | ratio | target |");
    println!("|---|---|---|---|---|---|");
    let verify_one = || run(verify(&public, &one));
    row(
        "verify 1 GiB",
        verify_one,
        "openssl dgst -sha256",
        || run(Command::new("openssl").args(["dgst", "-sha256"]).arg(&one)),
        "<= 0.85",
    );
    row(
        "verify 1 GiB",
        verify_one,
        "bare SHA-256 in memory",
        || {
            std::hint::black_box(sha2::Sha256::digest(&bytes));
        },
        "<= 1.08",
    );
    drop(bytes);
    row(
        "verify 8 signatures",
        || run(verify(&public, &eight)),
        "1 signature",
        verify_one,
        "<= 1.1",
    );
    row(
        "verify 4 x 256 MiB",
        || run(verify(&public, &four)),
        "on one core",
        || {
            let mut command = Command::new("taskset");
            run(command
                .args(["-c", "0", SIGSIF, "verify", "--key"])
                .arg(&public)
                .arg(&four));
        },
        "<= 0.6",
    );
    let (oci, layers) = make_oci_sif(folder.path());
    let cosign = || {
        let mut command = Command::new(SIGSIF);
        command.args(["verify", "--cosign", "--key"]);
        command.arg(fixture("cosign/keys/p256.pub")).arg(&oci);
        command
    };
    row(
        "verify --cosign, 4 layers of 256 MiB",
        || run(&mut cosign()),
        "openssl dgst -sha256",
        || {
            run(Command::new("openssl")
                .args(["dgst", "-sha256"])
                .args(&layers))
        },
        "<= 0.5",
    );
    if let Ok(apptainer) = std::env::var("SIGSIF_APPTAINER") {
        let peer = |args: &[&str], image: &Path| {
            let mut words = apptainer.split_whitespace();
            let mut command = Command::new(words.next().expect("command"));
            run(command.args(words).args(args).arg(image));
        };
        let public_text = public.to_string_lossy().into_owned();
        row(
            "verify 1 GiB",
            verify_one,
            "apptainer verify",
            || {
                peer(&["verify", "--key", &public_text], &one);
            },
            "< 1",
        );
        row(
            "sif list",
            || run(Command::new(SIGSIF).args(["sif", "list"]).arg(&small)),
            "apptainer sif list",
            || peer(&["sif", "list"], &small),
            "<= 0.2",
        );
    } else {
        let list = median(|| run(Command::new(SIGSIF).args(["sif", "list"]).arg(&small)));
        println!(
            "| sif list | {} | SIGSIF_APPTAINER is not set | | | |",
            text(list)
        );
    }
    println!(
        "\npeak resident memory, verify 1 GiB: {}",
        peak(verify(&public, &one))
    );
    println!(
        "peak resident memory, verify 4 x 256 MiB: {}",
        peak(verify(&public, &four))
    );
    println!(
        "peak resident memory, verify --cosign 4 x 256 MiB: {}",
        peak(&cosign())
    );
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/peers")
        .join(name)
}

fn verify(public: &Path, image: &Path) -> &'static mut Command {
    let command = Box::leak(Box::new(Command::new(SIGSIF)));
    command.args(["verify", "--key"]).arg(public).arg(image)
}

fn sign(image: &Path, key: &Path) {
    run(Command::new(SIGSIF)
        .args(["sign", "--key"])
        .arg(key)
        .arg(image));
}

fn run(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("start");
    assert!(status.success(), "{command:?}: {status}");
}

fn row(what: &str, ours: impl Fn(), peer: &str, theirs: impl Fn(), target: &str) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    ours();
    theirs();
    for _ in 0..ROUNDS {
        a.push(time(&ours));
        b.push(time(&theirs));
    }
    a.sort();
    b.sort();
    let (a, b) = (a[ROUNDS / 2], b[ROUNDS / 2]);
    let ratio = a.as_secs_f64() / b.as_secs_f64();
    println!(
        "| {what} | {} | {peer} | {} | {ratio:.2} | {target} |",
        text(a),
        text(b)
    );
}

fn median(work: impl Fn()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS * 3).map(|_| time(&work)).collect();
    times.sort();
    times[times.len() / 2]
}

fn time(work: &impl Fn()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn text(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Peak of a run, from GNU time.
fn peak(command: &Command) -> String {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "peak %M KiB"])
        .arg(command.get_program())
        .args(command.get_args())
        .output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr)
            .lines()
            .find_map(|line| line.strip_prefix("peak "))
            .unwrap_or("unknown")
            .to_owned(),
        Err(_) => "GNU time is not installed".to_owned(),
    }
}

/// Makes a signed OCI-SIF of four layers; the layers lie as files beside it.
fn make_oci_sif(folder: &Path) -> (PathBuf, Vec<PathBuf>) {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("folder");
    let blob = |bytes: &[u8]| {
        let digits: String = sha2::Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let path = blobs.join(&digits);
        fs::write(&path, bytes).expect("write");
        (
            format!("\"size\":{},\"digest\":\"sha256:{digits}\"", bytes.len()),
            path,
        )
    };
    let oci = "application/vnd.oci.image";
    let (mut entries, mut layers) = (Vec::new(), Vec::new());
    for seed in 1..=4 {
        let mut state = seed;
        let bytes: Vec<u8> = (0..256 * MIB / 8).flat_map(|_| next(&mut state)).collect();
        let (content, path) = blob(&bytes);
        entries.push(format!(
            "{{\"mediaType\":\"{oci}.layer.v1.tar\",{content}}}"
        ));
        layers.push(path);
    }
    let (config, _) = blob(br#"{"architecture":"amd64","os":"linux"}"#);
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{oci}.manifest.v1+json\",\"config\":{{\"mediaType\":\"{oci}.config.v1+json\",{config}}},\"layers\":[{}]}}",
        entries.join(",")
    );
    let (manifest, _) = blob(manifest.as_bytes());
    let index = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{oci}.index.v1+json\",\"manifests\":[{{\"mediaType\":\"{oci}.manifest.v1+json\",{manifest}}}]}}"
    );
    fs::write(layout.join("index.json"), index).expect("write");
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("write");
    let image = folder.join("four.oci.sif");
    run(Command::new(SIGSIF)
        .args(["sif", "import-layout"])
        .arg(&layout)
        .arg(&image));
    run(Command::new(SIGSIF)
        .args(["sign", "--cosign", "--key"])
        .arg(fixture("cosign/keys/p256.pem"))
        .arg(&image));
    (image, layers)
}

/// xorshift64: data that no file system compresses away.
fn next(state: &mut u64) -> [u8; 8] {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.to_le_bytes()
}

/// Writes an image of partitions with pseudo-random data, in one group.
fn make_image(path: &Path, sizes: &[u64]) {
    let mut file = File::create(path).expect("create");
    let mut header = [0_u8; 128];
    header[32..45].copy_from_slice(b"SIF_MAGIC\x0001\x00");
    header[45..48].copy_from_slice(b"02\0");
    header[48..64].copy_from_slice(b"sigsif-benchmark");
    let mut table = Vec::new();
    let mut offset = 32768_u64;
    for (index, size) in sizes.iter().enumerate() {
        file.seek(SeekFrom::Start(offset)).expect("seek");
        let mut state = offset;
        for _ in 0..size / MIB {
            let block: Vec<u8> = (0..MIB / 8).flat_map(|_| next(&mut state)).collect();
            file.write_all(&block).expect("write");
        }
        let mut slot = vec![0_u8; 585];
        let id = u32::try_from(index + 1).expect("id");
        slot[0..4].copy_from_slice(&0x4007_i32.to_le_bytes());
        slot[4] = 1;
        slot[5..9].copy_from_slice(&id.to_le_bytes());
        slot[9..13].copy_from_slice(&0xf000_0001_u32.to_le_bytes());
        slot[17..25].copy_from_slice(&offset.to_le_bytes());
        slot[25..33].copy_from_slice(&size.to_le_bytes());
        table.extend_from_slice(&slot);
        offset += size;
    }
    table.resize(48 * 585, 0);
    let free = 48 - sizes.len() as u64;
    let numbers = [0, 0, free, 48, 4096, 48 * 585, 32176, offset - 32176];
    for (index, number) in numbers.into_iter().enumerate() {
        header[64 + index * 8..72 + index * 8].copy_from_slice(&number.to_le_bytes());
    }
    for (position, bytes) in [(0, &header[..]), (4096, &table[..])] {
        file.seek(SeekFrom::Start(position)).expect("seek");
        file.write_all(bytes).expect("write");
    }
    file.sync_all().expect("sync");
}
