//! `verify --strict`: after the judgement, every byte must be accounted for.

use super::super::program::call;
use super::{Error, FAILED};
use crate::coverage::{Coverage, Evidence};
use crate::report::Report;
use crate::sif::{self, Image};
use crate::ui::one_line;

/// The answer about the signatures, and about all other bytes if that was asked for.
pub(super) struct Judged {
    pub(super) report: Report,
    pub(super) coverage: Option<Coverage>,
}

impl Judged {
    /// Accounts for the bytes of the image as far as the report proves something.
    pub(super) fn new(image: &Image<'_>, report: Report, strict: bool) -> Result<Self, sif::Error> {
        let coverage = strict.then(|| Coverage::of(image, &Evidence::proved(&report)));
        // Zeros in the place of lost bytes look unused.
        image.still_there()?;
        Ok(Self { report, coverage })
    }

    /// What is printed below the signatures, once these hold.
    pub(super) fn coverage_of_verified(&self) -> Option<&Coverage> {
        self.coverage.as_ref().filter(|_| self.report.is_verified())
    }

    /// The refusal of an image whose signatures hold.
    pub(super) fn require_complete(&self) -> Result<(), Error> {
        let Some(coverage) = self.coverage.as_ref().filter(|c| !c.is_complete()) else {
            return Ok(());
        };
        Err(Error::Fatal {
            text: one_line(&format!("{FAILED}{}", refusal(coverage))),
            detail: Some(format!(
                "The signatures hold, but say nothing about some bytes; '{}' clears leftovers of \
                 edits",
                call("sif repair")
            )),
        })
    }
}

/// The sentence about bytes that nobody answers for.
pub(super) fn refusal(coverage: &Coverage) -> String {
    let [.., bytes] = coverage.totals();
    let places = coverage.uncovered().count();
    let (byte, place) = (plural(bytes), plural(places));
    format!("strict: {bytes} byte{byte} in {places} place{place} not covered by any signature")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
