//! `sif check`: what is found wrong, where, and how bad it is.

use crate::support::table::{self, MASK, field, header, put, put_i64, put_u32};
use crate::support::{Home, peers, project, read_peers, run};
use sigsif::check::{self, Finding, Severity};
use sigsif::sif::Image;
use std::ops::Range;
use std::path::{Path, PathBuf};

fn findings(bytes: &Vec<u8>) -> Vec<Finding> {
    match Image::parse(bytes) {
        Ok(image) => check::native(&image),
        Err(error) => vec![check::unreadable(&error)],
    }
}

/// Code, severity, bytes, whether `sif repair` puts it right.
type Expected = (&'static str, Severity, Range<usize>, bool);

#[track_caller]
fn assert_found(what: &str, bytes: &Vec<u8>, expected: &[Expected]) {
    let narrow = |at: u64| usize::try_from(at).expect("a position");
    let found: Vec<_> = findings(bytes)
        .into_iter()
        .map(|f| {
            let range = narrow(f.range.start)..narrow(f.range.end);
            (
                f.problem.code(),
                f.severity,
                range,
                f.problem.is_repairable(),
            )
        })
        .collect();
    assert_eq!(found, expected, "{what}");
}

/// Every image under a folder that a real tool made and nobody changed.
fn images(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "sif"));
    files.sort();
    files
}

#[test]
fn images_of_the_real_tools_are_clean() {
    let changed = |name: &str| name.matches('.').count() > 1;
    let mut clean = 0;
    for path in images(&peers("native")) {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if changed(&name) {
            continue;
        }
        assert_found(&name, &std::fs::read(&path).expect("read"), &[]);
        clean += 1;
    }
    assert!(clean > 15, "only {clean} images");
}

const NOTE: Severity = Severity::Note;
const WARNING: Severity = Severity::Warning;
const ERROR: Severity = Severity::Error;

#[test]
fn each_inconsistency_is_found_at_its_place() {
    let good = read_peers("native/pgp-one.sif");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let object = |id| table::by_id(&good, id);
    let at = |id, place| object(id).at(place);
    let wide = |range: Range<usize>, len| range.start..range.start + len;

    // Header: spec/sif.md 1.2.
    let number = |place: usize, value: i64| with(&|b| put_i64(b, place, value));
    let stale = |place: usize| ("stale", WARNING, place..place + 8, true);
    assert_found("free", &number(header::FREE, 3), &[stale(header::FREE)]);
    assert_found(
        "impossible free",
        &number(header::FREE, -1),
        &[("free-count", ERROR, 80..88, true)],
    );
    assert_found(
        "table size",
        &number(header::TABLE_SIZE, 28081),
        &[stale(header::TABLE_SIZE)],
    );
    assert_found(
        "small data",
        &number(header::DATA_SIZE, 1),
        &[stale(header::DATA_SIZE)],
    );
    assert_found(
        "large data",
        &number(header::DATA_SIZE, 99_999),
        &[("data-size", NOTE, 120..128, true)],
    );
    assert_found(
        "negative data",
        &number(header::DATA_SIZE, -1),
        &[("data-section", ERROR, 120..128, true)],
    );
    assert_found(
        "arch",
        &with(&|b| put(b, header::ARCH, b"03\0")),
        &[("arch", WARNING, 45..48, true)],
    );
    assert_found(
        "magic",
        &with(&|b| b[33] = b'x'),
        &[("unreadable", ERROR, 32..42, false)],
    );
    assert_found(
        "version",
        &with(&|b| b[43] = b'2'),
        &[("unreadable", ERROR, 42..45, false)],
    );
    assert_found(
        "cut table",
        &good[..5000].to_vec(),
        &[("unreadable", ERROR, 4096..5000, false)],
    );

    // Unused bytes.
    let byte = |place: usize| with(&|b| b[place] = 1);
    let not_zero = |severity, place| ("not-zero", severity, place..place + 1, true);
    assert_found("behind the header", &byte(1000), &[not_zero(WARNING, 1000)]);
    assert_found("between objects", &byte(32_500), &[not_zero(NOTE, 32_500)]);
    assert_found(
        "free slot",
        &byte(9000),
        &[("free-slot", WARNING, 9000..9001, true)],
    );
    let end = good.len();
    let longer = |more: &[u8]| [&good[..], more].concat();
    assert_found(
        "zeros behind",
        &longer(&[0; 9]),
        &[("tail", NOTE, end..end + 9, true)],
    );
    assert_found(
        "bytes behind",
        &longer(b"x"),
        &[("tail", WARNING, end..end + 1, true)],
    );

    // Descriptors: spec/sif.md 1.4 to 1.7.
    let in_field = |id, place, len| wide(at(id, place)..0, len);
    assert_found(
        "used byte",
        &with(&|b| b[at(2, field::USED)] = 7),
        &[("used-byte", WARNING, in_field(2, field::USED, 1), true)],
    );
    assert_found(
        "id",
        &with(&|b| put_u32(b, at(2, field::ID), 9)),
        &[("foreign-id", NOTE, in_field(2, field::ID, 4), false)],
    );
    assert_found(
        "id twice",
        &with(&|b| put_u32(b, at(2, field::ID), 1)),
        &[
            ("duplicate-id", ERROR, in_field(2, field::ID, 4), false),
            ("foreign-id", NOTE, in_field(2, field::ID, 4), false),
        ],
    );
    assert_found(
        "id 0",
        &with(&|b| put_u32(b, at(2, field::ID), 0)),
        &[("zero-id", ERROR, in_field(2, field::ID, 4), false)],
    );
    assert_found(
        "no group",
        &with(&|b| put_u32(b, at(2, field::GROUP), MASK)),
        &[("ungrouped", NOTE, in_field(2, field::GROUP, 4), false)],
    );
    assert_found(
        "mask of a signature",
        &with(&|b| put_u32(b, at(4, field::GROUP), 0)),
        &[("mask", WARNING, in_field(4, field::GROUP, 4), false)],
    );
    assert_found(
        "mask in a group",
        &with(&|b| put_u32(b, at(2, field::GROUP), 1)),
        &[("group-mask", ERROR, in_field(2, field::GROUP, 4), false)],
    );
    assert_found(
        "link to nothing",
        &with(&|b| put_u32(b, at(4, field::LINK), 5 | MASK)),
        &[("dangling-link", NOTE, in_field(4, field::LINK, 4), false)],
    );
    assert_found(
        "type",
        &with(&|b| put_u32(b, at(2, field::TYPE), 0x4111)),
        &[("unknown-type", NOTE, in_field(2, field::TYPE, 4), false)],
    );
    assert_found(
        "padded size",
        &number(at(3, field::PADDED), 1),
        &[("padded-size", NOTE, in_field(3, field::PADDED, 8), true)],
    );
    assert_found(
        "name",
        &with(&|b| b[at(2, field::EXTRA) - 1] = b'x'),
        &[("field-tail", WARNING, in_field(2, field::NAME, 128), false)],
    );
    let rest = at(3, field::EXTRA) + 11..at(3, field::EXTRA) + 384;
    assert_found(
        "extra of a partition",
        &with(&|b| b[rest.end - 1] = 1),
        &[("field-tail", WARNING, rest.clone(), false)],
    );
    assert_found(
        "hash type",
        &with(&|b| b[at(4, field::EXTRA)] = 9),
        &[("extra", WARNING, in_field(4, field::EXTRA, 384), false)],
    );
    assert_found(
        "second primary",
        &with(&|b| {
            let (from, to) = (at(3, 0), at(2, 0));
            put(b, to, &good[from..from + 4]);
            let extra = good[from + field::EXTRA..from + table::SLOT].to_vec();
            put(b, to + field::EXTRA, &extra);
        }),
        &[(
            "second-primary",
            ERROR,
            in_field(3, field::EXTRA + 4, 4),
            false,
        )],
    );

    // Places: spec/sif.md 1.14 #13 to #17.
    assert_found(
        "cut",
        &good[..end - 1].to_vec(),
        &[("past-end", ERROR, object(4).range(), false)],
    );
    let negative = number(at(2, field::SIZE), -1);
    let negative: Vec<_> = findings(&negative)
        .iter()
        .map(|f| f.problem.code())
        .collect();
    assert!(negative.contains(&"negative-size"), "{negative:?}");
    let overlap = number(at(2, field::OFFSET), object(1).offset + 1);
    let overlap: Vec<_> = findings(&overlap)
        .iter()
        .map(|f| f.problem.code())
        .collect();
    assert!(overlap.contains(&"overlap"), "{overlap:?}");
    let garbage = with(&|b| b[object(4).range()].fill(b'x'));
    let place = in_field(4, field::OFFSET, 16);
    assert_found(
        "no signature",
        &garbage,
        &[("no-signature", WARNING, place, false)],
    );
}

#[test]
fn the_command_tells_and_ends_with_1_only_if_something_is_wrong() {
    let home = Home::new();
    let good = peers("native/pgp-one.sif");
    let outcome = run(home.sigsif(["sif", "check"]).arg(&good)).expect(0);
    let text = String::from_utf8(outcome.stdout).expect("text");
    assert_eq!(text, format!("{}: clean, 4 objects\n", good.display()));

    let odd = peers("native/pgp-one.tampered-arch.sif");
    let outcome = run(home.sigsif(["sif", "check"]).arg(&odd)).expect(1);
    let text = String::from_utf8(outcome.stdout).expect("text");
    let expected = "warning  bytes 45-48: architecture is arm, must be amd64 [can be repaired]";
    assert_eq!(text.lines().next(), Some(expected));

    let outcome = run(home.sigsif(["sif", "check", "--json"]).arg(&odd)).expect(1);
    let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(json["schema"], "sigsif-check-1");
    assert_eq!(json["clean"], false);
    assert_eq!(json["findings"][0]["code"], "arch");
    assert_eq!(json["findings"][0]["start"], 45);
    assert_eq!(json["findings"][0]["repairable"], true);

    // Notes are no failure; what does not load is a finding, a missing file is not.
    let deleted = peers("native/pgp-one.object-2-deleted.sif");
    run(home.sigsif(["sif", "check"]).arg(&deleted)).expect(0);
    let text_file = project().join("README.md");
    let outcome = run(home.sigsif(["sif", "check", "--json"]).arg(&text_file)).expect(1);
    let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(json["findings"][0]["code"], "unreadable");
    run(home.sigsif(["sif", "check"]).arg("/nonexistent"))
        .expect(1)
        .says("open /nonexistent: no such file or directory");
}
