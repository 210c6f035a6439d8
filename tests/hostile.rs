//! Malformed and unfriendly files: every row of spec/sif.md 1.14, what is no
//! file, and files that shrink while they are read. Each run is limited in
//! time and memory and must end with an exit code and a sentence.

mod support;
#[path = "fuzz/targets.rs"]
mod targets;

use proptest::prelude::*;
use sigsif::layer::tree::{Tree, Whiteouts};
use sigsif::layer::{Limits, convert};
use sigsif::policy::Demands;
use sigsif::sif::Image;
use sigsif::signer::{dsse, pgp};
use sigsif::ui::text;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::table::{self, HEADER, MASK, SLOT, TABLE, field, header};
use support::{Home, Outcome, finish, peers, read_peers, run, skip, start, tool};

/// Address space for a run, in bytes.
const SPACE: u64 = 600 << 20;

/// What `sif` verbs, `sign` and `verify` must do with a file.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    view: View,
    sign: End,
    verify: End,
}

/// How looking at it ends.
enum View {
    /// Exit 1 with this text.
    Fails(&'static str),
    /// Exit 0; this warning, or none for an empty text.
    Shows(&'static str),
}

/// How judging or changing it ends: exit 0, or 255 with this text.
enum End {
    Fine,
    Fails(&'static str),
}
use End::{Fails, Fine};
use View::Shows;

fn base() -> Vec<u8> {
    read_peers("native/dsse-p256.sif")
}

/// The good image, changed.
fn edited(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = base();
    change(&mut bytes);
    bytes
}

/// The good image with other eight bytes at a place.
fn with_i64(at: usize, value: i64) -> Vec<u8> {
    edited(|bytes| table::put_i64(bytes, at, value))
}

/// Position of a field of object 2, a JSON object in the middle.
fn of_two(field: usize) -> usize {
    table::by_id(&base(), 2).at(field)
}

/// Does not load: every verb fails with the same text.
fn structural(name: &'static str, bytes: Vec<u8>, text: &'static str) -> Row {
    Row {
        name,
        bytes,
        view: View::Fails(text),
        sign: Fails(text),
        verify: Fails(text),
    }
}

/// Loads and is shown with a warning; is neither signed nor verified.
fn semantic(name: &'static str, bytes: Vec<u8>, text: &'static str) -> Row {
    Row {
        name,
        bytes,
        view: Shows(text),
        sign: Fails(text),
        verify: Fails(text),
    }
}

/// An ordinary image.
fn fine(name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        name,
        bytes,
        view: Shows(""),
        sign: Fine,
        verify: Fine,
    }
}

fn unsound_headers() -> Vec<Row> {
    let cut = |len| edited(|bytes| bytes.truncate(len));
    let version = |text: &'static [u8]| edited(|bytes| table::put(bytes, header::VERSION, text));
    let far = 1 << 40;
    vec![
        structural("1 empty", Vec::new(), "reading global header: EOF"),
        structural(
            "1 shorter than the header",
            cut(127),
            "reading global header: unexpected EOF",
        ),
        structural("1 offset told", cut(100), "the file ends at byte 100"),
        structural(
            "2 magic",
            edited(|b| b[header::MAGIC] = b's'),
            "invalid SIF magic",
        ),
        structural("2 version 02", version(b"02\0"), "incompatible SIF version"),
        structural(
            "2 version without NUL",
            version(b"011"),
            "incompatible SIF version",
        ),
        structural(
            "3 total -1",
            with_i64(header::TOTAL, -1),
            "at byte 88 is -1",
        ),
        structural(
            "3 total min",
            with_i64(header::TOTAL, i64::MIN),
            "at byte 88",
        ),
        structural(
            "4 total 49",
            with_i64(header::TOTAL, 49),
            "reading descriptors: unexpected EOF",
        ),
        structural(
            "4 total max",
            with_i64(header::TOTAL, i64::MAX),
            "reading descriptors: unexpected EOF",
        ),
        structural(
            "4 total and size above the file",
            edited(|b| {
                table::put_i64(b, header::TOTAL, 1 << 54);
                table::put_i64(b, header::TABLE_SIZE, i64::MAX - 4096);
            }),
            "reading descriptors: unexpected EOF",
        ),
        structural(
            "4 table reaches past the end",
            edited(|b| {
                table::put_i64(b, header::TOTAL, 100);
                table::put_i64(b, header::TABLE_SIZE, 100 * 585);
            }),
            "bytes 4096..62596",
        ),
        structural(
            "6 size 0",
            with_i64(header::TABLE_SIZE, 0),
            "reading descriptors: EOF",
        ),
        structural(
            "6 size one short",
            with_i64(header::TABLE_SIZE, 48 * 585 - 1),
            "reading descriptors: unexpected EOF",
        ),
        structural(
            "7 size -1",
            with_i64(header::TABLE_SIZE, -1),
            "at byte 104 is -1",
        ),
        structural(
            "8 offset -1",
            with_i64(header::TABLE_OFFSET, -1),
            "at byte 96 is -1",
        ),
        structural(
            "8 offset 0",
            with_i64(header::TABLE_OFFSET, 0),
            "at byte 96 is 0",
        ),
        structural(
            "8 offset 127",
            with_i64(header::TABLE_OFFSET, 127),
            "at byte 96 is 127",
        ),
        structural(
            "8 offset past the end",
            with_i64(header::TABLE_OFFSET, far),
            "reading descriptors: EOF",
        ),
        structural(
            "9 overflow",
            with_i64(header::TABLE_OFFSET, i64::MAX - 5),
            "at byte 104",
        ),
        semantic(
            "10 free -1",
            with_i64(header::FREE, -1),
            "descriptors free at byte 80 is -1",
        ),
        semantic(
            "10 free above total",
            with_i64(header::FREE, 49),
            "descriptors free at byte 80 is 49",
        ),
        fine("10 free wrong but possible", with_i64(header::FREE, 48)),
        fine("10 free 0 is not trusted", with_i64(header::FREE, 0)),
        semantic(
            "12 data offset -1",
            with_i64(header::DATA_OFFSET, -1),
            "data offset at byte 112 is -1",
        ),
        semantic(
            "12 data offset far",
            with_i64(header::DATA_OFFSET, far),
            "data offset at byte 112",
        ),
        semantic(
            "12 data size -1",
            with_i64(header::DATA_SIZE, -1),
            "data size at byte 120 is -1",
        ),
        fine("12 data size stale", with_i64(header::DATA_SIZE, 7)),
    ]
}

fn unsound_objects() -> Vec<Row> {
    let id = |value| edited(|b| table::put_u32(b, of_two(field::ID), value));
    let group = |value| edited(|b| table::put_u32(b, of_two(field::GROUP), value));
    let signature = table::signature(&base());
    let broken = |row: Row, text| Row {
        verify: Fails(text),
        ..row
    };
    vec![
        semantic(
            "13 offset -1",
            with_i64(of_two(field::OFFSET), -1),
            "object 2: offset at byte 4698 is -1",
        ),
        semantic(
            "14 size -1",
            with_i64(of_two(field::SIZE), -1),
            "object 2: size at byte 4706 is -1",
        ),
        semantic(
            "15 overflow",
            with_i64(of_two(field::OFFSET), i64::MAX),
            "at byte 4698 overflow",
        ),
        semantic(
            "16 past the end",
            with_i64(of_two(field::SIZE), 1 << 30),
            "the file ends at byte 38074",
        ),
        semantic(
            "16 far past the end",
            with_i64(of_two(field::OFFSET), 1 << 50),
            "the file ends at byte 38074",
        ),
        Row {
            name: "16 signature past the end",
            bytes: edited(|b| b.truncate(38000)),
            view: Shows("the file ends at byte 38000"),
            sign: Fails("the file ends at byte 38000"),
            verify: Fails("unexpected EOF"),
        },
        broken(
            fine(
                "16 empty and past the end",
                edited(|b| {
                    table::put_i64(b, of_two(field::SIZE), 0);
                    table::put_i64(b, of_two(field::OFFSET), 1 << 16);
                }),
            ),
            "data object descriptor integrity compromised: 2",
        ),
        Row {
            name: "16 empty at the largest position",
            bytes: edited(|b| {
                table::put_i64(b, of_two(field::SIZE), 0);
                table::put_i64(b, of_two(field::OFFSET), i64::MAX);
            }),
            view: Shows(""),
            sign: Fails("far behind the end of the file"),
            verify: Fails("data object descriptor integrity compromised: 2"),
        },
        semantic(
            "17 over the header",
            with_i64(of_two(field::OFFSET), 100),
            "object 2: data at byte 100 overlaps the global header",
        ),
        semantic(
            "17 over the table",
            with_i64(of_two(field::OFFSET), 5000),
            "object 2: data at byte 5000 overlaps the descriptor table",
        ),
        semantic(
            "17 over an object",
            with_i64(of_two(field::OFFSET), 33000),
            "object 2: data at byte 33000 overlaps object 3",
        ),
        semantic("18 id 0", id(0), "descriptor at byte 4686: id is 0"),
        semantic("19 id twice", id(3), "id 3 is used twice"),
        broken(
            fine("20 id other than its slot", id(9)),
            "object 9: object not signed",
        ),
        semantic(
            "21 group without mask",
            group(1),
            "object 2: group field at byte 4690 lacks the mask",
        ),
        broken(
            fine(
                "21 link without mask",
                edited(|b| table::put_u32(b, of_two(field::LINK), 3)),
            ),
            "data object descriptor integrity compromised: 2",
        ),
        fine("22 used 255", edited(|b| b[of_two(field::USED)] = 255)),
        broken(
            fine(
                "23 unknown type",
                edited(|b| table::put_u32(b, of_two(field::TYPE), 0x7fff)),
            ),
            "data object descriptor integrity compromised: 2",
        ),
        broken(
            fine(
                "24 hash type",
                edited(|b| table::put_u32(b, signature.at(field::EXTRA), 77)),
            ),
            "hash algorithm unsupported",
        ),
        broken(
            fine(
                "25 name",
                edited(|b| table::put(b, of_two(field::NAME), b"a\x1b[2J\n\xff\tb")),
            ),
            "data object descriptor integrity compromised: 2",
        ),
        broken(
            fine(
                "25 launch script",
                edited(|b| table::put(b, 0, b"a\x1b[2J\n\xff\tb\r")),
            ),
            "header integrity compromised",
        ),
        semantic(
            "26 two primary partitions",
            edited(|b| {
                table::put_u32(b, of_two(field::TYPE), 0x4004);
                table::put_u32(b, of_two(field::EXTRA) + 4, 2);
            }),
            "objects 2 and 3 are both primary system partitions",
        ),
        fine(
            "27 bytes behind the last object",
            edited(|b| b.extend([7; 100])),
        ),
        fine("27 bytes between objects", edited(|b| b[32300] = 7)),
    ]
}

/// Rows that cannot be made by a few changed bytes.
fn unsound_sizes() -> Vec<Row> {
    let empty = |total: i64| {
        let mut bytes = base();
        bytes.truncate(TABLE);
        bytes.extend(vec![0; usize::try_from(total).expect("a count") * SLOT]);
        table::put_i64(&mut bytes, header::TOTAL, total);
        table::put_i64(&mut bytes, header::FREE, total);
        table::put_i64(&mut bytes, header::TABLE_SIZE, total * 585);
        table::put_i64(&mut bytes, header::DATA_SIZE, 0);
        bytes
    };
    let unsigned = |name, bytes| Row {
        name,
        bytes,
        view: Shows(""),
        sign: Fails("no groups found"),
        verify: Fails("no groups found"),
    };
    let mut large_signature = base();
    let signature = table::signature(&large_signature);
    table::put_i64(&mut large_signature, signature.at(field::SIZE), 17 << 20);
    large_signature.resize(signature.range().start + (17 << 20), b'x');
    let crowded = crowded(20_000);
    let mut behind = empty(48);
    table::put_i64(&mut behind, header::DATA_OFFSET, 32768);
    vec![
        unsigned("5 no slot", empty(0)),
        unsigned("11 data offset behind an empty image", behind),
        Row {
            name: "28 signature of 17 MiB",
            bytes: large_signature,
            view: Shows(""),
            sign: Fine,
            verify: Fails("signature"),
        },
        Row {
            name: "29 20000 slots, all used",
            bytes: crowded,
            view: Shows(""),
            sign: Fine,
            verify: Fails("signature not found for object group 1"),
        },
    ]
}

/// An image with many objects of one byte and no free slot.
fn crowded(count: usize) -> Vec<u8> {
    let mut bytes = base();
    bytes.truncate(TABLE);
    let data = TABLE + count * SLOT;
    bytes.resize(data + count, 0);
    let signed = |value: usize| i64::try_from(value).expect("a position");
    for slot in 0..count {
        let at = TABLE + slot * SLOT;
        table::put_u32(&mut bytes, at, 0x4007);
        bytes[at + field::USED] = 1;
        table::put_u32(
            &mut bytes,
            at + field::ID,
            u32::try_from(slot).expect("a slot") + 1,
        );
        table::put_u32(&mut bytes, at + field::GROUP, 1 | MASK);
        table::put_i64(&mut bytes, at + field::OFFSET, signed(data + slot));
        table::put_i64(&mut bytes, at + field::SIZE, 1);
    }
    table::put_i64(&mut bytes, header::TOTAL, signed(count));
    table::put_i64(&mut bytes, header::FREE, 0);
    table::put_i64(&mut bytes, header::TABLE_SIZE, signed(count * SLOT));
    table::put_i64(&mut bytes, header::DATA_OFFSET, signed(data));
    table::put_i64(&mut bytes, header::DATA_SIZE, signed(count));
    bytes
}

/// `sigsif` with little address space.
fn limited(home: &Home, args: &[&str], image: &Path) -> Command {
    let mut command = match tool("prlimit") {
        Some(prlimit) => {
            let mut command = home.clean(prlimit);
            command
                .arg(format!("--as={SPACE}"))
                .arg("--core=0")
                .arg("--");
            command.arg(env!("CARGO_BIN_EXE_sigsif"));
            command
        }
        None => home.sigsif([""; 0]),
    };
    command.args(args).arg(image);
    command
}

/// Runs with little memory; fails after half a minute or on a signal.
#[track_caller]
fn limited_run(home: &Home, args: &[&str], image: &Path) -> Outcome {
    let mut command = limited(home, args, image);
    let outcome = finish(
        start(&mut command),
        Duration::from_secs(30),
        &format!("{command:?}"),
    );
    assert_eq!(outcome.signal, None, "{command:?}: {outcome}");
    assert!(
        !outcome.stderr.contains("panicked"),
        "{command:?}: {outcome}"
    );
    assert_printable(&outcome, args);
    outcome
}

/// Nothing that steers a terminal; `dump` gives the raw bytes.
#[track_caller]
fn assert_printable(outcome: &Outcome, args: &[&str]) {
    let steers = |bytes: &[u8]| bytes.iter().any(|b| *b < 32 && *b != b'\n' && *b != b'\t');
    assert!(!steers(outcome.stderr.as_bytes()), "{outcome}");
    assert!(
        args.contains(&"dump") || !steers(&outcome.stdout),
        "{outcome}"
    );
}

fn key(kind: &str) -> String {
    peers(&format!("keys/p256.{kind}.pem"))
        .display()
        .to_string()
}

fn check_row(row: &Row) -> Vec<String> {
    let home = Home::new();
    let image = home.write("image.sif", &row.bytes);
    let mut faults = Vec::new();
    let mut want = |what: &str, outcome: &Outcome, code: i32, text: &str| {
        if outcome.code != Some(code) || !outcome.stderr.contains(text) {
            faults.push(format!(
                "{}: {what}: want {code} {text:?}, got {outcome}",
                row.name
            ));
        }
    };
    for args in [&["sif", "header"][..], &["sif", "list"]] {
        let outcome = limited_run(&home, args, &image);
        match row.view {
            View::Fails(text) => want(args[1], &outcome, 1, text),
            Shows(text) => {
                want(args[1], &outcome, 0, text);
                let silent = outcome.stderr.is_empty();
                if silent != text.is_empty() {
                    want("warnings", &outcome, -1, "");
                }
            }
        }
    }
    for verb in ["info", "dump"] {
        for id in ["0", "1", "2", "4"] {
            let outcome = limited_run(&home, &["sif", verb, id], &image);
            let ended = matches!(outcome.code, Some(0 | 1));
            if !ended || (outcome.code == Some(1) && outcome.stderr.is_empty()) {
                want(verb, &outcome, 1, "");
            }
        }
    }
    for (args, end) in [
        (["verify", "--key", &key("pub")], &row.verify),
        (["sign", "--key", &key("key")], &row.sign),
    ] {
        let outcome = limited_run(&home, &args, &image);
        match end {
            Fine => want(args[0], &outcome, 0, ""),
            Fails(text) => want(args[0], &outcome, 255, text),
        }
        let now = fs::read(&image).expect("the image");
        if outcome.code != Some(0) && now != row.bytes {
            want("the file was changed", &outcome, -1, "");
        }
    }
    faults
}

#[test]
fn every_row_of_malformed_files_ends_as_it_must() {
    let mut rows = unsound_headers();
    rows.extend(unsound_objects());
    rows.extend(unsound_sizes());
    let faults: Vec<_> = support::parallel(&rows, check_row)
        .into_iter()
        .flatten()
        .collect();
    eprintln!("{} malformed or odd images", rows.len());
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

/// Every verb on a path.
fn every_verb(home: &Home, path: &Path) -> Vec<(&'static str, Outcome)> {
    let verbs: [(&str, Vec<&str>); 6] = [
        ("header", vec!["sif", "header"]),
        ("list", vec!["sif", "list"]),
        ("info", vec!["sif", "info", "1"]),
        ("dump", vec!["sif", "dump", "1"]),
        ("verify", vec!["verify", "--local"]),
        ("sign", vec!["sign", "--keyidx", "0"]),
    ];
    verbs
        .into_iter()
        .map(|(name, args)| (name, limited_run(home, &args, path)))
        .collect()
}

#[track_caller]
fn assert_every_verb_fails(home: &Home, path: &Path, text: &str) {
    for (verb, outcome) in every_verb(home, path) {
        let code = if matches!(verb, "verify" | "sign") {
            255
        } else {
            1
        };
        assert_eq!(outcome.code, Some(code), "{verb}: {outcome}");
        assert!(
            outcome.stderr.contains(text),
            "{verb}: want {text:?}: {outcome}"
        );
        assert!(outcome.stdout.is_empty(), "{verb}: {outcome}");
    }
}

#[test]
fn row_30_a_pipe_does_not_block() {
    let home = Home::with_keys();
    let path = home.join("pipe");
    let made = Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("mkfifo is not installed");
    }
    assert_every_verb_fails(&home, &path, "not a regular file");
}

#[test]
fn row_30_a_socket_is_refused() {
    let home = Home::with_keys();
    let path = home.join("socket");
    let _listener = UnixListener::bind(&path).expect("a socket");
    assert_every_verb_fails(&home, &path, "no such device or address");
}

#[test]
fn row_30_a_folder_is_refused() {
    let home = Home::with_keys();
    assert_every_verb_fails(&home, home.path(), "is a directory");
}

#[test]
fn row_30_an_endless_device_is_refused() {
    let home = Home::with_keys();
    assert_every_verb_fails(&home, Path::new("/dev/zero"), "not a regular file");
}

#[test]
fn a_missing_file_is_refused() {
    let home = Home::with_keys();
    let path = home.join("nothing");
    assert_every_verb_fails(&home, &path, "no such file or directory");
    assert!(!path.exists(), "was created");
}

#[test]
fn a_path_through_a_file_is_refused() {
    let home = Home::with_keys();
    let image = home.copy("native/unsigned.sif", "image.sif");
    assert_every_verb_fails(&home, &image.join("x"), "not a directory");
}

#[test]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::with_keys();
    let image = home.copy("native/unsigned.sif", "image.sif");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o000)).expect("chmod");
    if File::open(&image).is_ok() {
        return skip("this user may read every file");
    }
    assert_every_verb_fails(&home, &image, "permission denied");
}

#[test]
fn a_read_only_image_is_viewed_and_not_signed() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::with_keys();
    let image = home.copy("native/unsigned.sif", "image.sif");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).expect("chmod");
    run(home.sigsif(["sif", "list"]).arg(&image)).expect(0);
    if File::options().write(true).open(&image).is_ok() {
        return skip("this user may write every file");
    }
    run(home.sigsif(["sign", "--keyidx", "0"]).arg(&image))
        .expect(255)
        .says("permission denied");
}

/// A signed image whose one object is a hole.
fn sparse_signed(home: &Home, size: u64) -> PathBuf {
    let mut bytes = read_peers("native/unsigned.sif");
    for object in table::objects(&bytes) {
        table::delete(&mut bytes, &object);
    }
    bytes.truncate(32176);
    let object = table::add(&mut bytes, 0x4007, 1, 0, b"");
    table::put_i64(&mut bytes, object.at(field::OFFSET), 32768);
    table::put_i64(
        &mut bytes,
        object.at(field::SIZE),
        i64::try_from(size).expect("a size"),
    );
    let path = home.write("sparse.sif", &bytes);
    resize(&path, 32768 + size);
    run(home.sigsif(["sign", "--key", &key("key")]).arg(&path)).expect(0);
    path
}

fn resize(path: &Path, len: u64) {
    let file = File::options().write(true).open(path).expect("the image");
    file.set_len(len).expect("truncate");
}

/// Truncates an image at many moments of its verification.
fn truncate_verify(new_len: u64) {
    const SIZE: u64 = 1 << 28;
    let home = Home::new();
    let path = sparse_signed(&home, SIZE);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the image");
    // All that is no hole: what is in front of the object and behind it.
    let behind = 32768 + SIZE;
    let seal_len = file.metadata().expect("a length").len() - behind;
    let pieces = [(0, 32768), (behind, seal_len)].map(|(at, len)| {
        let mut piece = vec![0; usize::try_from(len).expect("64 bits")];
        file.read_exact_at(&mut piece, at).expect("a piece");
        (at, piece)
    });
    let whole = std::time::Instant::now();
    let args = ["verify", "--key", &key("pub")];
    run(home.sigsif(args).arg(&path));
    let whole = whole.elapsed();
    let (mut told, mut early, mut late) = (0, 0, 0);
    for n in 0..20_u32 {
        resize(&path, behind);
        for (at, piece) in &pieces {
            file.write_all_at(piece, *at).expect("a piece");
        }
        let mut command = home.sigsif(args);
        let child = start(command.arg(&path));
        std::thread::sleep(whole * n / 20);
        resize(&path, new_len);
        let outcome = finish(child, Duration::from_secs(60), "a run on a shrinking file");
        assert_eq!(outcome.signal, None, "run {n}: {outcome}");
        assert!(!outcome.stderr.contains("panicked"), "run {n}: {outcome}");
        let at_open = ["EOF", "the file ends at byte"];
        if outcome.code == Some(0) {
            late += 1;
        } else if outcome.stderr.contains("truncated by another process") {
            assert_eq!(outcome.code, Some(255), "run {n}: {outcome}");
            told += 1;
        } else {
            // It was short already when it was opened, or mapped.
            assert_eq!(outcome.code, Some(255), "run {n}: {outcome}");
            assert!(
                at_open.iter().any(|text| outcome.stderr.contains(text)),
                "run {n}: {outcome}"
            );
            early += 1;
        }
    }
    eprintln!(
        "{} truncated to {new_len} in {whole:?}: {told} told, {early} before, {late} after",
        args[0]
    );
    assert!(told >= 5, "only {told} of 20 were hit in the middle");
}

#[test]
fn an_image_that_shrinks_under_verify_is_told() {
    truncate_verify(40_000);
}

#[test]
fn an_image_that_vanishes_under_verify_is_told() {
    truncate_verify(0);
}

#[test]
fn an_image_whose_object_shrinks_by_a_page_is_told() {
    // The hole is cut in its middle: most of it can still be read.
    truncate_verify(1 << 27);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_header_or_table_makes_the_reader_panic(
        changes in prop::collection::vec((0..TABLE + 6 * SLOT, any::<u8>()), 1..40),
        numbers in prop::collection::vec((0..60_usize, odd_numbers()), 0..6),
        len in prop_oneof![Just(None), (0..40_000_usize).prop_map(Some)],
    ) {
        let mut bytes = base();
        for (at, value) in changes {
            // The magic and the version stay, else nothing behind is reached.
            if !(header::MAGIC..header::ARCH).contains(&at) {
                bytes[at] = value;
            }
        }
        for (place, value) in numbers {
            table::put_i64(&mut bytes, place_of_number(place), value);
        }
        if let Some(len) = len {
            bytes.truncate(len);
        }
        look_at_everything(&bytes);
    }
}

fn odd_numbers() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3..700_000_i64,
        (0..63_u32).prop_map(|bit| 1 << bit),
        (0..63_u32).prop_map(|bit| (1 << bit) - 1),
        Just(i64::MIN),
        Just(i64::MAX),
        (0..6000_i64).prop_map(|n| i64::MAX - n),
    ]
}

/// Numbers of the header, then offset and size of the first slots.
fn place_of_number(place: usize) -> usize {
    const HEADER_NUMBERS: usize = (HEADER - header::CREATED) / 8;
    match place.checked_sub(HEADER_NUMBERS) {
        None => header::CREATED + place * 8,
        Some(rest) => TABLE + rest / 2 % 6 * SLOT + [field::OFFSET, field::SIZE][rest % 2],
    }
}

fn look_at_everything(bytes: &Vec<u8>) {
    let Ok(image) = Image::parse(bytes) else {
        return;
    };
    let _ = text::header(&image);
    let _ = text::list(&image);
    for fault in image.faults() {
        let _ = fault.to_string();
    }
    for object in image.objects() {
        let _ = text::info(object);
        let _ = image.data_so_far(object);
        let _ = image.signature_data(object);
        let _ = image.relative_id(object);
        let _ = object.integrity_bytes(image.relative_id(object));
    }
    let _ = image.primary_partition();
    let _ = image.require_sound();
    let key = support::public_key("p256");
    let request = sigsif::verify::Request {
        selection: sigsif::scope::Selection::default(),
        demands: Demands::default(),
        examine_all: true,
        now: support::NOW,
        threads: 1,
    };
    let _ = sigsif::verify::native(&image, &key, &request);
}

/// Small fixtures, and the data of the objects in images.
fn seeds() -> Vec<Vec<u8>> {
    const LARGEST: u64 = 64 << 10;
    let mut folders = vec![support::project().join("fixtures")];
    let mut seeds = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.metadata().expect("a file").len() > LARGEST {
                continue;
            }
            let bytes = fs::read(path).expect("bytes");
            if let Ok(image) = Image::parse(&bytes) {
                for data in image.objects().iter().filter_map(|o| image.data(o).ok()) {
                    seeds.extend(dsse::claimed_payload(data));
                    seeds.extend(pgp::parse(data).map(|message| message.plaintext().to_vec()));
                    seeds.push(data.to_vec());
                }
            }
            // Configurations and references, as they were recorded.
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(value) = serde_json::from_slice(line) {
                    strings(&value, &mut seeds);
                }
            }
            seeds.push(bytes);
        }
    }
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), key);
    let list = list.signed_by(&issuer).expect("a list");
    seeds.extend([list.der().to_vec(), list.pem().expect("PEM").into_bytes()]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in [
        ("a", "data"),
        ("b/c", ""),
        ("b/.wh.d", ""),
        (&"long/".repeat(60), "e"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let path = format!("{name}x");
        archive
            .append_data(&mut header, path, data.as_bytes())
            .expect("an entry");
    }
    let archive = archive.into_inner().expect("an archive");
    let mut tree = Tree::new(Whiteouts::Keep, Limits::default());
    tree.add_layer(archive.as_slice()).expect("a layer");
    let open = |_| Ok(Box::new(archive.as_slice()) as Box<dyn std::io::Read>);
    let mut squashfs = std::io::Cursor::new(Vec::new());
    convert::write(&tree, 1, open, &mut squashfs, 1).expect("a file system");
    seeds.push(squashfs.into_inner());
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/squashfs/zstd.squashfs");
    seeds.push(fs::read(other).expect("a fixture"));
    seeds.push(archive);
    let hex = "0123456789abcdef".repeat(4);
    seeds.extend([
        format!("SIFHASH:\n{hex}\n").into_bytes(),
        format!("localhost:5000/one/two:tag@sha256:{hex}").into_bytes(),
        b"alpine:3.20".to_vec(),
        br#"Bearer realm="https://h/t?a=b,c",service="s",scope="repository:a:pull""#.to_vec(),
        br#"</v2/a/referrers/b?n=2>; rel="next""#.to_vec(),
        b"Wed, 21 Oct 2115 07:28:00 GMT".to_vec(),
        br#"{"schema":"sigsif-verify-1","image":"a.sif","size":7,"verdict":"refused","reason":"no","problems":["x"],"signatures":[{"object":3,"group":1,"format":"pgp","verdict":"valid","signer":{"kind":"pgp","fingerprint":"00","userId":"<script>","origin":"local","signedAt":5},"objects":[{"id":1,"type":"FS","size":5,"intact":true}]}]}"#
            .to_vec(),
        br#"{"schema":"sigsif-verify-1","image":"b","size":9,"verdict":"verified","signatures":[{"object":4,"format":"dsse","verdict":"valid","signer":{"kind":"keys","keys":[{"keyId":"SHA256:1","spki":"b4","algorithm":"ECDSA P-256","certificate":null}]}}],"policy":{"file":"p","rule":1,"verdict":"met"}}"#
            .to_vec(),
        format!(
            "version = 1\n[[signer]]\nname = 'a'\npgp = ['{}']\n[[signer]]\nname = 'b'\n\
             key-files = ['b.pem']\n[[rule]]\npath = '/a/**/*.sif'\nsigners = ['a', 'b']\n\
             required = ['a']\nat-least = 2\n",
            "01234567".repeat(5)
        )
        .into_bytes(),
        b"activated = true\n[[execgroup]]\ntagname = 'g'\nmode = 'whitestrict'\n\
          dirpath = '/a'\nkeyfp = ['0123456789ABCDEF0123456789ABCDEF01234567']\n"
            .to_vec(),
    ]);
    seeds.sort();
    seeds.dedup();
    seeds
}

/// The strings of a document.
fn strings(value: &serde_json::Value, into: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone().into_bytes()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| strings(value, into)),
        serde_json::Value::Object(map) => map.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

/// Every fixture, as it is and with random changes, holds the assertions of
/// every fuzzing target.
#[test]
fn targets_hold_for_seeds_and_mutations() {
    const CHANGED: u64 = 1;
    let seeds = seeds();
    assert!(seeds.len() > 100, "fixtures are there");
    // For the fuzzer: `tests/fuzz/run`.
    if let Some(folder) = std::env::var_os("SIGSIF_SEEDS").map(PathBuf::from) {
        fs::create_dir_all(&folder).expect("a folder");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(number.to_string()), seed).expect("written");
        }
    }
    let failures = support::parallel(targets::TARGETS, |(name, target)| {
        let mut failures = Vec::new();
        let mut accepted = false;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % below.max(1)
        };
        for (number, seed) in seeds.iter().enumerate() {
            for round in 0..=CHANGED {
                let mut bytes = seed.clone();
                if round > 0 && !bytes.is_empty() {
                    for _ in 0..=random(4) {
                        let at = random(bytes.len());
                        match random(4) {
                            0 => bytes[at] ^= 1 << random(8),
                            1 => bytes[at] = [0, 0xff, b'"', b'\n', b':', b'/'][random(6)],
                            2 => bytes.insert(at, b" -{}[]0\\"[random(8)]),
                            _ => bytes.truncate(at.max(1)),
                        }
                    }
                }
                match std::panic::catch_unwind(|| target(&bytes)) {
                    Ok(yes) => accepted |= yes,
                    Err(_) => failures.push(format!("{name}, seed {number}, round {round}")),
                }
            }
        }
        // Nobody here has the keys that these two need.
        if !accepted && !["cosign_key", "ocsp"].contains(name) {
            failures.push(format!("{name} accepts no seed"));
        }
        failures
    });
    assert_eq!(failures.concat(), Vec::<String>::new());
}
