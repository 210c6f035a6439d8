//! Every command that changes an image, killed and failed at every call.

use super::support::table::{self, header};
use super::support::{Home, NOW, Outcome, TIME, peers, public_key, read_peers, run, strace};
use super::{have_strace, points};
use sigsif::scope::Selection;
use sigsif::sif::edit::{Content, Edit, Method, NewObject, Wipe, Write};
use sigsif::sif::types::DataType;
use sigsif::sif::{Header, Image, UNSET_TIME};
use sigsif::verify::{self, Request};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Calls that change an image, a file beside it, or the folder.
const CALLS: &[&str] = &[
    "pwrite64",
    "write",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "copy_file_range",
    "fchmod",
    "fchown",
    "fsetxattr",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
];

/// Calls that a full or broken disk lets fail.
const FAILING: &[&str] = &[
    "pwrite64",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "copy_file_range",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
];

/// One change of one image.
struct Case {
    name: &'static str,
    /// The image before, if there is one.
    image: Option<Vec<u8>>,
    /// Words of the command; `IMAGE` and `DATA` stand for paths.
    args: &'static str,
}

/// A full image with a signature: capacity 4, three objects of group 1.
fn full() -> Vec<u8> {
    let mut image = empty(4);
    for (data, kind) in [("recipe", 1), ("{}", 6), ("root", 4)] {
        image = changed(&image, |edit| {
            let mut object = NewObject::new(
                DataType::from_code(0x4000 + kind),
                Content::Bytes(data.repeat(300).into_bytes()),
            );
            object.group = sigsif::sif::GroupId::new(1);
            edit.add(object).expect("an object");
        });
    }
    let home = Home::new();
    let path = home.write("image.sif", &image);
    let mut sign = home.sigsif(["sign", "--key"]);
    sign.arg(peers("keys/ed25519.key.pem")).arg(&path);
    run(&mut sign).expect(0);
    fs::read(path).expect("the image")
}

/// Partitions 1 (primary) and 2, and a third object, in 8 slots.
fn two_systems() -> Vec<u8> {
    let home = Home::new();
    let image = home.write("image.sif", &empty(8));
    let data = home.write("data", b"a file system");
    for words in [
        ["--parttype", "2", "--groupid", "1"],
        ["--parttype", "1", "--groupid", "2"],
    ] {
        let mut add = home.sigsif(["sif", "add", "--datatype", "4", "--partfs", "1"]);
        add.args(["--partarch", "2"]).args(words);
        run(add.arg(&image).arg(&data)).expect(0);
    }
    let mut add = home.sigsif(["sif", "add", "--datatype", "7", "--groupid", "2"]);
    run(add.arg(&image).arg(&data)).expect(0);
    fs::read(image).expect("the image")
}

/// An image whose header does not tell the architecture of its primary partition.
fn of_another_architecture() -> Vec<u8> {
    let mut image = two_systems();
    image[45..47].copy_from_slice(b"11");
    image
}

fn empty(capacity: usize) -> Vec<u8> {
    let header = Header::empty([0; 16], UNSET_TIME, capacity);
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(4096 + 585 * capacity, 0);
    bytes
}

fn changed(bytes: &Vec<u8>, change: impl FnOnce(&mut Edit<'_>)) -> Vec<u8> {
    let image = Image::parse(bytes).expect("an image");
    let mut edit = Edit::new(&image, 0);
    change(&mut edit);
    edit.plan().expect("a plan").applied(bytes)
}

/// An image that a crash left with its table behind the data.
fn interrupted() -> Vec<u8> {
    let bytes = two_systems();
    let image = Image::parse(&bytes).expect("an image");
    let mut edit = Edit::new(&image, 0);
    edit.delete(3, Wipe::Zero).expect("an object");
    edit.set_primary(2).expect("a partition");
    let patch = edit.plan().expect("a plan");
    let Method::InPlace(plan) = &patch.method else {
        panic!("a new file");
    };
    let mut left = bytes.clone();
    for Write { at, bytes: new } in plan.phases.iter().take(plan.commit + 1).flatten() {
        let sigsif::sif::edit::Bytes::Data(new) = new else {
            panic!("zeros before the commit");
        };
        let at = usize::try_from(*at).expect("a position");
        left.resize(left.len().max(at + new.len()), 0);
        left[at..at + new.len()].copy_from_slice(new);
    }
    assert!(table::i64_at(&left, header::TABLE_OFFSET) > 4096);
    left
}

fn cases() -> Vec<Case> {
    let case = |name, image, args| Case { name, image, args };
    let signed = || Some(read_peers("native/dsse-ed25519.sif"));
    vec![
        case(
            "add",
            signed(),
            "sif add --datatype 6 --groupid 2 IMAGE DATA",
        ),
        case(
            "add, hashed on the way",
            signed(),
            "sif add --datatype 11 --groupid 2 IMAGE DATA",
        ),
        case(
            "add a primary partition",
            Some(empty(8)),
            "sif add --datatype 4 --partfs 1 --parttype 2 --partarch 2 --groupid 1 IMAGE DATA",
        ),
        case("del", signed(), "sif del 4 IMAGE"),
        case(
            "del --zero --compact",
            signed(),
            "sif del --zero --compact 2 IMAGE",
        ),
        case("setprim", Some(two_systems()), "sif setprim 2 IMAGE"),
        case(
            "setprim after a crash",
            Some(interrupted()),
            "sif setprim 1 IMAGE",
        ),
        case(
            "add to a full table",
            Some(full()),
            "sif add --datatype 6 --groupid 2 IMAGE DATA",
        ),
        case(
            "sign with a full table",
            Some(full()),
            "sign --key KEY IMAGE",
        ),
        case("grow", signed(), "sif grow --capacity 60 IMAGE"),
        case(
            "repair in place",
            Some(of_another_architecture()),
            "sif repair --in-place IMAGE",
        ),
        case("new", None, "sif new IMAGE"),
        case("new over a file", signed(), "sif new IMAGE"),
    ]
}

/// What a reader sees: the fields that count, every object with its data, and the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen(Option<(String, Vec<String>, String)>);

struct Scene {
    home: Home,
    case: Case,
    path: PathBuf,
    before: Seen,
    after: Seen,
}

impl Scene {
    fn new(case: Case) -> Self {
        let home = Home::new();
        home.write("data", &b"0123456789abcdef".repeat(300));
        let path = home.join("image.sif");
        let mut this = Self {
            home,
            case,
            path,
            before: Seen(None),
            after: Seen(None),
        };
        this.reset();
        this.before = this.look();
        run(&mut this.command()).expect(0);
        this.after = this.look();
        assert_ne!(this.before, this.after, "{}", this.case.name);
        this.reset();
        this
    }

    fn reset(&self) {
        for entry in fs::read_dir(self.home.path()).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if name.starts_with(".sigsif-") || name == "image.sif" {
                fs::remove_file(path).expect("rm");
            }
        }
        if let Some(bytes) = &self.case.image {
            fs::write(&self.path, bytes).expect("the image");
        }
    }

    fn command(&self) -> Command {
        let words = self.case.args.split(' ').map(|word| match word {
            "IMAGE" => self.path.clone(),
            "DATA" => self.home.join("data"),
            "KEY" => peers("keys/ed25519.key.pem"),
            word => PathBuf::from(word),
        });
        let mut command = self.home.sigsif(words);
        command.env("SOURCE_DATE_EPOCH", TIME);
        command
    }

    fn disturbed(&self, what: &str) -> Outcome {
        let inject = ["-e".to_owned(), format!("inject={what}")];
        run(&mut strace(&self.command(), &inject))
    }

    fn look(&self) -> Seen {
        let Ok(bytes) = fs::read(&self.path) else {
            return Seen(None);
        };
        let image = Image::parse(&bytes).expect("an image");
        assert_eq!(image.faults(), [], "{}", self.case.name);
        // Positions change when a table grows, and new images have ids of their own.
        let head = format!(
            "{} slots, arch {}",
            image.capacity(),
            image.header().arch().name()
        );
        let objects = image.objects().iter().map(|object| {
            let data = image.data(object).expect("data");
            let covered = object.integrity_bytes(image.relative_id(object));
            format!(
                "{} {:?} {} {}",
                object.raw_id(),
                object.group(),
                hex::encode(covered),
                hex::encode(data)
            )
        });
        let request = Request {
            selection: Selection::default(),
            demands: sigsif::policy::Demands::default(),
            examine_all: true,
            now: NOW,
            threads: 1,
        };
        let verdict = match verify::native(&image, &public_key("ed25519"), &request) {
            Ok(report) => format!("{:?}", report.failure()),
            Err(error) => error.to_string(),
        };
        Seen(Some((head, objects.collect(), verdict)))
    }

    /// Whether the image is in the new state; it is in the old one otherwise.
    #[track_caller]
    fn assert_old_or_new(&self, point: &str) -> bool {
        let seen = self.look();
        let known = seen == self.before || seen == self.after;
        assert!(known, "{}: {point}: {seen:?}", self.case.name);
        seen == self.after
    }

    /// Whatever a crash left, the next change works and leaves nothing of it.
    #[track_caller]
    fn assert_goes_on(&self, point: &str) {
        let mut add = self
            .home
            .sigsif(["sif", "add", "--datatype", "7", "--groupid", "9"]);
        add.arg(&self.path).arg(self.home.join("data"));
        if self.path.is_file() {
            run(&mut add).expect(0);
            let bytes = fs::read(&self.path).expect("the image");
            let image = Image::parse(&bytes).expect("an image");
            assert_eq!(image.faults(), []);
            assert_eq!(image.untidy_slots().count(), 0, "{point}");
            let header = image.header();
            assert_eq!(header.descriptors_offset(), 4096, "{point}");
            assert_eq!(
                header.descriptors_free(),
                i64::try_from(image.free()).expect("a count")
            );
        }
        for entry in fs::read_dir(self.home.path()).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            assert!(!name.starts_with(".sigsif-"), "{point}: {name} stays");
        }
    }
}

#[test]
fn killed_while_editing_leaves_the_old_or_the_new_image() {
    if !have_strace() {
        return;
    }
    for case in cases() {
        let scene = Scene::new(case);
        let points = points(&scene.command(), CALLS);
        let mut new = 0;
        for (call, n) in &points {
            scene.reset();
            let point = format!("killed at {call} {n}");
            let killed = scene.disturbed(&format!("{call}:signal=SIGKILL:when={n}"));
            assert_ne!(killed.code, Some(0), "{point}: {killed}");
            new += usize::from(scene.assert_old_or_new(&point));
            scene.assert_goes_on(&point);
        }
        eprintln!(
            "{}: {} kill points, {} old, {new} new",
            scene.case.name,
            points.len(),
            points.len() - new
        );
        assert!(new > 0 && new < points.len(), "both states must occur");
    }
}

#[test]
fn a_failing_disk_leaves_the_old_or_the_new_image() {
    if !have_strace() {
        return;
    }
    for case in cases() {
        let scene = Scene::new(case);
        let (mut tried, mut same, mut new) = (0, 0, 0);
        for (call, n) in points(&scene.command(), FAILING) {
            // Once, and from then on: the way back fails as well.
            for error in ["ENOSPC:when=", "EIO:when="] {
                for on in ["", "+"] {
                    scene.reset();
                    let point = format!("{}: {call} {n}{on} gives {error}", scene.case.name);
                    let failed = scene.disturbed(&format!("{call}:error={error}{n}{on}"));
                    let is_new = scene.assert_old_or_new(&point);
                    let bytes = fs::read(&scene.path).ok();
                    let equal = bytes == scene.case.image;
                    let code = match scene.case.args.starts_with("sif") {
                        true => 1,
                        false => 255,
                    };
                    assert_eq!(failed.code, Some(code), "{point}: {failed}");
                    assert!(failed.stderr.contains("image.sif"), "{point}: {failed}");
                    let told = failed.stderr.to_lowercase();
                    let reason = ["no space left on device", "input/output error"];
                    assert!(reason.iter().any(|r| told.contains(r)), "{point}: {failed}");
                    assert!(is_new || equal || !on.is_empty(), "{point}: not put back");
                    tried += 1;
                    same += usize::from(equal);
                    new += usize::from(is_new);
                    scene.assert_goes_on(&point);
                }
            }
        }
        eprintln!(
            "{}: {tried} errors, {same} byte for byte as before, {new} after the commit, {} old with changes in unused bytes",
            scene.case.name,
            tried - same - new
        );
        assert!(same > 0);
    }
}
