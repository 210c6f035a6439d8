//! Layers: what a tar archive becomes, judged by other readers of squashfs.

use crate::support::{Home, run, skip_without, tool};
use sigsif::layer::tree::{Tree, Whiteouts};
use sigsif::layer::{Compression, Error, Limits, convert, expand};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::{EntryType, Header};

/// An archive that is being made.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path, Self::header(EntryType::Regular, data.len()), data)
    }

    pub fn folder(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Directory, 0);
        header.set_mode(0o755);
        self.entry(path, header, &[])
    }

    pub fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    pub fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.entry(path, header, &[])
    }

    pub fn entry(mut self, path: &str, mut header: Header, data: &[u8]) -> Self {
        // Hostile names too: the field is written as it is.
        if path.len() < 100 {
            let name = &mut header.as_old_mut().name;
            name.fill(0);
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            self.0.append(&header, data).unwrap();
        } else {
            self.0.append_data(&mut header, path, data).unwrap();
        }
        self
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn squashfs(layers: &[Vec<u8>], whiteouts: Whiteouts) -> Result<Vec<u8>, Error> {
    let mut tree = Tree::new(whiteouts, Limits::default());
    for layer in layers {
        tree.add_layer(layer.as_slice())?;
    }
    let mut out = Cursor::new(Vec::new());
    let open = |at: usize| Ok(Box::new(Cursor::new(layers[at].clone())) as Box<dyn Read>);
    convert::write(&tree, layers.len(), open, &mut out, 2)?;
    Ok(out.into_inner())
}

/// What is under a folder, as text that says everything but where it is on the disk.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let data = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = data.file_type();
            let content = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                format!(
                    "{:?}",
                    sigsif::digest::HashAlgorithm::Sha256
                        .digest(&fs::read(&path).unwrap())
                        .to_string()
                )
            } else {
                format!("device {}", data.rdev())
            };
            let same = match data.nlink() {
                0 | 1 => String::new(),
                _ if kind.is_dir() => String::new(),
                _ => names
                    .entry(data.ino())
                    .or_insert_with(|| name.clone())
                    .clone(),
            };
            let xattrs = xattrs(&path);
            // tar itself writes into folders after it has set their time.
            let time = if kind.is_file() { data.mtime() } else { 0 };
            out.insert(
                name,
                format!(
                    "{:o} {}:{} {} {content} {same} {xattrs}",
                    data.mode(),
                    data.uid(),
                    data.gid(),
                    time
                ),
            );
            if kind.is_dir() {
                left.push(path);
            }
        }
    }
    out
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let Ok(count) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return String::new();
    };
    let mut out = Vec::new();
    for name in names[..count]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 4096];
        let count = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        out.push(format!(
            "{}={:?}",
            String::from_utf8_lossy(name),
            &value[..count]
        ));
    }
    out.sort();
    out.join(" ")
}

fn rich() -> Vec<u8> {
    let noise: Vec<u8> = (0..400_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let mut holes = vec![0; 300 << 10];
    holes[200 << 10] = 7;
    let long = format!("deep/{}/{}", "n".repeat(200), "m".repeat(40));
    let mut owned = Header::new_gnu();
    owned.set_entry_type(EntryType::Regular);
    owned.set_size(3);
    owned.set_mode(0o4751);
    owned.set_uid(3_000_000);
    owned.set_gid(77);
    owned.set_mtime(1);
    let mut archive = Archive::new()
        .folder("./")
        .folder("etc")
        .file("etc/passwd", b"root\n")
        .file("etc/empty", b"")
        .file("big", &noise)
        .file("holes", &holes)
        .file("only-holes", &vec![0; 512 << 10])
        .file("exact", &noise[..256 << 10])
        .link(EntryType::Link, "etc/again", "etc/passwd")
        .link(EntryType::Link, "aaa", "etc/passwd")
        .link(EntryType::Symlink, "link", "/somewhere/else")
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Fifo, "pipe", 0, 0)
        .file(&long, b"long name")
        .entry("owned", owned, b"abc")
        .pax(&[
            ("SCHILY.xattr.user.note", b"a\0b"),
            ("mtime", b"1600000000.25"),
        ])
        .file("noted", b"x")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.k", b"v"),
        ])
        .folder("marked")
        .file("noparent/a/b", b"b");
    for number in 0..700 {
        archive = archive.file(&format!("many/{number:04}"), format!("{number}").as_bytes());
    }
    archive.bytes()
}

#[test]
fn a_layer_reads_the_same_as_its_archive() {
    for program in ["unsquashfs", "tar"] {
        if tool(program).is_none() {
            return skip_without(program);
        }
    }
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("owners and devices need root");
    }
    let home = Home::new();
    let archive = rich();
    let image = squashfs(std::slice::from_ref(&archive), Whiteouts::Keep).unwrap();
    assert_eq!(
        image,
        squashfs(std::slice::from_ref(&archive), Whiteouts::Keep).unwrap()
    );
    let image = home.write("image", &image);
    let archive = home.write("archive.tar", &archive);
    let mut unpack = home.clean("unsquashfs");
    unpack
        .args(["-no-progress", "-strict-errors", "-d"])
        .arg(home.join("ours"))
        .arg(&image);
    run(&mut unpack).expect(0);
    fs::create_dir(home.join("theirs")).unwrap();
    let mut unpack = home.clean("tar");
    unpack
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(home.join("theirs"));
    run(&mut unpack).expect(0);
    let (ours, mut theirs) = (listing(&home.join("ours")), listing(&home.join("theirs")));
    // What overlayfs would read is left out on purpose.
    let marked = theirs.get_mut("marked").unwrap();
    *marked = marked.replace("trusted.overlay.opaque=[121] ", "");
    // Folders without an entry get a fixed time.
    for implicit in ["noparent", "noparent/a", "many", "deep"] {
        theirs.remove(implicit);
    }
    theirs.retain(|name, _| !name.starts_with("deep/") || name.contains('m'));
    for (name, expected) in &theirs {
        assert_eq!(ours.get(name), Some(expected), "{name}");
    }
    assert!(ours.len() >= theirs.len());
    let folder = fs::metadata(home.join("ours/etc")).unwrap();
    assert_eq!(folder.mtime(), 1_700_000_000);
}

fn tree(layers: &[Make], whiteouts: Whiteouts) -> Result<Vec<String>, Error> {
    let layers: Vec<_> = layers.iter().map(|layer| layer()).collect();
    let image = squashfs(&layers, whiteouts)?;
    let image = backhand::FilesystemReader::from_reader(Cursor::new(image)).unwrap();
    let mut out = Vec::new();
    for node in image.files() {
        let mark = match &node.inner {
            backhand::InnerNode::CharacterDevice(device) => format!("!{}", device.device_number),
            backhand::InnerNode::File(file) => {
                let mut text = String::new();
                image.file(file).reader().read_to_string(&mut text).unwrap();
                format!("={text}")
            }
            backhand::InnerNode::Dir(_) => "/".to_owned(),
            _ => String::new(),
        };
        out.push(format!("{}{mark}", node.fullpath.display()));
    }
    Ok(out)
}

type Make = fn() -> Vec<u8>;

fn lower() -> Vec<u8> {
    Archive::new()
        .folder("a")
        .file("a/old", b"1")
        .file("a/kept", b"2")
        .folder("b")
        .file("b/x", b"3")
        .file("c", b"4")
        .link(EntryType::Link, "d", "c")
        .bytes()
}

fn upper() -> Vec<u8> {
    Archive::new()
        .file("a/.wh.old", b"")
        .file("a/new", b"5")
        .file("b/fresh", b"6")
        // Behind what it must not hide: only layers below are meant.
        .file("b/.wh..wh..opq", b"")
        .file("c", b"7")
        .file(".wh..wh.plnk/1.2", b"")
        .file(".wh.nothing", b"")
        .bytes()
}

#[test]
fn whiteouts_remove_what_layers_below_have() {
    assert_eq!(
        tree(&[lower, upper], Whiteouts::Apply).unwrap(),
        [
            "//",
            "/a/",
            "/a/kept=2",
            "/a/new=5",
            "/b/",
            "/b/fresh=6",
            "/c=7",
            "/d=4"
        ]
    );
}

#[test]
fn a_single_layer_has_whiteouts_in_the_form_of_overlayfs() {
    assert_eq!(
        tree(&[upper], Whiteouts::Keep).unwrap(),
        [
            "//",
            "/a/",
            "/a/new=5",
            "/a/old!0",
            "/b/",
            "/b/fresh=6",
            "/c=7",
            "/nothing!0"
        ]
    );
    if tool("unsquashfs").is_none() {
        return skip_without("unsquashfs");
    }
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("trusted attributes need root");
    }
    let home = Home::new();
    let image = home.write("image", &squashfs(&[upper()], Whiteouts::Keep).unwrap());
    let mut unpack = home.clean("unsquashfs");
    unpack
        .args(["-no-progress", "-d"])
        .arg(home.join("out"))
        .arg(&image);
    run(&mut unpack).expect(0);
    assert_eq!(xattrs(&home.join("out/b")), "trusted.overlay.opaque=[121]");
    assert_eq!(xattrs(&home.join("out/a")), "");
}

#[test]
fn a_folder_that_was_removed_and_made_again_hides_the_old_one() {
    let again = || {
        Archive::new()
            .file(".wh.a", b"")
            .folder("a")
            .file("a/x", b"9")
            .bytes()
    };
    assert_eq!(
        tree(&[lower, again], Whiteouts::Apply).unwrap(),
        ["//", "/a/", "/a/x=9", "/b/", "/b/x=3", "/c=4", "/d=4"]
    );
    let mut tree = Tree::new(Whiteouts::Keep, Limits::default());
    tree.add_layer(again().as_slice()).unwrap();
    let opaque = tree.reachable().iter().any(|(id, _)| {
        let inode = tree.inode(*id).unwrap();
        matches!(&inode.content, sigsif::layer::tree::Content::Directory(d) if d.is_opaque())
    });
    assert!(opaque);
}

#[test]
fn what_leads_out_of_an_image_is_refused() {
    let linked = || Archive::new().link(EntryType::Symlink, "a", "/etc");
    let cases: Vec<(Archive, &str)> = vec![
        (
            Archive::new().file("../x", b""),
            "tar entry \"../x\": path leads out of the image",
        ),
        (
            Archive::new().file("a/../../x", b""),
            "path leads out of the image",
        ),
        (Archive::new().file("/etc/passwd", b""), "path is absolute"),
        (
            linked().file("a/passwd", b""),
            "path leads through the symbolic link \"a\"",
        ),
        (
            linked().link(EntryType::Link, "b", "a/passwd"),
            "path leads through the symbolic link",
        ),
        (
            Archive::new().link(EntryType::Link, "b", "../../etc/shadow"),
            "path leads out of the image",
        ),
        (
            Archive::new().link(EntryType::Link, "b", "/etc/shadow"),
            "path is absolute",
        ),
        (
            Archive::new().link(EntryType::Link, "b", "gone"),
            "hard link to \"gone\", which is not in the image",
        ),
        (
            Archive::new().folder("d").link(EntryType::Link, "b", "d"),
            "hard link to the directory \"d\"",
        ),
        (
            Archive::new().file("f", b"").file("f/g", b""),
            "path leads through \"f\", which is no directory",
        ),
        (
            Archive::new().device(EntryType::Block, "sda", 8, 0),
            "block device 8:0 is not taken into an image",
        ),
        (
            Archive::new().device(EntryType::Char, "mem", 1, 1),
            "character device 1:1 is not taken",
        ),
        (
            Archive::new().device(EntryType::Char, "hide", 0, 0),
            "character device 0:0 is not taken",
        ),
        (
            Archive::new().file(&format!("x/{}", "n".repeat(256)), b""),
            "path is no path of Linux",
        ),
    ];
    for (archive, sentence) in cases {
        let error = squashfs(&[archive.bytes()], Whiteouts::Keep)
            .unwrap_err()
            .to_string();
        assert!(error.contains(sentence), "{error:?} lacks {sentence:?}");
    }
}

#[test]
fn zstd_is_read_as_the_program_writes_it() {
    // zstd 1.5.4: `printf abc | zstd -c`, and a thousand zeros by `zstd -19`
    // and by `zstd --ultra -22 --long=31`.
    let abc = hex::decode("28b52ffd0458190000616263990977ad").unwrap();
    let zeros = hex::decode("28b52ffd046845000008000100e42b20045a074479").unwrap();
    let wide = hex::decode("28b52ffd04a845000008000100e42b20045a074479").unwrap();
    // RFC 8878, 3.1.2: a frame that carries nothing, as in layers that can be read in parts.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"xy"].concat();
    let read = |bytes: &[u8]| {
        let mut out = Vec::new();
        let layer = expand(bytes, Compression::Zstd, 1, &Limits::default()).unwrap();
        let outcome = { layer }.read_to_end(&mut out);
        outcome.map(|_| out).map_err(|error| error.to_string())
    };
    let all = [&skipped[..], &abc, &skipped, &zeros, &skipped].concat();
    let expected = [&b"abc"[..], &[0; 1000]].concat();
    assert_eq!(read(&all), Ok(expected));
    // A window of 2 GiB is memory that a few bytes ask for.
    assert!(read(&wide).unwrap_err().contains("too much memory"));
    for cut in 1..abc.len() {
        assert!(read(&abc[..cut]).is_err(), "{cut}");
    }
    // Byte 5 only says how much memory is needed.
    for at in (0..abc.len()).filter(|at| *at != 5) {
        let mut changed = abc.clone();
        changed[at] ^= 1;
        assert!(read(&changed).is_err(), "{at}");
    }
    assert!(read(&[&abc[..], b"more"].concat()).is_err());
}

#[test]
fn a_small_file_does_not_become_a_huge_one() {
    let zeros = Archive::new().file("zeros", &vec![0; 40 << 20]).bytes();
    let limits = Limits {
        free: 1 << 20,
        ratio: 20,
        ..Limits::default()
    };
    for (compression, layer) in [
        (Compression::Gzip, gzip(&zeros)),
        (
            Compression::Zstd,
            zstd::encode_all(zeros.as_slice(), 3).unwrap(),
        ),
    ] {
        let size = layer.len() as u64;
        let mut tree = Tree::new(Whiteouts::Keep, limits);
        let layer = expand(layer.as_slice(), compression, size, &limits).unwrap();
        let error = tree.add_layer(layer).unwrap_err();
        assert!(matches!(error, Error::Bomb { .. }), "{error}");
    }
    let names = (0..2000).fold(Archive::new(), |archive, n| {
        archive.file(&format!("f{n}"), b"")
    });
    let limits = Limits {
        entries: 1000,
        ..Limits::default()
    };
    let mut tree = Tree::new(Whiteouts::Keep, limits);
    let error = tree.add_layer(names.bytes().as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "layer has more than 1000 entries");
    // A name of a gigabyte is not read.
    let mut header = Archive::header(EntryType::GNULongName, 1 << 30);
    header.set_path("././@LongLink").unwrap();
    header.set_cksum();
    let mut tree = Tree::new(Whiteouts::Keep, Limits::default());
    let error = tree.add_layer(header.as_bytes().as_slice()).unwrap_err();
    assert!(
        error.to_string().contains("extended header is too large"),
        "{error}"
    );
}

/// Records of a pax header with many attributes of different names.
fn attributes(from: usize, count: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for n in from..from + count {
        let body = format!(" SCHILY.xattr.user.{n:06}=\n");
        // All lengths have two digits.
        records.extend(format!("{}{body}", body.len() + 2).into_bytes());
    }
    records
}

#[test]
fn headers_that_multiply_end_the_work_and_not_the_memory() {
    let extended = |kind, records: &[u8]| (Archive::header(kind, records.len()), records.to_vec());
    let refused = |headers: Vec<(Header, Vec<u8>)>| {
        let mut archive = Archive::new();
        for (header, records) in headers {
            archive = archive.entry("pax", header, &records);
        }
        let bytes = archive.file("a", b"").bytes();
        let mut tree = Tree::new(Whiteouts::Apply, Limits::default());
        tree.add_layer(bytes.as_slice()).unwrap_err().to_string()
    };
    // One entry has one mebibyte of headers, however many they are, and few attributes.
    let same = attributes(1, 1).repeat(16 << 10);
    let many = vec![extended(EntryType::XHeader, &same); 3];
    assert!(refused(many).contains("extended header is too large"));
    let empty = vec![extended(EntryType::XHeader, b""); 3000];
    assert!(refused(empty).contains("extended header is too large"));
    let attributes_in_all = vec![
        extended(EntryType::XHeader, &attributes(0, 1000)),
        extended(EntryType::XHeader, &attributes(1000, 25)),
    ];
    assert!(refused(attributes_in_all).contains("value of an extended header"));
    // What is said for all entries is said in few words.
    let global = extended(EntryType::XGlobalHeader, &attributes(0, 600));
    assert!(refused(vec![global]).contains("extended header is too large"));
    // Attributes that a directory gets later count as well.
    let limits = Limits {
        text: 100_000,
        ..Limits::default()
    };
    let again = (0..20).fold(Archive::new().folder("d"), |archive, _| {
        let (header, records) = extended(EntryType::XHeader, &attributes(0, 900));
        archive.entry("pax", header, &records).folder("d")
    });
    let mut tree = Tree::new(Whiteouts::Apply, limits);
    let error = tree.add_layer(again.bytes().as_slice()).unwrap_err();
    assert!(matches!(error, Error::TooMuchText(_)), "{error}");
}

#[test]
fn holes_count_as_well() {
    let sparse = |size: u64| {
        let size = size.to_string();
        Archive::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.map", b"0,1"),
            ])
            .file("sparse", b"x")
    };
    let limits = Limits {
        holes: 1 << 20,
        ..Limits::default()
    };
    let add = |archive: Archive| {
        Tree::new(Whiteouts::Apply, limits).add_layer(archive.bytes().as_slice())
    };
    add(sparse(1 << 20)).unwrap();
    // Small, and thousands of years of work.
    for size in [(1 << 20) + 2, 1 << 62, u64::MAX] {
        let error = add(sparse(size)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sparse files of the layers have more than 1048576 bytes of holes"
        );
    }
    // Of all files together.
    let mut two = sparse(600_000).bytes();
    two.truncate(two.len() - 1024);
    two.extend(sparse(600_000).bytes());
    let error = Tree::new(Whiteouts::Apply, limits)
        .add_layer(two.as_slice())
        .unwrap_err();
    assert!(matches!(error, Error::TooManyHoles(_)), "{error}");
}

#[test]
fn what_costs_memory_is_counted_however_small_it_looks() {
    let global = |from| {
        let records: Vec<u8> = (from..from + 100)
            .flat_map(|n| format!("80 SCHILY.xattr.{n:03}={}\n", "v".repeat(59)).into_bytes())
            .collect();
        (
            Archive::header(EntryType::XGlobalHeader, records.len()),
            records,
        )
    };
    // Global headers that grow one by one, each for itself short enough.
    let growing = (0..4).fold(Archive::new(), |archive, n| {
        let (header, records) = global(100 * n);
        archive.entry("pax", header, &records).file("f", b"")
    });
    let mut tree = Tree::new(Whiteouts::Apply, Limits::default());
    let error = tree.add_layer(growing.bytes().as_slice()).unwrap_err();
    assert!(
        error.to_string().contains("extended header is too large"),
        "{error}"
    );
    // Attributes of two letters need more than two bytes, and those of whiteouts and of the root
    // have to be read as well.
    let limits = Limits {
        text: 1 << 20,
        ..Limits::default()
    };
    let short: Vec<u8> = (0..900)
        .flat_map(|n| format!("21 SCHILY.xattr.{n:03}=\n").into_bytes())
        .collect();
    for name in ["f", ".wh.f", "./", "d/.wh..wh.x/y"] {
        let many = (0..50).fold(Archive::new(), |archive, _| {
            let header = Archive::header(EntryType::XHeader, short.len());
            let archive = archive.entry("pax", header, &short);
            match name {
                "./" => archive.folder(name),
                name => archive.file(name, b""),
            }
        });
        let mut tree = Tree::new(Whiteouts::Apply, limits);
        let error = tree.add_layer(many.bytes().as_slice()).unwrap_err();
        assert!(matches!(error, Error::TooMuchText(_)), "{name}: {error}");
    }
    // Further names of a file are entries, and so are the folders that a long path makes.
    let limits = Limits {
        entries: 1000,
        ..Limits::default()
    };
    let names = (0..2000).fold(Archive::new().file("f", b""), |archive, n| {
        archive.link(EntryType::Link, &format!("l{n}"), "f")
    });
    let deep = Archive::new().file(&"d/".repeat(1500), b"");
    for archive in [names, deep] {
        let mut tree = Tree::new(Whiteouts::Apply, limits);
        let error = tree.add_layer(archive.bytes().as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "layer has more than 1000 entries");
    }
}

#[test]
fn an_empty_value_leaves_what_the_header_says() {
    let archive: Make = || {
        Archive::new()
            .pax(&[("path", b""), ("size", b""), ("mtime", b""), ("uid", b"")])
            .file("named", b"data")
            .bytes()
    };
    let made = tree(&[archive], Whiteouts::Apply).unwrap();
    assert_eq!(made, ["//", "/named=data"]);
}

#[test]
fn hiding_the_same_again_and_again_takes_no_time() {
    let below = (0..3000).fold(Archive::new(), |archive, n| {
        archive.file(&format!("d/e/{n}"), b"")
    });
    let mut above = (0..6000).fold(Archive::new(), |archive, n| {
        archive.file(&format!("d/e/new{n}"), b"")
    });
    for _ in 0..6000 {
        above = above.file("d/.wh..wh..opq", b"").file(".wh.d", b"");
    }
    let mut tree = Tree::new(Whiteouts::Apply, Limits::default());
    tree.add_layer(below.bytes().as_slice()).unwrap();
    let begin = std::time::Instant::now();
    tree.add_layer(above.bytes().as_slice()).unwrap();
    // 12,000 walks over 6000 names take ten seconds and more, one takes milliseconds.
    assert!(begin.elapsed().as_secs() < 3, "{:?}", begin.elapsed());
    // Root, d, e, and what the upper layer put there.
    assert_eq!(tree.reachable().len(), 3 + 6000);
}

#[test]
fn an_archive_that_is_cut_or_changed_is_refused_or_the_same() {
    let long = "n".repeat(150);
    let archive = Archive::new()
        .folder("etc")
        .file("etc/passwd", b"root\n")
        .link(EntryType::Link, "again", "etc/passwd")
        .link(EntryType::Symlink, "link", "/somewhere/else")
        .device(EntryType::Char, "null", 1, 3)
        .file(&long, b"long name")
        .pax(&[("SCHILY.xattr.user.note", b"a\0b"), ("size", b"1")])
        .file("noted", b"x")
        .bytes();
    let whole = squashfs(std::slice::from_ref(&archive), Whiteouts::Keep).unwrap();
    for cut in (0..archive.len()).step_by(97) {
        let result = squashfs(&[archive[..cut].to_vec()], Whiteouts::Keep);
        let at_a_header = cut % 512 == 0;
        assert!(
            result.is_err() || at_a_header || result.unwrap() == whole,
            "cut at {cut}"
        );
    }
    for at in (0..archive.len()).step_by(5) {
        let mut changed = archive.clone();
        changed[at] ^= 0x41;
        // Whatever it says: no panic, and nothing of a size that was not there.
        if let Ok(image) = squashfs(&[changed], Whiteouts::Keep) {
            assert!(image.len() <= 2 * whole.len());
        }
    }
}

/// Go's `archive/tar`, asked with the same four archives: refused, refused, read, read.
#[test]
fn nothing_is_hidden_behind_a_single_block_of_zeros() {
    let one = |path| {
        let mut bytes = Archive::new().file(path, b"").bytes();
        bytes.truncate(512);
        bytes
    };
    let (first, zeros, second) = (one("a"), vec![0; 512], one("b"));
    let names = |parts: &[&[u8]]| {
        let mut tree = Tree::new(Whiteouts::Keep, Limits::default());
        let added = tree.add_layer(parts.concat().as_slice());
        added.map(|()| tree.len())
    };
    let error = names(&[&first, &zeros, &second]).unwrap_err();
    assert!(error.to_string().contains("a block of zeros"), "{error}");
    let error = names(&[&first, &zeros, &second[..100]]).unwrap_err();
    assert!(
        error.to_string().contains("ends within a header"),
        "{error}"
    );
    // The root and one file.
    assert_eq!(names(&[&first, &zeros]).unwrap(), 2);
    assert_eq!(names(&[&first, &zeros, &zeros, &second]).unwrap(), 2);
}

#[test]
fn sparse_files_of_tar_have_their_holes() {
    if tool("tar").is_none() {
        return skip_without("tar");
    }
    let home = Home::new();
    let path = home.write("sparse", b"begin");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"middle", 1 << 20).unwrap();
    drop(file);
    for format in ["gnu", "pax"] {
        for version in ["0.1", "1.0"] {
            let mut pack = home.clean("tar");
            pack.args(["-S", "--format", format]);
            if format == "pax" {
                pack.args(["--sparse-version", version]);
            }
            pack.args(["-cf", "sparse.tar", "sparse"]);
            run(&mut pack).expect(0);
            let archive = fs::read(home.join("sparse.tar")).unwrap();
            assert!(archive.len() < 1 << 20, "{format} {version}");
            let image = squashfs(&[archive], Whiteouts::Keep).unwrap();
            let image = backhand::FilesystemReader::from_reader(Cursor::new(image)).unwrap();
            let node = image
                .files()
                .find(|node| node.fullpath.ends_with("sparse"))
                .unwrap();
            let backhand::InnerNode::File(file) = &node.inner else {
                panic!()
            };
            let mut content = Vec::new();
            image.file(file).reader().read_to_end(&mut content).unwrap();
            assert_eq!(content, fs::read(&path).unwrap(), "{format} {version}");
        }
    }
}
