//! Images from and to a registry on this machine: `cargo bench --bench transfer`.
//!
//! Needs `docker-registry`, `skopeo` and `sqfs2tar` (`SIGSIF_DOCKER_REGISTRY`, `SIGSIF_SKOPEO` or `PATH`) and
//! 20 GiB of free disk; `SIGSIF_BENCH_DIR` says where. Runs alternate, the median counts.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use sha2::Digest as _;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tools::{MIB, SIGSIF, median, next, run, text, time};

const ROUNDS: usize = 5;
const LAYERS: u64 = 4;

fn main() {
    // `cargo test --benches` runs this without the flag: nothing to measure.
    if !tools::is_wanted() {
        return;
    }
    let folder = tools::folder();
    let folder = folder.path();
    let registry = Registry::start(folder);
    let layout = folder.join("layout");
    make_layout(&layout, LAYERS, 1024 * MIB / LAYERS);
    let image = registry.image();
    copy_in(&layout, &image);
    let copy = || {
        let to = folder.join("copy");
        let _ = fs::remove_dir_all(&to);
        let to = format!("oci:{}:one", to.display());
        time(&|| skopeo(&["--src-tls-verify=false", &image, &to]))
    };
    let output = folder.join("image.sif");
    let pull = |args: &[&str]| {
        let _ = fs::remove_file(&output);
        time(&|| run(&mut pull(args, &output, &image)))
    };
    println!("median of {ROUNDS} alternating runs, warm page cache\n");
    println!("| what | time | beside | time | ratio | target |");
    println!("|---|---|---|---|---|---|");
    let peer = "`skopeo copy` to an OCI layout";
    row(
        "`pull`, 4 layers of 256 MiB made one squashfs",
        &|| pull(&[]),
        peer,
        &copy,
        "none",
    );
    row(
        "`pull --with-cosign`, the same kept",
        &|| pull(&["--with-cosign"]),
        peer,
        &copy,
        "at most 1.5",
    );
    pushes(folder, &layout, &output);
    drop(registry);
    peaks(folder);
}

/// Every push goes to a registry of its own, which has nothing of the image.
fn pushes(folder: &Path, layout: &Path, file: &Path) {
    let emptied = || {
        let data = folder.join("empty");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data).expect("folder");
        Registry::start(&data)
    };
    let push = |file: &Path, args: &[&str]| {
        let registry = emptied();
        time(&|| run(&mut push_command(args, file, &registry.image())))
    };
    let copy = || {
        let registry = emptied();
        time(&|| copy_in(layout, &registry.image()))
    };
    row(
        "`push`, the same",
        &|| push(file, &[]),
        "`skopeo copy` from an OCI layout",
        &copy,
        "at most 1.5",
    );
    let small = folder.join("small");
    make_layout(&small, 1, 128 * MIB);
    let registry = emptied();
    copy_in(&small, &registry.image());
    let squashed = folder.join("squashed.sif");
    run(&mut pull(&[], &squashed, &registry.image()));
    drop(registry);
    let layer = folder.join("layer.squashfs");
    let found = Command::new(SIGSIF)
        .args(["sif", "dump", "1"])
        .arg(&squashed)
        .output()
        .expect("sigsif");
    fs::write(&layer, found.stdout).expect("write");
    row(
        "`push --layer-format tar`, one squashfs layer of 128 MiB",
        &|| push(&squashed, &["--layer-format", "tar"]),
        "`sqfs2tar` of the same, into `gzip`, alone",
        &|| {
            time(&|| {
                let mut shell = Command::new("sh");
                shell.args(["-c", "sqfs2tar \"$0\" | gzip > \"$0.tar.gz\""]);
                run(shell.arg(&layer));
            })
        },
        "none",
    );
    let registry = emptied();
    let turned = push_command(&["--layer-format", "tar"], &squashed, &registry.image());
    println!(
        "\npeak resident memory, push --layer-format tar: {}",
        peak(&turned)
    );
}

/// Memory for an image of 2 GiB.
fn peaks(folder: &Path) {
    let data = folder.join("large");
    fs::create_dir(&data).expect("folder");
    let registry = Registry::start(&data);
    let layout = folder.join("layout");
    fs::remove_dir_all(&layout).expect("remove");
    make_layout(&layout, LAYERS, 2048 * MIB / LAYERS);
    copy_in(&layout, &registry.image());
    let output = folder.join("image.sif");
    println!("\npeak resident memory, 2 GiB, limit 64 MiB:");
    for args in [&[][..], &["--with-cosign"]] {
        let pull = pull(args, &output, &registry.image());
        println!("pull {}: {}", args.join(" "), peak(&pull));
    }
    let data = folder.join("target");
    fs::create_dir(&data).expect("folder");
    let empty = Registry::start(&data);
    println!(
        "push: {}",
        peak(&push_command(&[], &output, &empty.image()))
    );
}

fn skopeo(args: &[&str]) {
    let mut command = Command::new(program("SIGSIF_SKOPEO", "skopeo"));
    command.args(["--insecure-policy", "copy", "-q", "--preserve-digests"]);
    run(command.args(args));
}

fn copy_in(layout: &Path, image: &str) {
    let from = format!("oci:{}:one", layout.display());
    skopeo(&["--dest-tls-verify=false", &from, image]);
}

fn pull(args: &[&str], output: &Path, image: &str) -> Command {
    let mut command = Command::new(SIGSIF);
    command.args(["pull", "--force", "--arch", "amd64"]);
    command.args(args).arg(output).arg(image);
    command
}

fn push_command(args: &[&str], file: &Path, image: &str) -> Command {
    let mut command = Command::new(SIGSIF);
    command.arg("push").args(args).arg(file).arg(image);
    command
}

fn row(
    what: &str,
    ours: &dyn Fn() -> Duration,
    peer: &str,
    theirs: &dyn Fn() -> Duration,
    target: &str,
) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(ours());
        b.push(theirs());
    }
    let (a, b) = (median(a), median(b));
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
    let told = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    told.ok()
        .and_then(|told| {
            told.lines()
                .find_map(|line| line.strip_prefix("peak ").map(str::to_owned))
        })
        .unwrap_or_else(|| "GNU time is not installed".to_owned())
}

fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

/// A registry that ends with this value.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn image(&self) -> String {
        format!("docker://127.0.0.1:{}/bench/image:1", self.port)
    }

    fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("a port").port();
        drop(listener);
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            folder.join("registry").display()
        );
        fs::write(&config, text).expect("write");
        let child = Command::new(program("SIGSIF_DOCKER_REGISTRY", "docker-registry"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An OCI layout with an image of layers that hold one file of random data each.
fn make_layout(layout: &Path, layers: u64, size: u64) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("folder");
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("write");
    let put = |bytes: &[u8]| {
        let name = hex::encode(sha2::Sha256::digest(bytes));
        fs::write(blobs.join(&name), bytes).expect("write");
        (format!("sha256:{name}"), bytes.len())
    };
    let mut entries = Vec::new();
    for number in 0..layers {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_path(format!("file{number}")).expect("a name");
        header.set_cksum();
        let path = layout.join("layer");
        let file = File::create(&path).expect("create");
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        out.write_all(header.as_bytes()).expect("write");
        let mut state = number + 1;
        for _ in 0..size / MIB {
            let block: Vec<u8> = (0..MIB / 8).flat_map(|_| next(&mut state)).collect();
            out.write_all(&block).expect("write");
        }
        out.write_all(&[0; 1024]).expect("write");
        out.finish().expect("write");
        let bytes = fs::read(&path).expect("read");
        let (digest, size) = put(&bytes);
        fs::remove_file(path).expect("remove");
        entries.push(serde_json::json!({"digest": digest, "size": size,
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}));
    }
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| entry["digest"].clone())
        .collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config, "size": config_size},
        "layers": entries});
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": manifest_type,
        "digest": digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "one"}}]});
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
}
