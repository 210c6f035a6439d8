//! Advice that names keys or files: other for every image, so it is checked here and taken away
//! before answers are compared.

use super::common::fixtures;
use super::record::Record;
use std::path::PathBuf;

const PEM: &str = "The signature was made with a PEM key";
const UNKNOWN: &str = "openpgp: signature made by unknown entity";

/// The text without that advice.
///
/// # Errors
/// It says something else than image and command line.
pub fn checked(stderr: &str, record: &Record) -> Result<String, String> {
    let Some(fatal) = stderr.lines().find(|line| line.starts_with("FATAL: ")) else {
        return Ok(stderr.to_owned());
    };
    let mut left = String::new();
    let mut named = false;
    for line in stderr.split_inclusive('\n') {
        let text = line.strip_prefix("INFO:    ").unwrap_or_default();
        let claims = text
            .strip_prefix("Signature object ")
            .and_then(|rest| rest.split_once(" names the key "));
        if let Some((object, rest)) = claims {
            let (names, advice) = rest.split_once(", which ").ok_or(line)?;
            require_names(names, record)?;
            let known = match fatal.ends_with(UNKNOWN) {
                true => advice.starts_with("no keyring has; '") && advice.contains("key import'"),
                false => advice == "is none of those given\n",
            };
            let about = format!("signature object {object} not valid: ");
            if !known || !fatal.contains(&about) {
                return Err(format!("{line} does not belong to {fatal}"));
            }
            named = true;
        } else if let Some((names, rest)) = text
            .strip_prefix(PEM)
            .and_then(|rest| rest.strip_prefix(", ")?.split_once("; "))
        {
            require_names(names, record)?;
            left.push_str(&format!("INFO:    {PEM}; {rest}"));
        } else if fatal.contains(": failed to load key material: ") || text.starts_with('\'') {
            let file = text.strip_prefix('\'').and_then(|t| t.split_once("' "));
            match file {
                Some((file, _)) if record.has(file) => {}
                Some(_) => return Err(format!("{line} names another file")),
                None => left.push_str(line),
            }
        } else {
            left.push_str(line);
        }
    }
    let silent = ["--silent", "--quiet", "-s", "-q"];
    if fatal.ends_with(UNKNOWN) && !named && !silent.iter().any(|flag| record.has(flag)) {
        return Err("no word about whose signature it is".to_owned());
    }
    Ok(left)
}

/// Every name must stand in the image: as text in an envelope, or as bytes in its descriptor.
fn require_names(names: &str, record: &Record) -> Result<(), String> {
    let image = record.argv.last().map(PathBuf::from).unwrap_or_default();
    let file = image.file_name().unwrap_or_default();
    let found = ["native", "edit/images"].map(|folder| fixtures::peers().join(folder).join(file));
    let found = found.iter().find_map(|path| std::fs::read(path).ok());
    let known = found.ok_or_else(|| format!("no image {}", image.display()))?;
    let has = |part: &[u8]| known.windows(part.len()).any(|window| window == part);
    for name in names.split(", ") {
        let there = match hex::decode(name) {
            Ok(fingerprint) => fingerprint.len() == 20 && has(&fingerprint),
            Err(_) => has(format!("\"keyid\":\"{name}\"").as_bytes()),
        };
        if !there && !record.names("unsigned.sif") {
            return Err(format!("{name} is not in {}", image.display()));
        }
    }
    Ok(())
}
