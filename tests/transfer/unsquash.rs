//! Layers of squashfs as tar, judged by other readers of both.

use crate::layers::{Archive, listing, squashfs};
use crate::support::{Home, run, skip, skip_without, tool};
use sigsif::layer::convert::to_tar;
use sigsif::layer::tar::{Entry, Kind, Reader};
use sigsif::layer::tree::Whiteouts;
use sigsif::layer::unsquash::FileSystem;
use sigsif::layer::{Error, Limits};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tar::EntryType;

fn limited(image: &[u8], lowest: bool, limits: Limits) -> Result<Vec<u8>, Error> {
    let read = |at: u64, buffer: &mut [u8]| {
        let at = usize::try_from(at).unwrap();
        let part = image.get(at..at + buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let len = image.len() as u64;
    let mut image = FileSystem::open(Box::new(read), len, limits)?;
    to_tar(&mut image, len, lowest, &limits, Vec::new()).map(|done| done.out)
}

pub fn unsquashed(image: &[u8], lowest: bool) -> Result<Vec<u8>, Error> {
    limited(image, lowest, Limits::default())
}

/// Every entry of an archive by its name, with its data.
pub fn entries(archive: &[u8]) -> BTreeMap<String, (Entry, Vec<u8>)> {
    let mut out = BTreeMap::new();
    let mut reader = Reader::new(archive);
    while let Some(mut entry) = reader.entry().unwrap() {
        let mut data = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match reader.read(&mut chunk).unwrap() {
                0 => break,
                count => data.extend_from_slice(&chunk[..count]),
            }
        }
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        let name = name.trim_end_matches('/').to_owned();
        entry.path = name.clone().into_bytes();
        entry.xattrs.sort();
        assert!(out.insert(name.clone(), (entry, data)).is_none(), "{name}");
    }
    out
}

/// A folder with one of everything.
fn everything(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("etc/deep")).unwrap();
    fs::write(at("etc/passwd"), b"root\n").unwrap();
    fs::hard_link(at("etc/passwd"), at("again")).unwrap();
    fs::write(at("empty"), b"").unwrap();
    let noise: Vec<u8> = (0..400_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(at("big"), &noise).unwrap();
    fs::write(at("exact"), &noise[..256 << 10]).unwrap();
    fs::write(at("copy"), &noise).unwrap();
    let holes = fs::File::create(at("holes")).unwrap();
    holes.set_len(5 << 20).unwrap();
    holes.write_all_at(b"middle", 2 << 20).unwrap();
    std::os::unix::fs::symlink("/somewhere/else", at("link")).unwrap();
    let long = format!("{}/{}", "n".repeat(200), "m".repeat(255));
    fs::create_dir(at(&"n".repeat(200))).unwrap();
    fs::write(at(&long), b"long").unwrap();
    std::os::unix::fs::symlink(format!("../{long}"), at("etc/long-link")).unwrap();
    fs::hard_link(at(&long), at("zz-long-again")).unwrap();
    for number in 0..700 {
        fs::write(at(&format!("etc/deep/{number}")), format!("{number}")).unwrap();
    }
    fs::set_permissions(at("etc/deep/7"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(at("etc/deep"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(at("etc/deep/8"), Some(3_000_000), Some(77)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let note = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(at(name), key, value, flags).unwrap();
    };
    note("etc/deep/9", "user.note", b"a\0b");
    note("etc/deep/10", "user.note", b"a\0b");
    note("etc/deep/10", "user.large", &[b'v'; 300]);
    note("etc/deep/11", "user.large", &[b'v'; 300]);
    note("etc", "trusted.mark", b"1");
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    for (name, kind, major, minor) in [
        ("null", rustix::fs::FileType::CharacterDevice, 1, 3),
        ("disk", rustix::fs::FileType::BlockDevice, 259, 300),
        ("pipe", rustix::fs::FileType::Fifo, 0, 0),
    ] {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, at(name), kind, mode, device).unwrap();
    }
    let times = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_234_567_890));
    fs::File::open(at("etc/passwd"))
        .unwrap()
        .set_times(times)
        .unwrap();
}

fn ready(programs: &[&str]) -> bool {
    for program in programs {
        if tool(program).is_none() {
            skip_without(program);
            return false;
        }
    }
    if !rustix::process::geteuid().is_root() {
        skip("owners and devices need root");
        return false;
    }
    true
}

/// The images of a folder by different programs.
fn images(home: &Home) -> Vec<(&'static str, Vec<u8>)> {
    let folder = home.join("folder");
    fs::create_dir(&folder).unwrap();
    everything(&folder);
    let mut out = Vec::new();
    let forms: [(&str, &[&str]); 7] = [
        ("plain", &[]),
        ("zstd", &["-comp", "zstd"]),
        ("zstd, large blocks", &["-comp", "zstd", "-b", "1048576"]),
        ("small blocks", &["-b", "4096"]),
        (
            "large blocks, all in fragments",
            &["-b", "1048576", "-always-use-fragments"],
        ),
        ("stored", &["-noI", "-noD", "-noF", "-noX", "-noId"]),
        (
            "no fragments, no table of exports",
            &["-no-fragments", "-no-exports"],
        ),
    ];
    for (form, args) in forms {
        let mut make = home.clean("mksquashfs");
        make.arg(&folder)
            .arg(home.join("made"))
            .args(["-noappend", "-no-progress", "-quiet"])
            .args(args);
        run(&mut make).expect(0);
        out.push((form, fs::read(home.join("made")).unwrap()));
    }
    out
}

#[test]
fn a_layer_of_squashfs_reads_the_same_as_tar() {
    if !ready(&["mksquashfs", "unsquashfs", "tar"]) {
        return;
    }
    let home = Home::new();
    for (form, image) in images(&home) {
        let archive = home.write("archive.tar", &unsquashed(&image, true).unwrap());
        let image = home.write("image", &image);
        for name in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(home.join(name));
        }
        fs::create_dir(home.join("ours")).unwrap();
        let mut unpack = home.clean("tar");
        unpack
            .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
            .arg(archive)
            .arg("-C")
            .arg(home.join("ours"));
        run(&mut unpack).expect(0);
        let mut unpack = home.clean("unsquashfs");
        unpack
            .args(["-no-progress", "-strict-errors", "-d"])
            .arg(home.join("theirs"))
            .arg(image);
        run(&mut unpack).expect(0);
        let (ours, theirs) = (listing(&home.join("ours")), listing(&home.join("theirs")));
        assert!(theirs.len() > 700);
        assert_eq!(ours, theirs, "{form}");
        let passwd = fs::metadata(home.join("ours/etc/passwd")).unwrap();
        assert_eq!((passwd.mtime(), passwd.nlink()), (1_234_567_890, 2));
    }
}

#[test]
fn it_is_the_archive_that_the_program_of_singularity_makes() {
    if !ready(&["mksquashfs", "sqfs2tar"]) {
        return;
    }
    let home = Home::new();
    for (form, image) in images(&home) {
        let mut ours = entries(&unsquashed(&image, true).unwrap());
        let path = home.write("image", &image);
        let made = home.clean("sqfs2tar").arg(path).output().unwrap();
        assert!(made.status.success(), "{form}");
        let theirs = entries(&made.stdout);
        // The root is theirs to leave out.
        ours.remove(".");
        assert_eq!(ours.len(), theirs.len());
        for (name, mut expected) in theirs {
            let found = ours.remove(&name).unwrap();
            // Which name of a file comes first is nobody's business; what it links to is.
            if let (Kind::HardLink(one), Kind::HardLink(other)) = (&found.0.kind, &expected.0.kind)
            {
                assert_eq!(one, other, "{name}");
                expected.0 = found.0.clone();
            }
            assert!(
                found == expected,
                "{form}: {name}: {:?} {:?}",
                found.0,
                expected.0
            );
        }
    }
}

#[test]
fn tar_that_becomes_squashfs_becomes_the_same_tar_again() {
    let archive = Archive::new()
        .folder("a")
        .file("a/x", b"1")
        .file("a/.wh.gone", b"")
        .folder("b")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", &vec![7; 300_000])
        .link(EntryType::Link, "c", "a/x")
        .link(EntryType::Symlink, "d", "a/x")
        .device(EntryType::Char, "null", 1, 3)
        .pax(&[("SCHILY.xattr.user.note", b"v")])
        .file("noted", b"x")
        .file(".wh.top", b"")
        .bytes();
    let image = squashfs(std::slice::from_ref(&archive), Whiteouts::Keep).unwrap();
    let again = unsquashed(&image, false).unwrap();
    let (mut before, after) = (entries(&archive), entries(&again));
    // A whiteout has no attributes of its own.
    for name in ["a/.wh.gone", "b/.wh..wh..opq", ".wh.top"] {
        assert!(before.remove(name).is_some());
        let (entry, data) = &after[name];
        assert_eq!((&entry.kind, data.len()), (&Kind::File, 0), "{name}");
    }
    assert_eq!(after.len(), before.len() + 3);
    for (name, expected) in &before {
        assert_eq!(&after[name], expected, "{name}");
    }
    // And the squashfs of it is the same to the last byte.
    let image_again = squashfs(std::slice::from_ref(&again), Whiteouts::Keep).unwrap();
    assert!(image_again == image);
}

#[test]
fn what_tar_cannot_say_is_refused() {
    let told = |image: &[u8], lowest| match unsquashed(image, lowest) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    if !ready(&["mksquashfs"]) {
        return;
    }
    // A file whose name is that of a whiteout hides nothing in the lowest layer.
    let named = renamed("plain", ".wh.f");
    assert_eq!(told(&named, true), "");
    assert_eq!(
        told(&named, false),
        "tar entry \".wh.f\": name of a file would become a whiteout"
    );
    for (plain, name) in [
        ("wxyz", "a/bc"),
        ("xy", ".."),
        ("q", "."),
        ("vwxy", "a\0bc"),
    ] {
        assert_eq!(
            told(&renamed(plain, name), true),
            "malformed squashfs: a name that no file can have",
            "{name}"
        );
    }
    for (name, reason) in [
        (
            "trusted.overlay.redirect",
            "a part of a file of the layers below",
        ),
        (
            "trusted.overlay.metacopy",
            "a part of a file of the layers below",
        ),
        ("user.a=b", "has no form in tar"),
        ("trusted.overlay.origin", ""),
    ] {
        let home = Home::new();
        let root = folder(&home, "f");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("f"), name, b"/x", flags).unwrap();
        let told = told(&stored(&home, &root), true);
        assert!(
            told.contains(reason) && told.is_empty() == reason.is_empty(),
            "{name}: {told}"
        );
    }
}

fn folder(home: &Home, name: &str) -> std::path::PathBuf {
    let root = home.join("folder");
    fs::create_dir(&root).unwrap();
    fs::write(root.join(name), b"").unwrap();
    root
}

/// The image of a folder, nothing of it compressed.
fn stored(home: &Home, root: &Path) -> Vec<u8> {
    let mut make = home.clean("mksquashfs");
    make.arg(root)
        .arg(home.join("stored"))
        .args(["-noappend", "-no-progress", "-quiet"])
        .args(["-noI", "-noD", "-noF", "-noX", "-noId"]);
    run(&mut make).expect(0);
    fs::read(home.join("stored")).unwrap()
}

/// A file system of one file whose name was changed afterwards.
fn renamed(plain: &str, name: &str) -> Vec<u8> {
    assert_eq!(plain.len(), name.len());
    let home = Home::new();
    let root = folder(&home, plain);
    let mut image = stored(&home, &root);
    let at = listings(&image) + 12 + 8;
    assert_eq!(&image[at..at + plain.len()], plain.as_bytes());
    image[at..at + name.len()].copy_from_slice(name.as_bytes());
    image
}

/// Where the first directory begins, behind the length of its block.
fn listings(image: &[u8]) -> usize {
    let at = u64::from_le_bytes(image[72..80].try_into().unwrap());
    usize::try_from(at).unwrap() + 2
}

#[test]
fn a_directory_within_itself_ends() {
    if !ready(&["mksquashfs"]) {
        return;
    }
    let home = Home::new();
    let root = home.join("folder");
    fs::create_dir_all(root.join("d/e")).unwrap();
    let image = stored(&home, &root);
    // The listing of `d` is the first one: its entry leads to the root, or to `d` itself.
    let entry = listings(&image) + 12;
    assert_eq!(image[entry + 8], b'e');
    let own = u64::from_le_bytes(image[32..40].try_into().unwrap());
    let d = listings(&image) + 12 + 9 + 12;
    assert_eq!(image[d + 8], b'd');
    let d = u64::from(u16::from_le_bytes(image[d..d + 2].try_into().unwrap()));
    for place in [own, d] {
        let mut hostile = image.clone();
        hostile[entry..entry + 2].copy_from_slice(&u16::try_from(place).unwrap().to_le_bytes());
        let error = unsquashed(&hostile, true).unwrap_err().to_string();
        assert_eq!(error, "malformed squashfs: a directory has two names");
    }
    // Two names of one file are fine: a hard link, or a second copy.
    unsquashed(&image, true).unwrap();
}

#[test]
fn a_small_layer_does_not_become_a_huge_one() {
    let limits = Limits {
        free: 1 << 20,
        ratio: 1,
        entries: 50,
        ..Limits::default()
    };
    let zeros = vec![0; 2 << 20];
    let image = squashfs(
        &[Archive::new().file("z", &zeros).bytes()],
        Whiteouts::Apply,
    )
    .unwrap();
    assert!(image.len() < 8192);
    let error = limited(&image, true, limits).unwrap_err();
    assert!(matches!(error, Error::Bomb { .. }), "{error}");
    let many = (0..60).fold(Archive::new(), |archive, n| {
        archive.file(&format!("{n:03}"), b"")
    });
    let image = squashfs(&[many.bytes()], Whiteouts::Apply).unwrap();
    let error = limited(&image, true, limits).unwrap_err();
    assert_eq!(error.to_string(), "layer has more than 50 entries");
    // What has to be expanded to read it counts, too.
    let limits = Limits {
        free: 64,
        ratio: 0,
        ..Limits::default()
    };
    let error = limited(&image, true, limits).unwrap_err();
    assert!(matches!(error, Error::Bomb { .. }), "{error}");
}

#[test]
fn a_layer_that_is_cut_or_changed_is_refused_or_read() {
    let archive = Archive::new()
        .folder("etc")
        .file("etc/passwd", b"root\n")
        .file("etc/long", &vec![3; 200_000])
        .link(EntryType::Link, "again", "etc/passwd")
        .link(EntryType::Symlink, "link", "/somewhere/else")
        .device(EntryType::Char, "null", 1, 3)
        .pax(&[("SCHILY.xattr.user.note", b"a\0b")])
        .file("noted", b"x")
        .bytes();
    let image = squashfs(&[archive], Whiteouts::Keep).unwrap();
    unsquashed(&image, false).unwrap();
    let begin = Instant::now();
    let used = usize::try_from(u64::from_le_bytes(image[40..48].try_into().unwrap())).unwrap();
    for cut in 0..used {
        assert!(unsquashed(&image[..cut], false).is_err(), "cut at {cut}");
    }
    for at in 0..used {
        for change in [0x01, 0x41, 0x80, 0xff] {
            let mut changed = image.clone();
            changed[at] ^= change;
            // Whatever it says: no panic, and an archive that our own reader takes.
            if let Ok(archive) = unsquashed(&changed, true) {
                let mut reader = Reader::new(archive.as_slice());
                while reader.entry().unwrap().is_some() {}
            }
        }
    }
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn the_same_folder_in_zstd_is_the_same_archive() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/squashfs");
        fs::read(path.join(name)).unwrap()
    };
    let [gzip, zstd] = ["gzip.squashfs", "zstd.squashfs"].map(read);
    assert_eq!((gzip[20], zstd[20]), (1, 6));
    let archive = unsquashed(&zstd, true).unwrap();
    assert!(archive == unsquashed(&gzip, true).unwrap());
    let numbers: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    let found = entries(&archive);
    assert_eq!(found["etc/numbers"].1, numbers.as_bytes());
    assert_eq!(found["etc/deep/7"].1, b"7\n");
    // Blocks that are changed or cut are refused, or read to a whole archive.
    let used = usize::try_from(u64::from_le_bytes(zstd[40..48].try_into().unwrap())).unwrap();
    for at in 0..used {
        let mut changed = zstd.clone();
        changed[at] ^= 0x41;
        if let Ok(archive) = unsquashed(&changed, true) {
            let mut reader = Reader::new(archive.as_slice());
            while reader.entry().unwrap().is_some() {}
        }
        assert!(at % 16 != 0 || unsquashed(&zstd[..at], true).is_err());
    }
}

#[test]
fn another_compression_is_named() {
    if !ready(&["mksquashfs"]) {
        return;
    }
    let home = Home::new();
    fs::create_dir(home.join("folder")).unwrap();
    fs::write(home.join("folder/f"), b"x").unwrap();
    for method in ["xz", "lz4", "lzo"] {
        let mut make = home.clean("mksquashfs");
        make.arg(home.join("folder")).arg(home.join("made")).args([
            "-noappend",
            "-no-progress",
            "-quiet",
            "-comp",
            method,
        ]);
        run(&mut make).expect(0);
        let error = unsquashed(&fs::read(home.join("made")).unwrap(), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("squashfs is compressed with {method}, only gzip and zstd are read")
        );
    }
}

#[test]
fn attributes_that_are_read_again_and_again_end_the_work() {
    if !ready(&["mksquashfs"]) {
        return;
    }
    let home = Home::new();
    let names: Vec<String> = (0..1000)
        .map(|n| format!("SCHILY.xattr.trusted.{n:03}"))
        .collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let archive = Archive::new()
        .pax(&records)
        .device(EntryType::Char, "w", 0, 0);
    let archive = (0..2000).fold(archive, |archive, n| {
        archive.link(EntryType::Link, &format!("l{n}"), "w")
    });
    let archive = home.write("whiteouts.tar", &archive.bytes());
    let mut make = home.clean("sh");
    make.args([
        "-c",
        "mksquashfs - \"$1\" -tar -noappend -no-progress -quiet <\"$0\"",
    ])
    .arg(&archive)
    .arg(home.join("image"));
    run(&mut make).expect(0);
    let image = fs::read(home.join("image")).unwrap();
    assert!(image.len() < 20_000);
    // Two thousand names of one whiteout, each with a thousand attributes.
    let limits = Limits {
        free: 8 << 20,
        ..Limits::default()
    };
    let error = limited(&image, true, limits).unwrap_err();
    assert!(matches!(error, Error::Bomb { .. }), "{error}");
}

#[test]
fn a_whiteout_of_what_has_no_name_in_a_tar_layer_is_refused() {
    if !ready(&["mksquashfs"]) {
        return;
    }
    // In a tar layer `.wh.` in front of it would hide everything in the folder.
    for (name, lowest) in [(".wh..opq", true), (".wh..opq", false), (".wh.x", true)] {
        let home = Home::new();
        let root = folder(&home, "plain");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join(name),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0),
            0,
        )
        .unwrap();
        let error = unsquashed(&stored(&home, &root), lowest).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("name of a file would become a whiteout"),
            "{name}: {error}"
        );
    }
}
