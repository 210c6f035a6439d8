//! `sif repair`: what follows from the rest is restored, byte for byte where
//! the good file is known; what would be a guess is named and left.

use crate::flips::{coverage, is_accepted};
use crate::support::table::{self, field, header, put, put_i64};
use crate::support::{Home, keyring, peers, public_key, read_peers, run};
use serde_json::Value;
use sigsif::check::repair::{self, Plan};
use sigsif::check::{self, Severity};
use sigsif::sif::Image;
use sigsif::sif::edit::{Bytes, Edit, InPlace, Method};
use std::os::unix::fs::PermissionsExt;

const ROOT_INDEX: i32 = 0x400a;
const BLOB: i32 = 0x400b;

fn plan(bytes: &Vec<u8>) -> Plan {
    let image = Image::parse(bytes).expect("an image that loads");
    repair::plan(&image, 1).expect("a plan")
}

/// The repaired image; the plan must leave nothing but notes.
#[track_caller]
fn repaired(bytes: &Vec<u8>) -> Vec<u8> {
    let plan = plan(bytes);
    let left: Vec<_> = plan
        .left
        .iter()
        .filter(|f| f.severity != Severity::Note)
        .collect();
    assert!(left.is_empty(), "left: {left:?}");
    let new = plan.patch.expect("something to repair").applied(bytes);
    let image = Image::parse(&new).expect("the new image");
    let found: Vec<_> = check::examine(&image, 1)
        .expect("examined")
        .into_iter()
        .filter(|f| f.severity != Severity::Note || f.problem.is_repairable())
        .collect();
    assert!(found.is_empty(), "still there: {found:?}");
    new
}

#[test]
fn a_damaged_image_becomes_the_good_one_again() {
    for name in ["pgp-one", "pgp-two-groups", "dsse-p256", "mixed-pgp-dsse"] {
        let good = read_peers(&format!("native/{name}.sif"));
        let at = |id, place| table::by_id(&good, id).at(place);
        let number = |place, value| {
            let mut bytes = good.clone();
            put_i64(&mut bytes, place, value);
            bytes
        };
        let byte = |place: usize| {
            let mut bytes = good.clone();
            bytes[place] ^= 0x15;
            bytes
        };
        let mut all_at_once = good.clone();
        put(&mut all_at_once, header::ARCH, b"09\0");
        put_i64(&mut all_at_once, header::FREE, 47);
        put_i64(&mut all_at_once, header::DATA_SIZE, -7);
        put_i64(&mut all_at_once, at(3, field::PADDED), 0);
        all_at_once[at(1, field::USED)] = 9;
        all_at_once[200] = 1;
        all_at_once[32_500] = 1;
        all_at_once.extend_from_slice(&[7; 5000]);
        let damaged = [
            byte(header::ARCH),
            number(header::FREE, 0),
            number(header::FREE, -1),
            number(header::TABLE_SIZE, 28_085),
            number(header::DATA_OFFSET, -1),
            number(header::DATA_OFFSET, 1 << 40),
            number(header::DATA_OFFSET, 5000),
            number(header::DATA_SIZE, 1),
            number(header::DATA_SIZE, -1),
            number(header::DATA_SIZE, 1 << 50),
            number(at(2, field::PADDED), -1),
            byte(at(3, field::USED)),
            byte(130),
            byte(20_000),
            byte(32_700),
            [&good[..], &[0; 100]].concat(),
            [&good[..], b"appended"].concat(),
            all_at_once,
        ];
        for (n, bytes) in damaged.iter().enumerate() {
            assert!(repaired(bytes) == good, "{name}, damage {n}");
        }
        // A good image is left alone.
        assert!(plan(&good).patch.is_none(), "{name}");
    }
}

#[test]
fn no_signed_byte_is_touched() {
    let good = read_peers("native/pgp-one.sif");
    // Bytes that signatures cover, and bytes of signatures: findings, but no repair.
    let object = table::by_id(&good, 3);
    let mut bytes = good.clone();
    bytes[object.at(field::EXTRA) + 100] = 1;
    bytes[table::by_id(&good, 2).at(field::EXTRA) - 1] = b'x';
    let plan = plan(&bytes);
    assert!(plan.patch.is_none());
    assert_eq!(plan.left.len(), 2, "{:?}", plan.left);

    // What a deletion left is cleared, and what is left still verifies, now strictly.
    let material = public_key("p256");
    let with_hole = read_peers("cosign/sif/native-then-cosign.oci.sif");
    let image = Image::parse(&with_hole).expect("an image");
    let groups = image.groups().count();
    assert_eq!(groups, 1);
    let mut two = read_peers("native/dsse-p256-twice.sif");
    let gone = table::signature(&two);
    table::delete(&mut two, &gone);
    assert!(!coverage(&two, &material).expect("verified").is_complete());
    assert!(
        is_accepted(&repaired(&two), &material),
        "the hole is zero now"
    );
}

#[test]
fn a_table_that_an_interrupted_edit_left_behind_the_data_goes_home() {
    let good = read_peers("native/two-groups-unsigned.sif");
    let image = Image::parse(&good).expect("an image");
    let mut edit = Edit::new(&image, 1_700_000_000);
    // Two changes at once cannot be made by one byte.
    edit.delete(2, sigsif::sif::edit::Wipe::Keep)
        .expect("deleted");
    edit.delete(5, sigsif::sif::edit::Wipe::Keep)
        .expect("deleted");
    let patch = edit.plan().expect("a plan");
    let Method::InPlace(steps) = &patch.method else {
        panic!("not in place");
    };
    assert!(steps.phases.len() > 3, "no switch of tables");
    let whole = patch.applied(&good);
    for done in steps.commit + 1..steps.phases.len() {
        let interrupted = up_to(&good, steps, done);
        let image = Image::parse(&interrupted).expect("an image");
        if image.table_position() == 4096 {
            continue;
        }
        let found = check::native(&image);
        assert!(
            found.iter().any(|f| f.problem.code() == "table-moved"),
            "{found:?}"
        );
        let new = repaired(&interrupted);
        // As the finished edit, but without the bytes of the deleted objects.
        let expected = repaired(&whole);
        assert!(new == expected, "after phase {done}");
    }
}

/// The file after the first phases of a change.
fn up_to(old: &[u8], steps: &InPlace, done: usize) -> Vec<u8> {
    let mut bytes = old.to_vec();
    for write in steps.phases.iter().take(done).flatten() {
        let at = usize::try_from(write.at).expect("a position");
        let len = usize::try_from(write.len()).expect("a length");
        bytes.resize(bytes.len().max(at + len), 0);
        match &write.bytes {
            Bytes::Data(new) => put(&mut bytes, at, new),
            Bytes::Zeros(_) => bytes[at..at + len].fill(0),
        }
    }
    bytes
}

fn of_type(bytes: &[u8], kind: i32) -> Vec<table::Object> {
    let mut objects = table::objects(bytes);
    objects.retain(|object| object.kind == kind);
    objects
}

fn root_index(bytes: &[u8]) -> Vec<u8> {
    let roots = of_type(bytes, ROOT_INDEX);
    assert_eq!(roots.len(), 1);
    bytes[roots[0].range()].to_vec()
}

/// Media type, size, digest and name of each entry, sorted.
fn entries(index: &[u8]) -> Vec<[String; 4]> {
    let index: Value = serde_json::from_slice(index).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut entries: Vec<_> = index["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            [
                text(&entry["mediaType"]),
                entry["size"].to_string(),
                text(&entry["digest"]),
                text(name),
            ]
        })
        .collect();
    entries.sort();
    entries
}

/// An OCI-SIF of the peers without its RootIndex, and that RootIndex.
fn without_root(name: &str) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = read_peers(&format!("cosign/sif/{name}.oci.sif"));
    let root = root_index(&bytes);
    let object = of_type(&bytes, ROOT_INDEX).remove(0);
    table::delete(&mut bytes, &object);
    (bytes, root)
}

#[test]
fn a_lost_root_index_is_built_as_singularity_wrote_it() {
    // Written by SingularityCE from the first byte: the same bytes.
    for name in [
        "squashfs-one",
        "squashfs-three",
        "squashfs-three-signed",
        "cosign-p256-pulled",
        "cosign-annotations-pulled",
    ] {
        let (bytes, root) = without_root(name);
        let new = root_index(&repaired(&bytes));
        assert_eq!(String::from_utf8(new), String::from_utf8(root), "{name}");
    }
    // Begun with an index of ours: the same entries.
    for name in [
        "one",
        "three",
        "one-1sig",
        "one-3sig",
        "one-6sig",
        "two-keys",
        "same-second",
        "two-platforms",
        "two-platforms-signed",
        "with-att",
        "with-att-signed-again",
        "key-p384",
        "key-rsa2048",
        "cosign-then-native",
    ] {
        let (bytes, root) = without_root(name);
        let new = root_index(&repaired(&bytes));
        assert_eq!(entries(&new), entries(&root), "{name}");
    }
}

#[test]
fn the_file_that_the_seventh_signature_broke_has_all_seven_again() {
    let broken = read_peers("cosign/sif/one-broken-by-7th.oci.sif");
    assert_eq!(of_type(&broken, ROOT_INDEX), []);
    assert_eq!(table::i64_at(&broken, header::FREE), 0);
    let new = repaired(&broken);
    assert!(
        table::capacity(&new) > table::capacity(&broken),
        "the table grew"
    );
    // The image is the one of the six signatures, and its list has seven layers.
    let six = read_peers("cosign/sif/one-6sig.oci.sif");
    let (old, now) = (entries(&root_index(&six)), entries(&root_index(&new)));
    assert_eq!((old.len(), now.len()), (2, 2));
    let image = |entries: &[[String; 4]]| entries.iter().find(|e| e[3].is_empty()).cloned();
    assert_eq!(image(&old), image(&now));
    let list = now.iter().find(|e| !e[3].is_empty()).expect("signatures");
    assert!(old.iter().any(|e| e[3] == list[3]), "another name");
    let data = |object: &table::Object| new[object.range()].to_vec();
    let manifest = of_type(&new, BLOB)
        .iter()
        .map(data)
        .find(|data| data.len().to_string() == list[1])
        .expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(7));
    // Every blob is what it was.
    let contents = |bytes: &[u8]| -> Vec<_> {
        let blobs = of_type(bytes, BLOB);
        blobs
            .iter()
            .map(|o| (o.id, bytes[o.range()].to_vec()))
            .collect()
    };
    assert_eq!(contents(&broken), contents(&new));
    let oci = Image::parse(&new).expect("an image");
    let oci = sigsif::oci::ocisif::OciSif::new(&oci).expect("an OCI-SIF");
    assert!(oci.incomplete().expect("looked at").is_empty());
    assert!(oci.unnamed().is_ok());
}

#[test]
fn blobs_that_are_there_twice_are_merged() {
    for name in [
        "duplicate-layer",
        "same-second-pulled",
        "two-cosign-keys-pulled",
    ] {
        let bytes = read_peers(&format!("cosign/sif/{name}.oci.sif"));
        let new = repaired(&bytes);
        assert_eq!(
            of_type(&new, BLOB).len() + 1,
            of_type(&bytes, BLOB).len(),
            "{name}"
        );
        assert_eq!(root_index(&new), root_index(&bytes), "{name}");
    }
}

/// What is left of a file without RootIndex, if it cannot be built.
fn obstacle(bytes: &Vec<u8>) -> String {
    let plan = plan(bytes);
    let lost = plan
        .left
        .iter()
        .find(|f| f.problem.code() == "lost-root-index");
    lost.expect("lost and left").problem.to_string()
}

#[test]
fn what_would_be_a_guess_is_left() {
    let (bytes, _) = without_root("second-image-no-ref");
    assert!(
        obstacle(&bytes).contains("2 images are there"),
        "{}",
        obstacle(&bytes)
    );
    let (bytes, _) = without_root("mut-layer-bit-flip");
    assert!(
        obstacle(&bytes).contains("which is not there"),
        "{}",
        obstacle(&bytes)
    );

    // Signatures that belong to nothing here are not named, and that is told.
    let (bytes, _) = without_root("unsigned-pulled-with-cosign");
    let remarks = plan(&bytes).remarks;
    assert!(
        remarks.len() == 1 && remarks[0].contains("without layers"),
        "{remarks:?}"
    );

    // A digest that is wrong could be the fault of either side.
    let plan_of = |name: &str| plan(&read_peers(&format!("cosign/sif/{name}.oci.sif")));
    for (name, code) in [
        ("mut-root-digest-wrong", "oci-digest"),
        ("mut-layer-bit-flip", "oci-digest"),
        ("mut-two-roots", "second-root-index"),
        ("mut-layer-missing", "root-index"),
    ] {
        let plan = plan_of(name);
        assert!(
            plan.left.iter().any(|f| f.problem.code() == code),
            "{name}: {:?}",
            plan.left
        );
        assert!(!plan.leaves_only_notes(), "{name}");
    }

    // An image with objects out of place is not written anew at all.
    let mut cut = read_peers("native/pgp-one.sif");
    put_i64(&mut cut, header::FREE, 3);
    cut.pop();
    let plan = plan(&cut);
    assert!(plan.patch.is_none() && plan.repaired.is_empty());
}

#[test]
fn a_signature_that_may_hold_is_not_broken_for_an_oci_repair() {
    let home = Home::new();
    let path = home.join("signed.sif");
    let key = peers("keys/p256.key.pem");
    let sign = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        run(home.sigsif(["sign", "--key"]).arg(&key).arg(&path)).expect(0);
        std::fs::read(&path).expect("read")
    };
    let twice = sign(&read_peers("cosign/sif/duplicate-layer.oci.sif"));
    let left = plan(&twice).left;
    let text = left.first().expect("a finding").problem.to_string();
    assert!(
        text.contains("a signature covers group 1 as it is"),
        "{text}"
    );
    let lost = sign(&without_root("one").0);
    assert!(
        obstacle(&lost).contains("a signature covers group 1"),
        "{}",
        obstacle(&lost)
    );
}

#[test]
fn the_command_writes_a_new_file_or_replaces_the_old_one_and_says_what_it_did() {
    let home = Home::new();
    let good = read_peers("native/pgp-one.sif");
    let mut bytes = good.clone();
    put(&mut bytes, header::ARCH, b"03\0");
    let (path, output) = (home.join("bad.sif"), home.join("good.sif"));
    std::fs::write(&path, &bytes).expect("written");
    let mode = |path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o640));
    mode(&path).expect("chmod");

    let repair = |args: &[&std::ffi::OsStr]| run(home.sigsif(["sif", "repair"]).args(args));
    repair(&[path.as_ref()])
        .expect(1)
        .says("an output path or --in-place is needed");
    let done = repair(&[path.as_ref(), output.as_ref()]).expect(0);
    let text = String::from_utf8(done.stdout).expect("text");
    let line = "repaired bytes 45-48: architecture is arm, must be amd64\n";
    assert_eq!(
        text,
        format!("{line}{}: clean, 4 objects\n", output.display())
    );
    assert!(std::fs::read(&output).expect("read") == good);
    assert!(
        std::fs::read(&path).expect("read") == bytes,
        "the old file changed"
    );
    let meta = |path: &std::path::Path| std::fs::metadata(path).expect("metadata").permissions();
    assert_eq!(meta(&output).mode() & 0o777, 0o640);

    // Nothing is overwritten, and there is nothing to do for a good image.
    repair(&[path.as_ref(), output.as_ref()])
        .expect(1)
        .says("file exists");
    let other = home.join("other.sif");
    let done = repair(&[output.as_ref(), other.as_ref()]).expect(0);
    assert!(String::from_utf8_lossy(&done.stdout).ends_with("nothing was changed\n"));
    assert!(!other.exists());

    repair(&["--in-place".as_ref(), path.as_ref()]).expect(0);
    assert!(std::fs::read(&path).expect("read") == good);
    assert_eq!(meta(&path).mode() & 0o777, 0o640);
    assert!(is_accepted(
        &std::fs::read(&path).expect("read"),
        &keyring()
    ));

    // What stays is told by the exit code.
    std::fs::write(&path, &good[..good.len() - 1]).expect("written");
    let left = repair(&["--in-place".as_ref(), path.as_ref()]).expect(1);
    let left = String::from_utf8(left.stdout).expect("text");
    assert!(
        left.starts_with("left     bytes 36864-38529: object 4: data is"),
        "{left}"
    );
    let names = std::fs::read_dir(home.path()).expect("a folder");
    let hidden = names.filter(|n| {
        n.as_ref()
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .starts_with(".sigsif")
    });
    assert_eq!(hidden.count(), 0, "temporary files stay");
}
