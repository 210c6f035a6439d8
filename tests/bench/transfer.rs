//! Images from and to a registry on this machine: `cargo bench --bench transfer`.
//!
//! Needs `docker-registry` and `skopeo` (`SIGSIF_DOCKER_REGISTRY`, `SIGSIF_SKOPEO` or `PATH`) and
//! 8 GiB of free disk; `SIGSIF_BENCH_DIR` says where. Runs alternate, the median counts.

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
    make_layout(&layout, 1024 * MIB / LAYERS);
    let image = format!("docker://127.0.0.1:{}/bench/image:1", registry.port);
    let skopeo = |args: &[&str]| {
        let mut command = Command::new(program("SIGSIF_SKOPEO", "skopeo"));
        command.args(["--insecure-policy", "copy", "-q", "--preserve-digests"]);
        run(command.args(args));
    };
    let from = format!("oci:{}:one", layout.display());
    skopeo(&["--dest-tls-verify=false", &from, &image]);
    let copy = || {
        let to = folder.join("copy");
        let _ = fs::remove_dir_all(&to);
        let to = format!("oci:{}:one", to.display());
        skopeo(&["--src-tls-verify=false", &image, &to]);
    };
    let output = folder.join("image.sif");
    let command = |args: &[&str]| {
        let mut command = Command::new(SIGSIF);
        command
            .args(["pull", "--force", "--arch", "amd64"])
            .args(args)
            .arg(&output)
            .arg(&image);
        command
    };
    let pull = |args: &[&str]| {
        let _ = fs::remove_file(&output);
        run(&mut command(args));
    };
    println!("median of {ROUNDS} alternating runs, warm page cache\n");
    println!("| what | time | beside | time | ratio | target |");
    println!("|---|---|---|---|---|---|");
    let peer = "`skopeo copy` to an OCI layout";
    let kept = || pull(&["--with-cosign"]);
    row(
        "`pull --with-cosign`, 4 layers of 256 MiB",
        &kept,
        peer,
        &copy,
        "at most 1.5",
    );
    let squashed = || pull(&[]);
    row(
        "`pull`, the same made one squashfs",
        &squashed,
        peer,
        &copy,
        "none",
    );
    for args in [&["--with-cosign"][..], &[]] {
        println!(
            "\npeak resident memory, pull {}: {}",
            args.join(" "),
            peak(&command(args))
        );
    }
}

fn row(what: &str, ours: &dyn Fn(), peer: &str, theirs: &dyn Fn(), target: &str) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(time(&ours));
        b.push(time(&theirs));
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
fn make_layout(layout: &Path, size: u64) {
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
    for number in 0..LAYERS {
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
