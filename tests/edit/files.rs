//! The file around the image: owner, mode, attributes, links, locks, other programs.

use super::support::{self, Home, TIME, finish, run, start};
use super::{full, names_in, objects, sign, sigsif, verify};
use rustix::fs::{FlockOperation, XattrFlags, flock, fsetxattr, getxattr};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_new_file_keeps_owner_mode_attributes_and_links() {
    let home = Home::new();
    let image = full(&home);
    fs::set_permissions(&image, Permissions::from_mode(0o640)).expect("chmod");
    let owned = chown(&image, Some(4321), Some(4322)).is_ok();
    let file = File::open(&image).expect("the image");
    let attributes = fsetxattr(&file, "user.note", b"kept", XattrFlags::empty()).is_ok();
    // An access list: user 1000 may read. Version 2, then tag, rights, id.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let listed = fsetxattr(&file, "system.posix_acl_access", &acl, XattrFlags::empty()).is_ok();
    drop(file);
    let link = home.join("link.sif");
    symlink("full.sif", &link).expect("a link");
    let old = fs::metadata(&image).expect("the image");
    sigsif(&home, "sif grow --capacity 9", &[&link]).expect(0);
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    let new = fs::metadata(&image).expect("the image");
    assert_ne!(new.ino(), old.ino());
    assert_eq!(new.mode(), old.mode());
    let mut value = [0; 200];
    if owned {
        assert_eq!((new.uid(), new.gid()), (4321, 4322));
    }
    if attributes {
        let len = getxattr(&image, "user.note", &mut value).expect("the attribute");
        assert_eq!(&value[..len], b"kept");
    }
    if listed {
        let len = getxattr(&image, "system.posix_acl_access", &mut value).expect("the list");
        assert_eq!(&value[..len], acl);
    }
    eprintln!("owner {owned}, attributes {attributes}, access list {listed}");
    verify(&home, &["--group-id", "1"], &image).expect(0);
}

#[test]
fn other_names_keep_the_old_image_and_that_is_told() {
    let home = Home::new();
    let image = full(&home);
    let other = home.join("other.sif");
    fs::hard_link(&image, &other).expect("a link");
    let old = fs::read(&image).expect("the image");
    // In place both names stay one file.
    sigsif(&home, "sif del 4", &[&image]).expect(0);
    assert_eq!(
        fs::read(&image).expect("the image"),
        fs::read(&other).expect("the image")
    );
    fs::write(&image, &old).expect("the image");
    sign(&home, &image)
        .expect(0)
        .says("1 other name(s) (hard links)");
    assert_eq!(objects(&image).len(), 6);
    assert!(
        fs::read(&other).expect("the image") == old,
        "changed under its other name"
    );
}

#[test]
fn a_new_image_follows_links_and_keeps_the_mode_of_a_file() {
    let home = Home::new();
    let image = home.join("image.sif");
    let link = home.join("link.sif");
    symlink("image.sif", &link).expect("a link");
    // The link leads nowhere yet.
    sigsif(&home, "sif new", &[&link]).expect(0);
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    let mode = fs::metadata(&image).expect("the image").mode() & 0o777;
    assert_eq!(mode & !0o755, 0, "{mode:o}");
    assert_eq!(mode & 0o700, 0o700, "{mode:o}");
    fs::write(&image, b"not an image").expect("a file");
    fs::set_permissions(&image, Permissions::from_mode(0o604)).expect("chmod");
    sigsif(&home, "sif new", &[&link]).expect(0);
    let new = fs::metadata(&image).expect("the image");
    assert_eq!((new.mode() & 0o777, new.len()), (0o604, 32176));
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
}

#[test]
fn what_a_killed_program_left_is_swept_and_nothing_else() {
    let home = Home::new();
    let image = full(&home);
    let data = fs::metadata(&image).expect("the image");
    let stale = format!(".sigsif-image-{:x}-{:x}-abc", data.dev(), data.ino());
    let other = format!(".sigsif-image-{:x}-{:x}-abc", data.dev(), data.ino() + 1);
    home.write(&stale, b"half an image");
    home.write(&other, b"of another image");
    sign(&home, &image).expect(0);
    assert_eq!(
        names_in(home.path()),
        [other, "full.sif".to_owned(), "some-data".to_owned()]
    );
}

#[test]
fn a_locked_image_is_waited_for_or_given_up() {
    let home = Home::new();
    let image = full(&home);
    let lock = File::open(&image).expect("the image");
    flock(&lock, FlockOperation::LockExclusive).expect("the lock");
    let key = support::peers("keys/ed25519.key.pem");
    let data = home.join("some-data");
    for words in [
        "sif add --datatype 7 --no-wait IMAGE DATA",
        "sif del --no-wait 1 IMAGE",
        "sif setprim --no-wait 2 IMAGE",
        "sif grow --no-wait --capacity 9 IMAGE",
        "sif new --no-wait IMAGE",
        "sign --no-wait --key KEY IMAGE",
    ] {
        let words: Vec<_> = words.split(' ').collect();
        let mut command = home.sigsif(words.iter().map(|word| match *word {
            "IMAGE" => image.as_os_str(),
            "DATA" => data.as_os_str(),
            "KEY" => key.as_os_str(),
            word => word.as_ref(),
        }));
        let refused = run(&mut command).says("another program is changing the image");
        let code = if words[0] == "sign" { 255 } else { 1 };
        refused.expect(code);
    }
    let begin = Instant::now();
    let waiting = start(home.sigsif(["sif", "del", "4"]).arg(&image));
    std::thread::sleep(Duration::from_millis(1300));
    drop(lock);
    let done = finish(waiting, Duration::from_secs(60), "del").expect(0);
    assert!(begin.elapsed() >= Duration::from_millis(1300));
    done.says("INFO:    Another program is changing");
    assert_eq!(objects(&image).len(), 3);
}

/// Who waits for the lock of a file that is replaced goes on with its successor.
#[test]
fn sixteen_programs_edit_and_sign_one_image() {
    let home = Home::new();
    let image = full(&home);
    let key = support::peers("keys/ed25519.key.pem");
    let running: Vec<_> = (0..16)
        .map(|n| {
            let data = home.write(&format!("data-{n}"), format!("data {n}").as_bytes());
            let mut command = match n % 4 {
                0 => {
                    let mut sign = home.sigsif(["sign", "--group-id", "1", "--key"]);
                    sign.arg(&key);
                    sign
                }
                // Among the others, so that tables grow while they wait.
                1 => {
                    let capacity = (60 + 10 * n).to_string();
                    home.sigsif(["sif", "grow", "--capacity", &capacity])
                }
                _ => home.sigsif(["sif", "add", "--datatype", "7", "--groupid", "2"]),
            };
            command.arg(&image).env("SOURCE_DATE_EPOCH", TIME);
            if n % 4 > 1 {
                command.arg(data);
            }
            (n, start(&mut command))
        })
        .collect();
    for (n, child) in running {
        let done = finish(child, Duration::from_secs(60), "an edit");
        // A table that is larger already cannot shrink.
        let shrinks = n % 4 == 1 && done.stderr.contains("cannot shrink");
        assert!(done.code == Some(0) || shrinks, "{done}");
    }
    let bytes = fs::read(&image).expect("the image");
    let all = super::table::objects(&bytes);
    assert_eq!(all.iter().filter(|o| o.is_signature()).count(), 1 + 4);
    for n in (0..16).filter(|n| n % 4 > 1) {
        let text = format!("data {n}");
        let there = all.iter().any(|o| bytes[o.range()] == *text.as_bytes());
        assert!(there, "object of program {n} is gone");
    }
    verify(&home, &["--group-id", "1"], &image).expect(0);
    sigsif(&home, "sif check", &[&image]).expect(0);
    let left = names_in(home.path());
    assert!(
        !left.iter().any(|name| name.starts_with(".sigsif")),
        "{left:?}"
    );
}

/// Readers that come at any moment see the old or the new table.
#[test]
fn readers_are_not_disturbed_by_an_editor() {
    let home = Home::new();
    let image = full(&home);
    let data = home.join("some-data");
    sigsif(&home, "sif grow --capacity 8", &[&image]).expect(0);
    sigsif(
        &home,
        "sif add --datatype 4 --partfs 1 --parttype 1 --partarch 4 --groupid 3",
        &[&image, &data],
    )
    .expect(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let list = sigsif(&home, "sif list", &[&image]).expect(0);
                let text = String::from_utf8_lossy(&list.stdout).into_owned();
                assert_eq!(text.matches("*System").count(), 1, "{text}");
                assert_eq!(list.stderr, "");
                looks += 1;
            }
            looks
        });
        for n in 0..40 {
            let words = if n % 2 == 0 {
                "sif setprim 5"
            } else {
                "sif setprim 2"
            };
            sigsif(&home, words, &[&image]).expect(0);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let looks = reader.join().expect("the reader");
        eprintln!("{looks} looks at an image during 40 edits");
    });
    assert_eq!(objects(Path::new(&image)).len(), 5);
}
