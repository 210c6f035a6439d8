//! Benchmark of the main job: `cargo bench --bench main_job`.
//!
//! Every figure stands beside a peer that was measured in the same run:
//! `openssl dgst -sha256`, the bare hash of bytes in memory, and Apptainer
//! where `SIGSIF_APPTAINER` gives its command. Runs alternate, the median
//! counts. Needs 4 GiB of free disk; `SIGSIF_BENCH_DIR` says where.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use sha2::Digest as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tools::{Layout, MIB, SIGSIF, fixture, next, run, sign, text, time, verify};

const ROUNDS: usize = 7;

fn main() {
    // `cargo test --benches` runs this without the flag: nothing to measure.
    if !tools::is_wanted() {
        return;
    }
    let folder = tools::folder();
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
    let verify_one = || run(&mut verify(&public, &one));
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
        || run(&mut verify(&public, &eight)),
        "1 signature",
        verify_one,
        "<= 1.1",
    );
    row(
        "verify 4 x 256 MiB",
        || run(&mut verify(&public, &four)),
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
    if tools::apptainer(&[]).is_some() {
        let peer = |args: &[&str], image: &Path| {
            let mut command = tools::apptainer(args).expect("a command");
            run(command.arg(image));
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
        let list = || run(Command::new(SIGSIF).args(["sif", "list"]).arg(&small));
        let list = tools::median((0..ROUNDS * 3).map(|_| time(&list)).collect());
        println!(
            "| sif list | {} | SIGSIF_APPTAINER is not set | | | |",
            text(list)
        );
    }
    println!(
        "\npeak resident memory, verify 1 GiB: {}",
        peak(&verify(&public, &one))
    );
    println!(
        "peak resident memory, verify 4 x 256 MiB: {}",
        peak(&verify(&public, &four))
    );
    println!(
        "peak resident memory, verify --cosign 4 x 256 MiB: {}",
        peak(&cosign())
    );
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

/// Writes an image of partitions with pseudo-random data, in one group.
fn make_image(path: &Path, sizes: &[u64]) {
    let objects: Vec<_> = sizes.iter().map(|size| (*size, 1)).collect();
    tools::make_image(
        path,
        &Layout {
            objects: &objects,
            capacity: 48,
            is_sparse: false,
        },
    );
}
