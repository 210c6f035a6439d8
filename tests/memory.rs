//! Memory stays small however large the image, and no byte is hashed twice.

mod support;

use sigsif::key::pem::{PrivateKey, PublicKey};
use sigsif::policy::Demands;
use sigsif::scope::Selection;
use sigsif::sif::{Backing, Image};
use sigsif::sign::{self, NativeSigner};
use sigsif::verify::{self, KeyMaterial, Request};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use support::table::{self, MASK, field};
use support::{Home, NOW, Outcome, peers, read_peers, run, skip, tool};

/// Most resident memory that a verification may need, in KiB.
const LIMIT: u64 = 24 << 10;

/// Writes an unsigned image with objects of these sizes; holes, no data.
fn sparse(home: &Home, sizes: &[u64]) -> PathBuf {
    let mut head = read_peers("native/unsigned.sif");
    for object in table::objects(&head) {
        table::delete(&mut head, &object);
    }
    head.truncate(32176);
    let mut offset = 32768_u64;
    for (slot, size) in sizes.iter().enumerate() {
        // Adds descriptors only; the data is a hole.
        let object = table::add(&mut head, 0x4007, 1, 0, b"");
        assert_eq!(object.slot, slot);
        let signed = |value: u64| i64::try_from(value).expect("a position");
        table::put_i64(&mut head, object.at(field::OFFSET), signed(offset));
        table::put_i64(&mut head, object.at(field::SIZE), signed(*size));
        offset += size.next_multiple_of(4096);
    }
    let path = home.write("large.sif", &head);
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(offset))
        .expect("a sparse file");
    path
}

/// Runs under GNU time and returns the peak resident memory in KiB too.
fn measured(home: &Home, args: &[&str], image: &Path) -> (Outcome, u64) {
    let peak = home.join("peak");
    let mut command = home.clean("/usr/bin/time");
    command
        .args(["-f", "%M", "-o"])
        .arg(&peak)
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .args(args)
        .arg(image);
    let outcome = run(&mut command);
    let peak = fs::read_to_string(peak).expect("a figure");
    let peak = peak
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok());
    (outcome, peak.expect("a number"))
}

fn assert_small(sizes: &[u64]) {
    if !Path::new("/usr/bin/time").is_file() {
        return skip("GNU time is not installed");
    }
    let home = Home::new();
    let image = sparse(&home, sizes);
    let key = |kind: &str| {
        peers(&format!("keys/ed25519.{kind}.pem"))
            .display()
            .to_string()
    };
    for args in [
        ["sign", "--key", &key("key")],
        ["verify", "--key", &key("pub")],
    ] {
        let (outcome, peak) = measured(&home, &args, &image);
        outcome.expect(0);
        eprintln!("{} of {} objects: {peak} KiB", args[0], sizes.len());
        assert!(peak <= LIMIT, "{} needs {peak} KiB, limit {LIMIT}", args[0]);
    }
}

#[test]
fn one_object_of_a_gibibyte_needs_little_memory() {
    assert_small(&[1 << 30]);
}

#[test]
fn four_objects_hashed_at_once_need_little_memory() {
    assert_small(&[256 << 20; 4]);
}

#[test]
fn a_huge_object_is_added_in_pieces_also_from_a_pipe() {
    if tool("sh").is_none() || !Path::new("/usr/bin/time").is_file() {
        return skip("sh or GNU time is not installed");
    }
    let home = Home::new();
    let image = home.join("image.sif");
    run(home.sigsif(["sif", "new", "--capacity", "1"]).arg(&image)).expect(0);
    let peak = home.join("peak");
    // The second one finds a full table: everything is written anew.
    for datatype in ["7", "11"] {
        let mut command = home.clean("sh");
        command
            .arg("-c")
            .arg("head -c 268435456 /dev/zero | /usr/bin/time -f %M -o \"$1\" \"$2\" sif add --datatype \"$4\" --groupid 1 \"$3\" -")
            .arg("sh")
            .arg(&peak)
            .arg(env!("CARGO_BIN_EXE_sigsif"))
            .arg(&image)
            .arg(datatype);
        run(&mut command).expect(0);
        let figure = fs::read_to_string(&peak).expect("a figure");
        let figure: u64 = figure.trim().parse().expect("a number");
        eprintln!("add of 256 MiB from a pipe: {figure} KiB");
        assert!(figure <= LIMIT, "{figure} KiB, limit {LIMIT}");
    }
    let objects = table::objects(&fs::read(&image).expect("the image"));
    assert!(objects.iter().all(|object| object.size == 256 << 20));
}

#[test]
fn a_huge_object_is_dumped_in_pieces() {
    if tool("sh").is_none() || !Path::new("/usr/bin/time").is_file() {
        return skip("sh or GNU time is not installed");
    }
    let home = Home::new();
    let image = sparse(&home, &[512 << 20]);
    let peak = home.join("peak");
    let mut command = home.clean("sh");
    command
        .arg("-c")
        .arg("/usr/bin/time -f %M -o \"$1\" \"$2\" sif dump 1 \"$3\" | wc -c")
        .arg("sh")
        .args([&peak, Path::new(env!("CARGO_BIN_EXE_sigsif")), &image]);
    let outcome = run(&mut command).expect(0);
    let counted = String::from_utf8(outcome.stdout).expect("text");
    assert_eq!(counted.trim(), (512_u64 << 20).to_string());
    let peak: u64 = fs::read_to_string(peak)
        .expect("a figure")
        .trim()
        .parse()
        .expect("a number");
    assert!(peak <= LIMIT, "dump needs {peak} KiB, limit {LIMIT}");
}

/// Bytes in memory that note which of them were given back after hashing.
struct Counting {
    bytes: Vec<u8>,
    released: Mutex<Vec<Range<usize>>>,
}

impl Backing for Counting {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn release(&self, range: Range<usize>) {
        self.released.lock().expect("no panic").push(range);
    }
}

impl Counting {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            released: Mutex::default(),
        }
    }

    /// How often each byte of an object was hashed; fails unless all equally often.
    fn passes(&self, object: &table::Object) -> usize {
        let mut times = vec![0_usize; object.range().len()];
        for range in self.released.lock().expect("no panic").iter() {
            for at in range.clone().filter(|at| object.range().contains(at)) {
                times[at - object.range().start] += 1;
            }
        }
        let first = times.first().copied().unwrap_or_default();
        assert!(
            times.iter().all(|n| *n == first),
            "object {}: unequal",
            object.id
        );
        first
    }
}

fn private_key() -> PrivateKey {
    PrivateKey::from_pem(&read_peers("keys/ed25519.key.pem"), None).expect("a key")
}

/// Signs in memory.
fn sign_in_memory(bytes: Vec<u8>, key: &PrivateKey) -> (Vec<u8>, Counting) {
    let backing = Counting::new(bytes);
    let patch = {
        let image = Image::parse(&backing).expect("an image");
        let signer = NativeSigner::Dsse(&[key]);
        sign::native(&image, &signer, &Selection::default(), 1_795_000_000, 2).expect("a patch")
    };
    let bytes = patch.applied(&backing.bytes);
    (bytes, backing)
}

/// Two groups with objects of more than one window each.
fn two_groups_of_bulk() -> Vec<u8> {
    let mut bytes = read_peers("native/two-groups-unsigned.sif");
    for group in [1, 2] {
        let data: Vec<_> = (0..3_000_000_u32)
            .map(|n| n.wrapping_mul(n).to_le_bytes()[1])
            .collect();
        table::add(&mut bytes, 0x4007, group, 0, &data);
    }
    bytes
}

#[test]
fn every_object_is_hashed_once_however_many_signatures() {
    let key = private_key();
    let (mut bytes, backing) = sign_in_memory(two_groups_of_bulk(), &key);
    for object in table::objects(&backing.bytes) {
        assert_eq!(backing.passes(&object), 1, "signing, object {}", object.id);
    }
    for _ in 1..8 {
        bytes = sign_in_memory(bytes, &key).0;
    }
    let signatures = table::objects(&bytes)
        .into_iter()
        .filter(table::Object::is_signature);
    assert_eq!(signatures.count(), 16);
    let backing = Counting::new(bytes);
    let image = Image::parse(&backing).expect("an image");
    let request = Request {
        selection: Selection::default(),
        demands: Demands::default(),
        examine_all: true,
        now: NOW,
        threads: 2,
    };
    let public = PublicKey::from_pem(&read_peers("keys/ed25519.pub.pem")).expect("a key");
    let material = KeyMaterial::of_keys(vec![public.into()]);
    let report = verify::native(&image, &material, &request).expect("a report");
    assert!(report.is_verified(), "{:?}", report.failure());
    assert_eq!(report.signatures.len(), 16);
    for object in table::objects(&backing.bytes) {
        let wanted = usize::from(!object.is_signature());
        assert_eq!(backing.passes(&object), wanted, "object {}", object.id);
    }
}

#[test]
fn nothing_is_hashed_before_a_missing_signature_is_noticed() {
    let mut bytes = two_groups_of_bulk();
    let key = private_key();
    bytes = sign_in_memory(bytes, &key).0;
    // The signature of group 2 names no group any more.
    let second = table::objects(&bytes)
        .into_iter()
        .filter(table::Object::is_signature)
        .nth(1);
    let second = second.expect("two signatures");
    table::put_u32(&mut bytes, second.at(field::LINK), MASK);
    let backing = Counting::new(bytes);
    let image = Image::parse(&backing).expect("an image");
    let public = PublicKey::from_pem(&read_peers("keys/p256.pub.pem")).expect("a key");
    let request = Request {
        selection: Selection::default(),
        demands: Demands::default(),
        examine_all: false,
        now: NOW,
        threads: 2,
    };
    let material = KeyMaterial::of_keys(vec![public.into()]);
    let report = verify::native(&image, &material, &request).expect("a report");
    assert!(!report.is_verified());
    let released = backing.released.lock().expect("no panic");
    assert!(
        released.is_empty(),
        "hashed though no key fits: {released:?}"
    );
}

#[test]
fn the_figure_above_is_of_real_work() {
    // A byte far inside the hole is looked at: the memory test hashes it all.
    let home = Home::new();
    let image = sparse(&home, &[64 << 20]);
    let run_with = |verb: &str, kind: &str| {
        let mut command = home.sigsif([verb, "--key"]);
        command
            .arg(peers(&format!("keys/ed25519.{kind}.pem")))
            .arg(&image);
        run(&mut command)
    };
    run_with("sign", "key").expect(0);
    run_with("verify", "pub").expect(0);
    let file = File::options().write(true).open(&image).expect("the image");
    file.write_all_at(b"x", 50 << 20).expect("a write");
    run_with("verify", "pub")
        .expect(255)
        .says("data object integrity compromised: 1");
}
