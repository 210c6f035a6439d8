//! What the commands do and say.

use super::support::table::{self, header};
use super::support::{Home, run, skip_without, strace, tool};
use super::{full, objects, sign, sigsif, verify};
use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;

#[test]
fn an_image_is_never_added_to_itself() {
    let home = Home::new();
    let image = full(&home);
    let old = fs::read(&image).expect("the image");
    let link = home.join("link.sif");
    fs::hard_link(&image, &link).expect("a link");
    sigsif(&home, "sif add --datatype 7", &[&image, &link])
        .expect(1)
        .says("an image cannot be added to itself");
    let mut piped = home.sigsif(["sif", "add", "--datatype", "7"]);
    piped
        .arg(&image)
        .arg("-")
        .stdin(File::open(&image).expect("the image"));
    let refused = piped.output().expect("sigsif");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be added to itself"));
    assert!(fs::read(&image).expect("the image") == old, "changed");
}

#[test]
fn standard_input_is_stored_whole_also_in_a_full_table() {
    let home = Home::new();
    let image = full(&home);
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for (datatype, id) in [("7", "5"), ("11", "6")] {
        let mut add = home.sigsif(["sif", "add", "--datatype", datatype, "--groupid", "3"]);
        add.arg(&image).arg("-").stdin(Stdio::piped());
        let mut child = add.spawn().expect("sigsif");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&data).expect("a reader");
        drop(pipe);
        assert!(child.wait().expect("the end").success());
        let dumped = run(home.sigsif(["sif", "dump", id]).arg(&image)).expect(0);
        assert!(dumped.stdout == data, "{datatype}: other bytes");
    }
    let info = run(home.sigsif(["sif", "info", "6"]).arg(&image)).expect(0);
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    let digest = sigsif::digest::HashAlgorithm::Sha256.digest(&data);
    assert!(info.contains(&digest.to_string()), "{info}");
}

#[test]
fn a_refused_change_leaves_every_byte() {
    let home = Home::new();
    let image = full(&home);
    let data = home.write("data", &[1; 5000]);
    let old = fs::read(&image).expect("the image");
    let long = "n".repeat(129);
    for (words, text) in [
        (
            format!("sif add --datatype 7 --filename {long}"),
            "name value too large",
        ),
        (
            "sif add --datatype 7 --link 0".to_owned(),
            "invalid object ID",
        ),
        (
            "sif add --datatype 7 --groupid 268435456".to_owned(),
            "invalid group ID",
        ),
        (
            "sif add --datatype 4 --partfs 1 --parttype 2 --partarch 2".to_owned(),
            "image already contains a primary partition",
        ),
        (
            "sif add --datatype 4 --partfs 7 --parttype 1 --partarch 2".to_owned(),
            "invalid filesystem type: 7",
        ),
        (
            "sif add --datatype 7 --alignment 9223372036854775807".to_owned(),
            "integer overflow",
        ),
        (
            "sif add --datatype 7 --alignment 4611686018427387904".to_owned(),
            "file too large",
        ),
    ] {
        sigsif(&home, &words, &[&image, &data]).expect(1).says(text);
        assert!(fs::read(&image).expect("the image") == old, "{words}");
    }
    for words in [
        "sif setprim 1",
        "sif del 9",
        "sif grow --capacity 3",
        "sif grow --capacity 1048577",
    ] {
        sigsif(&home, words, &[&image]).expect(1);
        assert!(fs::read(&image).expect("the image") == old, "{words}");
    }
    // Nothing to do is no failure, and no change.
    for words in ["sif setprim 2", "sif grow --capacity 4"] {
        sigsif(&home, words, &[&image]).expect(0);
        assert!(fs::read(&image).expect("the image") == old, "{words}");
    }
}

#[test]
fn what_breaks_signatures_is_told() {
    let home = Home::new();
    let data = home.write("data", b"x");
    let image = full(&home);
    sigsif(&home, "sif add --datatype 6 --groupid 1", &[&image, &data])
        .expect(0)
        .says("signature 3 does not cover the new object");
    let image = full(&home);
    sigsif(&home, "sif add --datatype 6", &[&image, &data])
        .expect(0)
        .says("is in no group (see --groupid)");
    sigsif(&home, "sif add --datatype 6 --groupid 2", &[&image, &data]).expect(0);
    let quiet = sigsif(&home, "sif del 4", &[&image]).expect(0);
    assert_eq!(quiet.stderr, "", "group 2 was never signed");
    sigsif(&home, "sif del 2", &[&image])
        .expect(0)
        .says("Signature 3 holds no longer");
    verify(&home, &["--group-id", "1"], &image).expect(255);
}

#[test]
fn deleting_keeps_zeroes_or_cuts() {
    let home = Home::new();
    let start = fs::read(full(&home)).expect("the image");
    let image = home.join("image.sif");
    let range = table::by_id(&start, 4).range();
    let del = |words: &str| {
        fs::write(&image, &start).expect("the image");
        sigsif(&home, words, &[&image]).expect(0);
        fs::read(&image).expect("the image")
    };
    let kept = del("sif del 4");
    assert_eq!(
        (kept.len(), &kept[range.clone()]),
        (start.len(), &b"0123456789"[..])
    );
    assert_eq!(table::i64_at(&kept, header::FREE), 1);
    let zeroed = del("sif del --zero 4");
    assert_eq!(
        (zeroed.len(), &zeroed[range.clone()]),
        (start.len(), &[0; 10][..])
    );
    let cut = del("sif del --compact 4");
    assert_eq!(cut.len(), range.start);
    // The signature of group 1 holds, and nothing is left to find fault with.
    verify(&home, &["--strict"], &image).expect(0);
    let check = sigsif(&home, "sif check", &[&image]).expect(0);
    assert!(
        String::from_utf8_lossy(&check.stdout).contains("clean"),
        "{check}"
    );
}

#[test]
fn new_has_the_capacity_and_keeps_what_was_there_if_it_fails() {
    let home = Home::new();
    let image = home.join("image.sif");
    sigsif(&home, "sif new --capacity 0", &[&image]).expect(0);
    assert_eq!(fs::read(&image).expect("the image").len(), 4096);
    sigsif(&home, "sif new --capacity 1048577", &[&image])
        .expect(1)
        .says("descriptor capacity not supported");
    sigsif(&home, "sif new", &[&image]).expect(0);
    let old = fs::read(&image).expect("the image");
    assert_eq!((old.len(), table::capacity(&old)), (32176, 48));
    if tool("prlimit").is_none() {
        return skip_without("prlimit");
    }
    let mut limited = home.clean("prlimit");
    limited.args([
        "--fsize=5000:5000",
        "--",
        env!("CARGO_BIN_EXE_sigsif"),
        "sif",
        "new",
    ]);
    run(limited.arg(&image)).expect(1).says("file too large");
    assert!(fs::read(&image).expect("the image") == old, "changed");
    assert_eq!(super::names_in(home.path()), ["image.sif"]);
}

#[test]
fn a_full_table_grows_and_signatures_stay_valid() {
    let home = Home::new();
    let image = full(&home);
    let before = objects(&image);
    sign(&home, &image)
        .expect(0)
        .says("was written anew: its table of descriptors has 52 slots now");
    let bytes = fs::read(&image).expect("the image");
    assert_eq!(table::i64_at(&bytes, header::DATA_OFFSET), 4096 + 585 * 52);
    for (old, new) in before.iter().zip(table::objects(&bytes)) {
        assert_eq!(old.offset % 4096, new.offset % 4096, "object {}", old.id);
        assert_eq!((old.id, old.size), (new.id, new.size));
    }
    // The first signature, made before, and both that were made now.
    verify(&home, &["--strict"], &image).expect(0);
    sigsif(&home, "sif grow --capacity 200", &[&image]).expect(0);
    verify(&home, &["--strict"], &image).expect(0);
    let check = sigsif(&home, "sif check", &[&image]).expect(0);
    assert!(
        String::from_utf8_lossy(&check.stdout).contains("clean"),
        "{check}"
    );
}

#[test]
fn partitions_keep_a_large_alignment_when_the_table_grows() {
    let home = Home::new();
    let image = home.join("image.sif");
    let data = home.write("data", b"squashfs");
    sigsif(&home, "sif new --capacity 2", &[&image]).expect(0);
    for words in [
        "sif add --datatype 6 --groupid 1",
        "sif add --datatype 4 --partfs 1 --parttype 2 --partarch 2 --groupid 1 --alignment 65536",
        "sif add --datatype 6 --groupid 1",
    ] {
        sigsif(&home, words, &[&image, &data]).expect(0);
    }
    assert_eq!(objects(&image)[1].offset % 65536, 0);
    assert_eq!(objects(&image).len(), 3);
}

/// A signature in an image of 4 GiB costs a few kilobytes of writes.
#[test]
fn a_signature_writes_little_whatever_the_size() {
    let home = Home::new();
    let image = home.join("image.sif");
    let data = home.write("data", b"small");
    let large = home.join("large");
    let sparse = File::create(&large).and_then(|file| file.set_len(4 << 30));
    if sparse.is_err() || tool("strace").is_none() {
        return skip_without("strace, or room for a sparse file");
    }
    sigsif(&home, "sif new", &[&image]).expect(0);
    sigsif(&home, "sif add --datatype 7 --groupid 1", &[&image, &large]).expect(0);
    sigsif(&home, "sif add --datatype 7 --groupid 2", &[&image, &data]).expect(0);
    fs::remove_file(&large).expect("rm");
    let mut signing = home.sigsif(["sign", "--group-id", "2", "--key"]);
    signing
        .arg(super::support::peers("keys/ed25519.key.pem"))
        .arg(&image);
    let calls = "trace=write,pwrite64,copy_file_range,fallocate".to_owned();
    let traced = run(&mut strace(&signing, &["-e".to_owned(), calls]));
    if traced.code != Some(0) && traced.stderr.contains("ptrace") {
        return skip_without("permission to trace");
    }
    traced.expect(0);
    let trace = fs::read_to_string(home.join("trace")).expect("a trace");
    let written: u64 = trace
        .lines()
        .filter(|line| !line.contains("fallocate") && !line.contains("write(2,"))
        .filter_map(|line| line.rsplit_once("= ")?.1.trim().parse::<u64>().ok())
        .sum();
    eprintln!("signing in an image of 4 GiB wrote {written} bytes");
    assert!(
        (1000..65536).contains(&written),
        "{written} bytes:\n{trace}"
    );
}

#[test]
fn a_pipe_that_breaks_off_leaves_the_image() {
    let home = Home::new();
    let image = full(&home);
    let old = fs::read(&image).expect("the image");
    // Killed while it waits for more: what is in the file belongs to nothing.
    let mut add = home.sigsif(["sif", "add", "--datatype", "7", "--groupid", "2"]);
    add.arg(&image)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = add.spawn().expect("sigsif");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&[7; 200_000]).expect("a reader");
    for _ in 0..500 {
        if fs::metadata(&image).expect("the image").len() >= 150_000 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("kill");
    child.wait().expect("the end");
    drop(pipe);
    let left = fs::read(&image).expect("the image");
    assert!(
        left.len() > old.len() && left.starts_with(&old),
        "the old image, and bytes behind it"
    );
    verify(&home, &["--group-id", "1"], &image).expect(0);
    let data = home.write("data", b"x");
    sigsif(&home, "sif add --datatype 7 --groupid 2", &[&image, &data]).expect(0);
    let check = sigsif(&home, "sif check", &[&image]).expect(0);
    assert!(
        String::from_utf8_lossy(&check.stdout).contains("clean"),
        "{check}"
    );
}
