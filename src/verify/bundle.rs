//! The judgement of one sigstore bundle: the signature of an image in the form
//! that cosign writes since version 3.

use super::cosign::{Request, signer};
use crate::digest::Digest;
use crate::key::pem::is_der_signature;
use crate::payload::intoto::{self, Statement};
use crate::payload::simple::SimpleSigning;
use crate::report::{CosignSignature, CosignVerdict};
use crate::signer::bundle::Bundle;

/// Judges a bundle that is about an image, or says why it cannot be read.
///
/// It counts only if its statement is a signature: an attestation of a key says
/// something about an image, not that the image is to be trusted. cosign takes both.
pub(super) fn judge(
    bundle: Result<Vec<u8>, String>,
    subject: &Digest,
    request: &Request<'_>,
) -> CosignSignature {
    let mut found = CosignSignature::new(subject.clone());
    let judged = bundle
        .map_err(|reason| CosignVerdict::NotByKey(format!("failed to retrieve bundle: {reason}")))
        .and_then(|bytes| judge_bytes(&bytes, subject, request, &mut found));
    found.verdict = match judged {
        Ok(()) => CosignVerdict::Valid,
        Err(verdict) => verdict,
    };
    found
}

fn judge_bytes(
    bytes: &[u8],
    subject: &Digest,
    request: &Request<'_>,
    found: &mut CosignSignature,
) -> Result<(), CosignVerdict> {
    let unusable = |reason: String| CosignVerdict::NotByKey(reason);
    let bundle = Bundle::parse(bytes).map_err(|error| unusable(error.to_string()))?;
    let opened = bundle
        .open(intoto::PAYLOAD_TYPE, request.keys)
        .map_err(|error| unusable(error.to_string()))?;
    found.signer = Some(signer(opened.key()));
    found.scheme = Some(opened.scheme().name());
    let refused = |reason: String| Err(CosignVerdict::Refused(reason));
    let statement = match Statement::parse_strictly(opened.payload()) {
        Ok(statement) => statement,
        Err(error) => return refused(error.to_string()),
    };
    let Some(annotations) = statement.annotations(subject) else {
        return refused(format!("the statement is not about {subject}"));
    };
    let payload = SimpleSigning {
        reference: String::new(),
        digest: subject.to_string(),
        kind: statement.predicate_type().to_owned(),
        optional: (!annotations.is_empty()).then(|| annotations.clone()),
        oddities: Vec::new(),
    };
    let refusal = super::cosign::unmet(&payload, intoto::SIGN_TYPE, request);
    found.payload = Some(payload);
    if let Some(reason) = refusal {
        return refused(reason);
    }
    let raw =
        opened.key().algorithm().starts_with("ECDSA") && !is_der_signature(opened.signature());
    if request.strict && raw {
        return refused("the signature is in the form r || s, not DER".to_owned());
    }
    Ok(())
}
