//! Renders listings and reports as the originals print them; decides nothing.

use super::{Columns, Tables, escaped, is_heard, one_line, tables};
use crate::key::index::{self, ListedKey};
use crate::key::pgp::Entity;
use crate::key::x509;
use crate::report::{
    Failure, ObjectSummary, Origin, PgpSigner, SignatureReport, Signer, Standing, Subject,
};
use crate::sif::types::DataType;
use crate::sif::{Descriptor, ExtraError, Image, Link, UNSET_TIME};
use std::fmt::Write as _;

/// Global header, two columns. Source: spec/sif.md 2.1.
pub fn header(image: &Image<'_>) -> String {
    let header = image.header();
    let mut rows = Columns::new();
    let script = header.launch_script();
    if !script.is_empty() {
        let script = script.strip_suffix(b"\n").unwrap_or(script);
        rows.row("Launch Script:", escaped(script));
    }
    rows.row("Version:", "01");
    if header.arch().name() != "unknown" {
        rows.row("Primary Architecture:", header.arch().name());
    }
    if header.id() != [0; 16] {
        rows.row("ID:", uuid_text(&header.id()));
    }
    if header.created_at() != UNSET_TIME {
        rows.row("Created At:", utc(header.created_at()));
    }
    if header.modified_at() != UNSET_TIME {
        rows.row("Modified At:", utc(header.modified_at()));
    }
    rows.row("Descriptors Free:", header.descriptors_free());
    rows.row("Descriptors Total:", header.descriptors_total());
    rows.row("Descriptors Offset:", header.descriptors_offset());
    rows.row("Descriptors Size:", readable(header.descriptors_size()));
    rows.row("Data Offset:", header.data_offset());
    rows.row("Data Size:", readable(header.data_size()));
    rows.render("", 1)
}

/// One row per object. Source: spec/sif.md 2.2.
pub fn list(image: &Image<'_>) -> String {
    if is_heard() {
        return heard_list(image);
    }
    let rule = "-".repeat(78);
    let mut out =
        format!("{rule}\nID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE\n{rule}\n");
    for object in image.objects() {
        let link = match object.link() {
            Link::None => format!("{:<7}", "NONE"),
            Link::Object(id) => format!("{:<7}", id.get()),
            Link::Group(id) => format!("{:<3} (G)", id.get()),
        };
        let end = object.offset().wrapping_add(object.size());
        let position = format!("|{}-{end} ", object.offset());
        let _ = writeln!(
            out,
            "{:<4} |{:<7} |{link} {position:<26} |{}{}",
            object.raw_id(),
            group_text(object.group().map(|g| g.get())),
            object.data_type(),
            type_suffix(object)
        );
    }
    out
}

/// The same without a drawing.
fn heard_list(image: &Image<'_>) -> String {
    let mut out = String::new();
    for object in image.objects() {
        let mut rows = vec![
            ("Object", object.raw_id().to_string()),
            (
                "Type",
                format!("{}{}", object.data_type(), type_suffix(object)),
            ),
            (
                "Group",
                group_text(object.group().map(|group| group.get())).to_lowercase(),
            ),
        ];
        match object.link() {
            Link::None => {}
            Link::Object(id) => rows.push(("Linked to", format!("object {id}"))),
            Link::Group(id) => rows.push(("Linked to", format!("group {id}"))),
        }
        let end = object.offset().wrapping_add(object.size());
        rows.push(("Bytes", format!("{} to {end}", object.offset())));
        if !out.is_empty() {
            out.push('\n');
        }
        for (name, value) in rows {
            let _ = writeln!(out, "{name}: {value}");
        }
    }
    out
}

fn type_suffix(object: &Descriptor) -> String {
    match object.data_type() {
        DataType::Partition => {
            let (fs, part, arch) = object.partition();
            format!(" ({fs}/{part}/{})", arch.name())
        }
        DataType::Signature => object
            .signature_hash()
            .map(|hash| format!(" ({hash})"))
            .unwrap_or_default(),
        DataType::CryptoMessage => {
            let (format, kind) = object.crypto_message();
            format!(" ({format}/{kind})")
        }
        DataType::Sbom => format!(" ({})", object.sbom_format()),
        _ => String::new(),
    }
}

/// Everything about one object. Source: spec/sif.md 2.3.
///
/// # Errors
/// The extra field cannot be read; nothing is rendered then.
pub fn info(object: &Descriptor) -> Result<String, ExtraError> {
    let mut rows = Columns::new();
    rows.row("Data Type:", object.data_type());
    rows.row("ID:", object.raw_id());
    rows.row("Group ID:", group_text(object.group().map(|g| g.get())));
    rows.row("Linked ID:", link_text(object.link()));
    rows.row("Offset:", object.offset());
    rows.row("Size:", object.size());
    if object.created_at() != UNSET_TIME {
        rows.row("Created At:", utc(object.created_at()));
    }
    if object.modified_at() != UNSET_TIME {
        rows.row("Modified At:", utc(object.modified_at()));
    }
    if !object.name().is_empty() {
        rows.row("Name:", escaped(object.name()));
    }
    match object.data_type() {
        DataType::Partition => {
            let (fs, part, arch) = object.partition();
            rows.row("Filesystem Type:", fs);
            rows.row("Partition Type:", part);
            rows.row("Architecture:", arch.name());
        }
        DataType::Signature => {
            rows.row("Hash Type:", object.signature_hash()?);
            if let Some(fingerprint) = object.signature_fingerprint() {
                rows.row("Entity:", hex::encode_upper(fingerprint));
            }
        }
        DataType::CryptoMessage => {
            let (format, kind) = object.crypto_message();
            rows.row("Format Type:", format);
            rows.row("Message Type:", kind);
        }
        DataType::Sbom => rows.row("Format:", object.sbom_format()),
        DataType::OciRootIndex | DataType::OciBlob => rows.row("Digest:", object.oci_digest()?),
        _ => {}
    }
    Ok(rows.render("  ", 2))
}

/// Tells that an answer is about another time than now.
pub fn judged_at(at: u64) -> String {
    format!("Judged as of {}, not as of now\n", x509::time(at))
}

/// Whose signatures count for the demands on the signers.
pub fn standing(standing: &[Standing]) -> String {
    let mut out = match is_heard() {
        true => String::new(),
        false => format!(
            "Signers that count:\nGROUP   |OBJECT  |SIGNER\n{}\n",
            "-".repeat(48)
        ),
    };
    for entry in standing {
        let (group, object) = match entry.subject {
            Subject::Group(group) => (group.to_string(), "ALL".to_owned()),
            Subject::Object(group, id) => (group.to_string(), id.to_string()),
            Subject::Image => ("NONE".to_owned(), "ALL".to_owned()),
        };
        let names = entry.signers.iter().flat_map(signer_names);
        let names: Vec<String> = names.collect();
        let none = if is_heard() { "none" } else { "NONE" };
        let nobody = names.is_empty().then(|| none.to_owned());
        for name in names.into_iter().chain(nobody) {
            let name = one_line(&name);
            let _ = match is_heard() {
                true => writeln!(
                    out,
                    "Signer that counts: {name}, group {}, object {}",
                    group.to_lowercase(),
                    object.to_lowercase()
                ),
                false => writeln!(out, "{group:<8}|{object:<8}|{name}"),
            };
        }
    }
    out
}

/// What people call the keys of a signer.
pub fn signer_names(signer: &Signer) -> Vec<String> {
    match signer {
        Signer::Pgp(pgp) => vec![format!("PGP {}", pgp.fingerprint)],
        Signer::Keys(keys) => keys
            .iter()
            .map(|key| match &key.certificate {
                Some(facts) => format!("{} {}", key.algorithm, facts.subject),
                None if key.key_id.is_empty() => format!("{} {}", key.algorithm, key.spki),
                None => format!("{} {}", key.algorithm, key.key_id),
            })
            .collect(),
    }
}

/// What the originals print for one signature. Source: spec/sif.md 4.9.
pub fn signature(report: &SignatureReport, color: bool) -> String {
    let mut out = String::new();
    if let (Some(failure), true) = (&report.failure, report.ignored) {
        let reason = match failure {
            Failure::NotValid { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        let (id, subject) = (report.object, report.subject());
        let reason = one_line(&reason);
        let _ = writeln!(out, "Signature object {id} of {subject} ignored: {reason}");
        return out;
    }
    if is_heard() {
        return heard_signature(report);
    }
    if let Some(Signer::Pgp(signer)) = &report.signer {
        pgp_signer(&mut out, signer, color);
    }
    if !report.verified.is_empty() {
        let _ = write!(
            out,
            "Objects verified:\nID  |GROUP   |LINK    |TYPE\n{}\n",
            "-".repeat(48)
        );
        for object in &report.verified {
            verified_row(&mut out, object);
        }
    }
    if let Some(failure) = &report.failure {
        let _ = write!(
            out,
            "\nError encountered during signature verification: {}\n",
            one_line(&failure.to_string())
        );
    }
    out
}

/// One signature without a drawing, each fact on its line.
fn heard_signature(report: &SignatureReport) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name}: {}", one_line(value));
    };
    if let Some(Signer::Pgp(signer)) = &report.signer {
        if let Some(user) = &signer.user_id {
            line("Signing entity", user);
        }
        line("Fingerprint", &signer.fingerprint.to_string());
        line(
            "Key",
            match signer.origin {
                Origin::Global => "from the keyring of all users",
                Origin::Local => "from your keyring",
                Origin::Remote => "from a key server",
            },
        );
    }
    for object in &report.verified {
        let group = group_text(object.group.map(|group| group.get())).to_lowercase();
        let (id, kind) = (object.id, object.data_type);
        line("Object verified", &format!("{id}, {kind}, group {group}"));
    }
    if let Some(failure) = &report.failure {
        line(
            "Error encountered during signature verification",
            &failure.to_string(),
        );
    }
    out
}

fn pgp_signer(out: &mut String, signer: &PgpSigner, color: bool) {
    let tag = format!("[{}]", signer.origin);
    let tag = if color {
        let code = match signer.origin {
            Origin::Global => 36,
            Origin::Local => 32,
            Origin::Remote => 33,
        };
        format!("\x1b[{code}m{tag}\x1b[0m")
    } else {
        tag
    };
    if let Some(user) = &signer.user_id {
        let _ = writeln!(out, "{tag:<18} Signing entity: {}", one_line(user));
    }
    let _ = writeln!(out, "{tag:<18} Fingerprint: {}", signer.fingerprint);
}

fn verified_row(out: &mut String, object: &ObjectSummary) {
    let _ = writeln!(
        out,
        "{:<4}|{:<8}|{:<8}|{}",
        object.id,
        group_text(object.group.map(|g| g.get())),
        link_text(object.link),
        object.data_type
    );
}

/// A keyring as `key list` prints it. Source: spec/cli.md 4.4.
pub fn keys(entities: &[Entity]) -> String {
    let mut out = String::new();
    for (index, entity) in entities.iter().enumerate() {
        let mut rows: Vec<(&str, String)> = Vec::new();
        for user in entity.user_ids() {
            rows.push(("User:", user_text(user)));
        }
        rows.push((
            "Creation time:",
            local(i64::try_from(entity.created()).unwrap_or(i64::MAX)),
        ));
        rows.push(("Fingerprint:", entity.fingerprint().to_string()));
        rows.push(("Length (in bits):", entity.bit_length().to_string()));
        let number = format!("{index})");
        for (line, (label, value)) in rows.into_iter().enumerate() {
            let number = if line == 0 { number.as_str() } else { "" };
            let width = index_width(index);
            let _ = writeln!(out, "{number:<width$}{label:<19}{value}");
        }
        out.push('\n');
    }
    out
}

/// The private keys to choose from. Source: spec/cli.md 1.2.
pub fn key_choices(entities: &[Entity]) -> String {
    let mut out = String::new();
    for (index, entity) in entities.iter().enumerate() {
        for user in entity.user_ids() {
            let _ = writeln!(out, "{index}) U: {}", user_text(user));
        }
        let _ = writeln!(
            out,
            "   C: {}",
            local(i64::try_from(entity.created()).unwrap_or(i64::MAX))
        );
        let _ = writeln!(out, "   F: {}", entity.fingerprint());
        let _ = writeln!(out, "   L: {}", entity.bit_length());
        out.push_str("   --------\n");
    }
    out
}

/// The keys that a key server listed. Source: spec/cli.md 3.3.
///
/// Columns are as wide as they need to be for one key; the heading belongs to the first.
///
/// # Errors
/// Only for the long form: a field that should be a number.
pub fn listed_keys(keys: &[ListedKey], long: bool) -> Result<String, index::Error> {
    let heading: &[&str] = if long {
        &[
            "FINGERPRINT",
            "ALGORITHM",
            "BITS",
            "CREATION DATE",
            "EXPIRATION DATE",
            "STATUS",
            "NAME/EMAIL",
        ]
    } else {
        &["KEY ID", "BITS", "NAME/EMAIL"]
    };
    let mut rows = vec![heading.iter().map(ToString::to_string).collect()];
    let mut out = String::new();
    for (number, key) in keys.iter().enumerate() {
        if number > 0 {
            flush_rows(&mut out, &mut rows);
            out.push('\n');
        }
        listed_key(&mut rows, key, long)?;
    }
    flush_rows(&mut out, &mut rows);
    Ok(out)
}

fn listed_key(
    rows: &mut Vec<Vec<String>>,
    key: &ListedKey,
    long: bool,
) -> Result<(), index::Error> {
    let date = |text: &str, time: Option<i64>| match time {
        Some(time) => local(time),
        None if text == "none" => text.to_owned(),
        None if tables() == Tables::Apptainer => String::new(),
        None => "[ultimate]".to_owned(),
    };
    let mut cells = if long {
        vec![
            one_line(&key.fingerprint),
            key.algorithm_name()?.to_owned(),
            one_line(&key.bits),
            date(&key.created, key.created_at()?),
            date(&key.expires, key.expires_at()?),
            format!("[{}]", key.status()),
        ]
    } else {
        vec![one_line(key.short_id()), one_line(&key.bits)]
    };
    let indent = vec![String::new(); cells.len()];
    let mut users = key.user_ids.iter().map(|user| one_line(user));
    cells.push(users.next().unwrap_or_default());
    rows.push(cells);
    rows.extend(users.map(|user| [indent.as_slice(), &[user]].concat()));
    Ok(())
}

/// Writes rows in columns two blanks apart; the last column is not padded.
fn flush_rows(out: &mut String, rows: &mut Vec<Vec<String>>) {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter() {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    for row in rows.drain(..) {
        let last = row.len().saturating_sub(1);
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if at == last {
                out.push_str(cell);
            } else {
                let width = width.saturating_add(2);
                let _ = write!(out, "{cell:<width$}");
            }
        }
        out.push('\n');
    }
}

fn user_text(user: &crate::key::pgp::UserId) -> String {
    one_line(&format!(
        "{} ({}) <{}>",
        user.name, user.comment, user.email
    ))
}

/// Width of the first column: number, `)` and two blanks.
fn index_width(index: usize) -> usize {
    index.to_string().len().saturating_add(3)
}

fn group_text(group: Option<u32>) -> String {
    group.map_or_else(|| "NONE".to_owned(), |group| group.to_string())
}

fn link_text(link: Link) -> String {
    match link {
        Link::None => "NONE".to_owned(),
        Link::Object(id) => id.to_string(),
        Link::Group(id) => format!("{id} (G)"),
    }
}

fn uuid_text(id: &[u8; 16]) -> String {
    let hex = hex::encode(id);
    let part = |range| hex.get(range).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}

/// A number of bytes for people: `27 KiB`. Source: spec/sif.md 2.1.
pub fn readable(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes.unsigned_abs() < 1024 {
        return format!("{bytes} B");
    }
    let mut divisor = 1024_i128;
    let value = i128::from(bytes);
    for unit in UNITS {
        if value.abs() < divisor * 1024 || unit == "EiB" {
            // Half away from zero.
            let rounded = (value.abs() * 2 + divisor) / (divisor * 2);
            return format!("{} {unit}", rounded * value.signum());
        }
        divisor *= 1024;
    }
    format!("{bytes} B")
}

/// A time in UTC as Go prints it, for every 64-bit number of seconds.
///
/// Go counts from the year -292277022399 in 64 bits without sign, so numbers
/// before that year wrap to the far future.
pub fn utc(seconds: i64) -> String {
    const FIRST: i128 = -9_223_372_028_715_321_600;
    let mut seconds = i128::from(seconds);
    if seconds < FIRST {
        seconds += 1 << 64;
    }
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date of the proleptic Gregorian calendar, in 400-year eras
    // that start on 1 March (H. Hinnant, "chrono-Compatible Low-Level Date
    // Algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    format!(
        "{sign}{:04}-{month:02}-{day:02} {:02}:{:02}:{:02} +0000 UTC",
        year.abs(),
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A time in the local zone as Go prints it: `2019-11-15 09:54:54 -0600 CST`.
pub fn local(seconds: i64) -> String {
    let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| utc(seconds),
        |time| {
            time.to_zoned(zone)
                .strftime("%Y-%m-%d %H:%M:%S %z %Z")
                .to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_as_the_originals() {
        // spec/sif.md 2.1.
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (-1, "-1 B"),
            (2047, "2 KiB"),
            (28080, "27 KiB"),
            (1_048_575, "1024 KiB"),
            (-2000, "-2 KiB"),
            (i64::MAX, "8 EiB"),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn times_are_printed_for_every_number() {
        // spec/sif.md 2.1; the last ones are Go's wrap.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (1_590_175_859, "2020-05-22 19:30:59 +0000 UTC"),
            (UNSET_TIME, "0001-01-01 00:00:00 +0000 UTC"),
            (UNSET_TIME - 1, "0000-12-31 23:59:59 +0000 UTC"),
            (-62_167_219_201, "-0001-12-31 23:59:59 +0000 UTC"),
            (253_402_300_800, "10000-01-01 00:00:00 +0000 UTC"),
            (i64::MAX, "292277026596-12-04 15:30:07 +0000 UTC"),
            (i64::MIN, "292277026596-12-04 15:30:08 +0000 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
