//! Plans what can be put right in an image without guessing.
//!
//! Header numbers, the architecture, the place of the table, unused bytes and
//! a lost RootIndex follow from the rest; duplicate blobs say the same twice.
//! Objects stay where they are. An image with any other fault is left alone:
//! writing it anew could lose what is left of it.

use super::root_index::{self, Rebuilt};
use super::{Finding, Problem, Severity, examine, oci};
use crate::digest::HashAlgorithm;
use crate::sif::edit::{Content, Edit, Error as EditError, NewObject, Patch, Wipe};
use crate::sif::types::DataType;
use crate::sif::{self, Extra, GroupId, Image};

/// What a repair would do.
pub struct Plan {
    /// The new file, if there is anything to repair: always one that is written anew.
    pub patch: Option<Patch>,
    /// What is put right by it.
    pub repaired: Vec<Finding>,
    /// What stays, notes included.
    pub left: Vec<Finding>,
    /// More about what was done.
    pub remarks: Vec<String>,
}

/// Why a repair cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Image(#[from] sif::Error),
    /// The new file cannot be laid out.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The RootIndex cannot be built after all.
    #[error(transparent)]
    RootIndex(#[from] root_index::Error),
}

/// Plans the repair of an image; blobs are hashed with at most `threads` threads.
///
/// # Errors
/// As [`Error`] says.
pub fn plan(image: &Image<'_>, threads: usize) -> Result<Plan, Error> {
    let findings = examine(image, threads)?;
    let blocked = findings
        .iter()
        .any(|f| matches!(f.problem, Problem::Fault(_)) && !f.problem.is_repairable());
    let (repaired, left): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| !blocked && finding.problem.is_repairable());
    let mut plan = Plan {
        patch: None,
        repaired,
        left,
        remarks: Vec::new(),
    };
    if plan.repaired.is_empty() {
        return Ok(plan);
    }
    // Nothing that the times are about changes.
    let mut edit = Edit::new(image, image.header().modified_at());
    edit.renew();
    for finding in &plan.repaired {
        match (&finding.problem, finding.object) {
            (Problem::DuplicateBlob { .. }, Some(id)) => edit.delete(id, Wipe::Keep)?,
            (Problem::LostRootIndex { .. }, _) => {
                let damaged = oci::Hashed::of(image, threads)?.changed;
                let rebuilt = root_index::rebuild(image, &damaged)?;
                plan.remarks.extend(
                    rebuilt
                        .left_out
                        .iter()
                        .map(|left_out| format!("the new root index does not name {left_out}")),
                );
                edit.add(new_root(image, rebuilt))?;
            }
            _ => {}
        }
    }
    plan.patch = Some(edit.plan()?);
    Ok(plan)
}

impl Plan {
    /// Whether nothing worse than notes stays.
    pub fn leaves_only_notes(&self) -> bool {
        self.left.iter().all(|f| f.severity == Severity::Note)
    }
}

/// Source: spec/oci-sif-cosign.md 1.1.
fn new_root(image: &Image<'_>, rebuilt: Rebuilt) -> NewObject {
    let digest = HashAlgorithm::Sha256.digest(&rebuilt.bytes);
    let blobs = image.objects().iter();
    let group = blobs
        .filter(|object| object.data_type() == DataType::OciBlob)
        .find_map(|object| object.group());
    NewObject {
        group: group.or_else(|| GroupId::new(1)),
        extra: Extra::OciDigest(digest),
        ..NewObject::new(DataType::OciRootIndex, Content::Bytes(rebuilt.bytes))
    }
}
