//! Draws what an OCI-SIF holds.

use super::{is_plain, one_line};
use serde::Serialize;
use std::fmt::Write as _;

/// A line of the tree, ready for people and for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// One word: `index`, `image`, `layer`, ...
    pub role: &'static str,
    /// Digest.
    pub digest: String,
    /// Length in bytes.
    pub size: u64,
    /// Media type.
    pub media_type: String,
    /// Name of an entry of an index.
    pub name: Option<String>,
    /// Platform.
    pub platform: Option<String>,
    /// Id of the object in the SIF.
    pub object: Option<u32>,
    /// What else is known, for people: who signed, for which image.
    pub note: Option<String>,
    /// Whether a given key made the signature; `None` without keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// What is wrong.
    pub fault: Option<String>,
    /// What it names.
    pub children: Vec<Item>,
}

/// The tree as JSON.
pub fn json(image: &str, root: &Item) -> String {
    #[derive(Serialize)]
    struct Document<'r> {
        schema: &'static str,
        image: &'r str,
        root: &'r Item,
    }
    super::json::pretty(&Document {
        schema: "sigsif-tree-1",
        image,
        root,
    })
}

/// The tree for people, one line per item.
pub fn text(image: &str, root: &Item) -> String {
    let mut out = format!("{}\n", one_line(image));
    draw(&mut out, root, "", true);
    out
}

fn draw(out: &mut String, item: &Item, indent: &str, last: bool) {
    let (branch, below) = match (is_plain(), last) {
        (true, _) => ("", "  "),
        (false, true) => ("`-- ", "    "),
        (false, false) => ("|-- ", "|   "),
    };
    let _ = writeln!(out, "{indent}{branch}{}", line(item));
    let indent = format!("{indent}{below}");
    let mut children = item.children.iter().peekable();
    while let Some(child) = children.next() {
        draw(out, child, &indent, children.peek().is_none());
    }
}

fn line(item: &Item) -> String {
    // Twelve digits tell blobs of one file apart; JSON has them all.
    let short = match item.digest.split_once(':') {
        Some((algorithm, digits)) => {
            format!("{algorithm}:{}", digits.get(..12).unwrap_or(digits))
        }
        None => item.digest.clone(),
    };
    let mut line = format!("{} {short} {} bytes", item.role, item.size);
    if let Some(id) = item.object {
        let _ = write!(line, ", object {id}");
    }
    for part in [&item.platform, &item.note].into_iter().flatten() {
        let _ = write!(line, ", {}", one_line(part));
    }
    if matches!(item.role, "layer" | "other") {
        let _ = write!(line, ", {}", one_line(&item.media_type));
    }
    if let Some(fault) = &item.fault {
        let _ = write!(line, "  ! {}", one_line(fault));
    }
    line
}
