//! SingularityCE, Apptainer and siftool read, verify and change what was made here.
//!
//! They are looked for in `PATH`, or under the names in `SIGSIF_APPTAINER`,
//! `SIGSIF_SINGULARITY` and `SIGSIF_SIFTOOL`.

use super::support::table::{self, header};
use super::support::{Home, Outcome, peers, run, skip, tool};
use super::{full, objects, sign, sigsif, verify};
use sigsif::sif::Image;
use sigsif::sif::edit::{Bytes, Edit, Method, Wipe};
use std::fs;
use std::path::{Path, PathBuf};

struct Peer {
    program: PathBuf,
    /// Words in front of those of `sif`.
    group: &'static [&'static str],
    verifies: bool,
}

fn found() -> Vec<Peer> {
    let all: [(&str, &str, &[&str], bool); 3] = [
        ("SIGSIF_APPTAINER", "apptainer", &["sif"], true),
        ("SIGSIF_SINGULARITY", "singularity", &["sif"], true),
        ("SIGSIF_SIFTOOL", "siftool", &[], false),
    ];
    let mut peers = Vec::new();
    for (variable, name, group, verifies) in all {
        let named = std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_file());
        match named.or_else(|| tool(name)) {
            Some(program) => peers.push(Peer {
                program,
                group,
                verifies,
            }),
            None => skip(&format!("{name} is not installed")),
        }
    }
    peers
}

impl Peer {
    fn run(&self, home: &Home, words: &[&str], paths: &[&Path]) -> Outcome {
        let mut command = home.clean(&self.program);
        command.env("SINGULARITY_CONFIGDIR", home.join("config"));
        command.env("APPTAINER_CONFIGDIR", home.join("config"));
        run(command.args(words).args(paths))
    }

    fn sif(&self, home: &Home, words: &[&str], paths: &[&Path]) -> Outcome {
        let words: Vec<_> = self.group.iter().chain(words).copied().collect();
        self.run(home, &words, paths)
    }

    /// Verifies group 1, lists, adds, deletes; then `sigsif` goes on.
    fn works_with(&self, home: &Home, image: &Path, what: &str) {
        let data = home.write("peer-data", b"from a peer");
        let count = objects_anywhere(image);
        let verify_group = || {
            if self.verifies {
                let key = peers("keys/ed25519.pub.pem");
                let words = ["verify", "--group-id", "1", "--key"];
                self.run(home, &words, &[&key, image]).expect(0);
            }
        };
        verify_group();
        let list = self.sif(home, &["list"], &[image]).expect(0);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert_eq!(list.lines().count(), 3 + count, "{what}: {list}");
        let words = ["add", "--datatype", "7", "--groupid", "2"];
        self.sif(home, &words, &[image, &data]).expect(0);
        verify(home, &["--group-id", "1"], image).expect(0);
        verify_group();
        let bytes = fs::read(image).expect("the image");
        let parsed = Image::parse(&bytes).expect("an image");
        let new = parsed
            .objects()
            .iter()
            .find(|object| parsed.data(object) == Ok(b"from a peer"))
            .expect("the new object");
        let id = new.raw_id().to_string();
        self.sif(home, &["del", &id], &[image]).expect(0);
        verify(home, &["--group-id", "1"], image).expect(0);
        sign_group(home, image);
        verify_group();
    }
}

fn sign_group(home: &Home, image: &Path) {
    let mut command = home.sigsif(["sign", "--group-id", "1", "--key"]);
    run(command.arg(peers("keys/ed25519.key.pem")).arg(image)).expect(0);
    let bytes = fs::read(image).expect("the image");
    assert_eq!(table::i64_at(&bytes, header::TABLE_OFFSET), 4096);
}

/// Used descriptors, wherever the table is.
fn objects_anywhere(image: &Path) -> usize {
    let bytes = fs::read(image).expect("the image");
    Image::parse(&bytes).expect("an image").objects().len()
}

#[test]
fn peers_work_with_an_image_whose_table_grew() {
    for peer in found() {
        let home = Home::new();
        let image = full(&home);
        sign(&home, &image).expect(0);
        peer.works_with(&home, &image, "grown by sign");
        sigsif(&home, "sif grow --capacity 300", &[&image]).expect(0);
        peer.works_with(&home, &image, "grown by grow");
    }
}

#[test]
fn peers_work_with_an_image_that_a_crash_left_in_the_middle() {
    for peer in found() {
        let home = Home::new();
        let image = full(&home);
        sigsif(&home, "sif grow --capacity 8", &[&image]).expect(0);
        let bytes = fs::read(&image).expect("the image");
        let parsed = Image::parse(&bytes).expect("an image");
        let mut edit = Edit::new(&parsed, 1_790_000_000);
        edit.delete(4, Wipe::Zero).expect("an object");
        let mut object = sigsif::sif::edit::NewObject::new(
            sigsif::sif::types::DataType::Generic,
            sigsif::sif::edit::Content::Bytes(b"new".to_vec()),
        );
        object.group = sigsif::sif::GroupId::new(2);
        edit.add(object).expect("room");
        let patch = edit.plan().expect("a plan");
        let Method::InPlace(plan) = &patch.method else {
            panic!("a new file");
        };
        let mut left = bytes.clone();
        for write in plan.phases.iter().take(plan.commit + 1).flatten() {
            let Bytes::Data(new) = &write.bytes else {
                panic!("zeros before the commit");
            };
            let at = usize::try_from(write.at).expect("a position");
            left.resize(left.len().max(at + new.len()), 0);
            table::put(&mut left, at, new);
        }
        assert!(table::i64_at(&left, header::TABLE_OFFSET) > 4096);
        fs::write(&image, &left).expect("the image");
        peer.works_with(&home, &image, "table behind the data");
    }
}

#[test]
fn images_of_peers_are_changed_here_and_read_there() {
    for peer in found() {
        let home = Home::new();
        let image = home.join("image.sif");
        let data = home.write("data", b"0123456789");
        peer.sif(&home, &["new"], &[&image]).expect(0);
        let words = ["add", "--datatype", "6", "--groupid", "1"];
        peer.sif(&home, &words, &[&image, &data]).expect(0);
        sigsif(&home, "sif add --datatype 6 --groupid 1", &[&image, &data]).expect(0);
        sign(&home, &image).expect(0);
        peer.works_with(&home, &image, "made by the peer");
        assert_eq!(objects(&image).len(), 4);
    }
}
