//! How cost grows: `cargo bench --bench growth`.
//!
//! Prints a table per quantity, draws `docs/growth.svg`, and fails where time
//! grows faster than the quantity. Each last point stands beside the bare hash
//! of the same bytes, and Apptainer where `SIGSIF_APPTAINER` gives its command.
//! Needs 1 GiB of free disk; `SIGSIF_BENCH_DIR` says where.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use sha2::Digest as _;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tools::{Layout, MIB, SIGSIF, fixture, make_image, run, sign, text, verify};

/// Runs of a point: at least this many, and more while they are short.
const ROUNDS: usize = 3;

/// A quantity and what is measured as it grows.
struct Growth {
    what: &'static str,
    unit: &'static str,
    /// Name of a command, and its points: quantity and time.
    lines: Vec<(&'static str, Vec<(u64, Time)>)>,
}

/// What several runs took.
#[derive(Clone, Copy)]
struct Time {
    median: Duration,
    /// What a busy machine disturbs least.
    least: Duration,
}

impl Time {
    fn of(times: Vec<Duration>) -> Self {
        Self {
            least: times.iter().copied().min().unwrap_or_default(),
            median: tools::median(times),
        }
    }
}

fn main() {
    if !tools::is_wanted() {
        return;
    }
    let folder = tools::folder();
    let folder = folder.path();
    let all = [
        signatures(folder),
        objects(folder),
        groups(folder),
        image_size(folder),
        keyring(folder),
        descriptors(folder),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(root.join("docs/growth.svg"), plot(&all)).expect("docs/growth.svg");
    let faults: Vec<_> = all.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn key() -> PathBuf {
    fixture("keys/ed25519.key.pem")
}

fn public() -> PathBuf {
    fixture("keys/ed25519.pub.pem")
}

fn signatures(folder: &Path) -> Growth {
    let image = folder.join("signatures.sif");
    make(&image, &[(16 * MIB, 1)], 128, false);
    let mut verifies = Vec::new();
    for count in 1..=64_u64 {
        sign(&image, &key());
        if count.is_power_of_two() {
            verifies.push((count, measure(|| run(&mut verify(&public(), &image)))));
        }
    }
    beside(&image, true);
    told(Growth {
        what: "signatures of one object of 16 MiB",
        unit: "",
        lines: vec![("verify", verifies)],
    })
}

fn objects(folder: &Path) -> Growth {
    let image = folder.join("objects.sif");
    let (mut verifies, mut signs, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for count in powers(1, 4096, 4) {
        make(&image, &vec![(4096, 1); of(count)], 4200, false);
        signs.push((count, signing(&image)));
        sign(&image, &key());
        verifies.push((count, measure(|| run(&mut verify(&public(), &image)))));
        lists.push((count, measure(|| run(&mut list(&image)))));
    }
    beside(&image, true);
    told(Growth {
        what: "objects of 4 KiB in one group",
        unit: "",
        lines: vec![("verify", verifies), ("sign", signs), ("sif list", lists)],
    })
}

fn groups(folder: &Path) -> Growth {
    let image = folder.join("groups.sif");
    let (mut verifies, mut signs) = (Vec::new(), Vec::new());
    for count in powers(1, 64, 2) {
        let number = u32::try_from(count).expect("small");
        let objects: Vec<_> = (1..=number).map(|group| (65536, group)).collect();
        make(&image, &objects, 256, false);
        signs.push((count, signing(&image)));
        sign(&image, &key());
        verifies.push((count, measure(|| run(&mut verify(&public(), &image)))));
    }
    beside(&image, true);
    told(Growth {
        what: "groups of one object of 64 KiB, one signature each",
        unit: "",
        lines: vec![("verify", verifies), ("sign", signs)],
    })
}

fn image_size(folder: &Path) -> Growth {
    let image = folder.join("size.sif");
    let (mut verifies, mut digests) = (Vec::new(), Vec::new());
    for size in powers(1, 16384, 4) {
        make(&image, &[(size * MIB, 1)], 48, true);
        sign(&image, &key());
        verifies.push((size, measure(|| run(&mut verify(&public(), &image)))));
        let digest = || {
            run(Command::new("openssl")
                .args(["dgst", "-sha256"])
                .arg(&image))
        };
        digests.push((size, measure(digest)));
    }
    let _ = fs::remove_file(&image);
    told(Growth {
        what: "size of a sparse image",
        unit: " MiB",
        lines: vec![("verify", verifies), ("openssl dgst -sha256", digests)],
    })
}

fn keyring(folder: &Path) -> Growth {
    let image = fixture("native/pgp-one.sif");
    let home = folder.join("keyring");
    fs::create_dir(&home).expect("folder");
    let own = fs::read(fixture("keys/keyring/pgp-public")).expect("keyring");
    let mut all = Vec::new();
    let mut verifies = Vec::new();
    let mut made = 0;
    for count in [1, 10, 100, 1000, 10_000_u64] {
        // The key that is looked for is the last one.
        while made + 1 < count {
            let name = format!("Key {made}");
            let params = sigsif::key::pgp::Params {
                name: &name,
                key_type: sigsif::key::pgp::KeyType::Ed25519,
                now: 1_700_000_000,
                ..Default::default()
            };
            let pair = sigsif::key::pgp::generate(&params).expect("a key");
            all.extend_from_slice(&pair.public_bytes);
            made += 1;
        }
        let keyring = home.join("pgp-public");
        fs::write(&keyring, [&all[..], &own].concat()).expect("keyring");
        let command = || {
            run(Command::new(SIGSIF)
                .args(["verify", "--local"])
                .arg(&image)
                .env("SIGSIF_KEYSDIR", &home))
        };
        verifies.push((count, measure(command)));
        if let Some(mut peer) = tools::apptainer(&["verify", "--local"]) {
            peer.arg(&image).env("APPTAINER_KEYSDIR", &home);
            let time = measure_command(&mut peer);
            println!("{count} keys: apptainer verify {}", text(time.median));
        }
    }
    told(Growth {
        what: "keys in the keyring, the signer's the last",
        unit: "",
        lines: vec![("verify --local", verifies)],
    })
}

fn descriptors(folder: &Path) -> Growth {
    let image = folder.join("descriptors.sif");
    let (mut verifies, mut signs, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for count in [48, 192, 768, 3072, 12_288, 65_535_u64] {
        make(&image, &[(65536, 1)], of(count), false);
        signs.push((count, signing(&image)));
        sign(&image, &key());
        verifies.push((count, measure(|| run(&mut verify(&public(), &image)))));
        lists.push((count, measure(|| run(&mut list(&image)))));
    }
    beside(&image, true);
    told(Growth {
        what: "descriptors in the table, two of them used",
        unit: "",
        lines: vec![("verify", verifies), ("sign", signs), ("sif list", lists)],
    })
}

fn make(path: &Path, objects: &[(u64, u32)], capacity: usize, is_sparse: bool) {
    make_image(
        path,
        &Layout {
            objects,
            capacity,
            is_sparse,
        },
    );
}

fn list(image: &Path) -> Command {
    let mut command = Command::new(SIGSIF);
    command.args(["sif", "list"]).arg(image);
    command
}

/// Time of a signature on an image that has none; it is as before then.
fn signing(image: &Path) -> Time {
    let copy = image.with_extension("copy");
    let mut times: Vec<_> = (0..ROUNDS + 2)
        .map(|_| {
            fs::copy(image, &copy).expect("copy");
            tools::time(&|| sign(&copy, &key()))
        })
        .collect();
    fs::remove_file(&copy).expect("remove");
    times.remove(0);
    Time::of(times)
}

/// Median of several runs: more of them where they are short.
fn measure(work: impl Fn()) -> Time {
    work();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS || (times.len() < 15 && start.elapsed() < Duration::from_secs(1)) {
        times.push(tools::time(&work));
    }
    Time::of(times)
}

fn measure_command(command: &mut Command) -> Time {
    let command = std::cell::RefCell::new(command);
    measure(|| run(&mut command.borrow_mut()))
}

/// What the same bytes cost others.
fn beside(image: &Path, by_apptainer: bool) {
    let bytes = fs::read(image).expect("read");
    let hash = measure(|| {
        std::hint::black_box(sha2::Sha256::digest(&bytes));
    });
    println!(
        "the bytes of the last one, hashed in memory: {}",
        text(hash.median)
    );
    let key = public().to_string_lossy().into_owned();
    if let Some(mut peer) = tools::apptainer(&["verify", "--key", &key]).filter(|_| by_apptainer) {
        peer.arg(image);
        println!(
            "the last one by apptainer verify: {}",
            text(measure_command(&mut peer).median)
        );
    }
}

fn of(count: u64) -> usize {
    usize::try_from(count).expect("small")
}

fn powers(first: u64, last: u64, step: u64) -> Vec<u64> {
    std::iter::successors(Some(first), |n| Some(n * step))
        .take_while(|n| *n <= last)
        .collect()
}

/// Prints a table.
fn told(growth: Growth) -> Growth {
    let names: Vec<_> = growth.lines.iter().map(|(name, _)| *name).collect();
    println!("\n| {} | {} |", growth.what, names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (index, (quantity, _)) in growth.lines[0].1.iter().enumerate() {
        let times: Vec<_> = growth
            .lines
            .iter()
            .map(|(_, p)| text(p[index].1.median))
            .collect();
        println!("| {quantity}{} | {} |", growth.unit, times.join(" | "));
    }
    println!();
    growth
}

/// Where time grows faster than the quantity, by more than noise.
fn faults(growth: &Growth) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, points) in &growth.lines {
        for pair in points.windows(2) {
            let [(a, before), (b, after)] = pair else {
                continue;
            };
            let more = after.least.as_secs_f64() / before.least.as_secs_f64();
            let linear = *b as f64 / *a as f64;
            if more > linear * 1.25 && after.least.as_millis() > 50 {
                faults.push(format!(
                    "{name}, {}: {more:.1} times the time from {a} to {b}",
                    growth.what
                ));
            }
        }
    }
    faults
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 34.0;
const PLOT_WIDTH: f64 = 306.0;
const PLOT_HEIGHT: f64 = 168.0;

/// Six small plots, both axes logarithmic; the thin line is what linear growth looks like.
fn plot(all: &[Growth]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>Time of commands as images and keyrings grow</title>\n<style>\n\
         .b{{fill:#fff}}text{{fill:#1b1f24}}.s{{fill:#57606a}}.g{{stroke:#d5dae0}}.n{{stroke:#57606a;stroke-dasharray:3 4}}\n\
         .l{{fill:none;stroke-width:2}}.c0{{stroke:#0757b8;fill:#0757b8}}.c1{{stroke:#a65a00;fill:#a65a00}}.c2{{stroke:#1a7f4b;fill:#1a7f4b}}.l.c0,.l.c1,.l.c2{{fill:none}}text.c0,text.c1,text.c2{{stroke:none}}\n\
         @media(prefers-color-scheme:dark){{.b{{fill:#0f1318}}text{{fill:#e8ebef}}.s{{fill:#a2adb9}}.g{{stroke:#323a45}}.n{{stroke:#a2adb9}}.c0{{stroke:#79b8ff;fill:#79b8ff}}.c1{{stroke:#f0a95a;fill:#f0a95a}}.c2{{stroke:#4cc38a;fill:#4cc38a}}}}\n\
         </style>\n<rect class=\"b\" width=\"100%\" height=\"100%\"/>\n",
        WIDTH * 3.0,
        HEIGHT * 2.0
    );
    for (index, growth) in all.iter().enumerate() {
        let (x, y) = (WIDTH * (index % 3) as f64, HEIGHT * (index / 3) as f64);
        let _ = writeln!(
            svg,
            "<g transform=\"translate({x} {y})\">{}</g>",
            one(growth)
        );
    }
    svg + "</svg>\n"
}

fn one(growth: &Growth) -> String {
    let points = || growth.lines.iter().flat_map(|(_, points)| points);
    let milliseconds = |time: &Time| time.median.as_secs_f64() * 1000.0;
    let most = points()
        .map(|(_, time)| milliseconds(time))
        .fold(1.0, f64::max);
    let least = points()
        .map(|(_, time)| milliseconds(time))
        .fold(most, f64::min);
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let first = points().map(|(n, _)| *n).min().unwrap_or(1) as f64;
    let last = points().map(|(n, _)| *n).max().unwrap_or(2) as f64;
    let x = |n: f64| LEFT + (n / first).log10() / (last / first).log10() * PLOT_WIDTH;
    let y = |ms: f64| TOP + (high - ms.log10()) / (high - low) * PLOT_HEIGHT;
    let mut out = format!(
        "<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}{}</text>",
        growth.what,
        growth.unit.replace(' ', ", ")
    );
    for power in low as i32..=high as i32 {
        let ms = 10_f64.powi(power);
        let label = match power {
            ..0 => format!("{ms} ms"),
            0..3 => format!("{ms:.0} ms"),
            _ => format!("{:.0} s", ms / 1000.0),
        };
        let _ = write!(
            out,
            "<path class=\"g\" d=\"M{LEFT} {0:.1}h{PLOT_WIDTH}\"/><text class=\"s\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{label}</text>",
            y(ms),
            LEFT - 6.0,
            y(ms) + 4.0
        );
    }
    for (n, _) in &growth.lines[0].1 {
        let _ = write!(
            out,
            "<text class=\"s\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{n}</text>",
            x(*n as f64),
            TOP + PLOT_HEIGHT + 16.0
        );
    }
    // Linear growth that ends at the last point of the first line.
    if let Some((n, time)) = growth.lines[0].1.last() {
        let (n, end) = (*n as f64, milliseconds(time));
        let start = (first).max(n * 10_f64.powf(low) / end);
        let _ = write!(
            out,
            "<path class=\"n\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            x(start),
            y(end * start / n),
            x(n),
            y(end)
        );
    }
    for (index, (name, points)) in growth.lines.iter().enumerate() {
        let mut path = String::new();
        for (n, time) in points {
            let (x, y) = (x(*n as f64), y(milliseconds(time)));
            let _ = write!(
                path,
                "{}{x:.1} {y:.1}",
                if path.is_empty() { "M" } else { "L" }
            );
            let _ = write!(
                out,
                "<circle class=\"c{index}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
            );
        }
        let _ = write!(
            out,
            "<path class=\"l c{index}\" d=\"{path}\"/><text class=\"c{index}\" x=\"{}\" y=\"{}\">{name}</text>",
            LEFT + 8.0 + 90.0 * index as f64,
            TOP + PLOT_HEIGHT + 34.0
        );
    }
    out
}
