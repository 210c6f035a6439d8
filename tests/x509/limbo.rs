//! The public x509-limbo suite of path validation.
//!
//! Its cases are for TLS servers and clients. Here a case's own extended key usage takes the
//! place of code signing, and names of hosts are nobody's: what rests on them is listed.

use super::support;
use der::asn1::ObjectIdentifier;
use sigsif::key::crl::Crl;
use sigsif::key::x509::{Certificate, Error, Moment, Trust, Usage};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Cases that this program answers otherwise, and why that is right or must do.
///
/// The library is rustls-webpki, the originals are SingularityCE and Apptainer (Go).
const DIFFERENT: &[(&str, &[&str])] = &[
    (
        "accepted: the fault is in names of hosts, and no host is asked about here",
        &[
            "rfc5280::nc::invalid-dnsname-leading-period",
            "rfc5280::san::underscore-dns",
            "rfc5280::san::ip-in-dns",
            "webpki::cn::ipv4-hex-mismatch",
            "webpki::cn::ipv4-leading-zeros-mismatch",
            "webpki::cn::ipv6-uppercase-mismatch",
            "webpki::cn::ipv6-uncompressed-mismatch",
            "webpki::cn::ipv6-non-rfc5952-mismatch",
            "webpki::cn::punycode-not-in-san",
            "webpki::cn::utf8-vs-punycode-mismatch",
            "webpki::cn::not-in-san",
            "webpki::cn::case-mismatch",
            "webpki::san::mismatch-domain-san",
            "webpki::san::mismatch-subdomain-san",
            "webpki::san::mismatch-subdomain-apex-san",
            "webpki::san::mismatch-apex-subdomain-san",
            "webpki::san::public-suffix-wildcard-san",
            "webpki::san::public-suffix-multi-label-wildcard-san",
            "webpki::san::public-suffix-private-namespace-wildcard-san",
            "webpki::san::wildcard-embedded-leftmost-san",
            "webpki::san::wildcard-not-in-leftmost-san",
            "webpki::san::wildcard-match-across-labels-san",
            "webpki::san::wildcard-embedded-ulabel-san",
            "webpki::san::no-san",
            "webpki::san::san-wildcard-only",
            "webpki::san::san-wildcard-only-tld",
        ],
    ),
    (
        "accepted: no longest chain can be set; the library stops at six intermediates",
        &[
            "pathlen::max-chain-depth-0-exhausted",
            "pathlen::max-chain-depth-1-exhausted",
        ],
    ),
    (
        "accepted, as the originals do: a duty of issuers that no step of RFC 5280, section 6 \
         asks about",
        &[
            "rfc5280::aki::leaf-missing-aki",
            "rfc5280::aki::intermediate-missing-aki",
            "rfc5280::aki::cross-signed-root-missing-aki",
            "rfc5280::ski::root-missing-ski",
            "rfc5280::ski::intermediate-missing-ski",
            "rfc5280::nc::permitted-dns-match-noncritical",
            "rfc5280::nc::not-allowed-in-ee-noncritical",
            "rfc5280::nc::not-allowed-in-ee-critical",
            "rfc5280::san::noncritical-with-empty-subject",
            "rfc5280::serial::zero",
            "rfc5280::ca-empty-subject",
            "rfc5280::root-non-critical-basic-constraints",
        ],
    ),
    (
        "accepted: a rule for certificates of web servers (CA/Browser Forum), not of signers",
        &[
            "webpki::aki::root-with-aki-missing-keyidentifier",
            "webpki::aki::root-with-aki-authoritycertissuer",
            "webpki::aki::root-with-aki-authoritycertserialnumber",
            "webpki::aki::root-with-aki-all-fields",
            "webpki::aki::root-with-aki-ski-mismatch",
            "webpki::eku::ee-anyeku",
            "webpki::eku::ee-critical-eku",
            "webpki::eku::ee-without-eku",
            "webpki::eku::root-has-eku",
            "webpki::san::san-critical-with-nonempty-subject",
            "webpki::forbidden-weak-rsa-in-leaf",
            "webpki::forbidden-rsa-not-divisible-by-8-in-root",
            "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
        ],
    ),
    (
        "accepted: meant to exhaust a validator; it is valid, and this one is done at once",
        &["pathological::nc-dos-3"],
    ),
    (
        "refused: the library takes no certificate of a CA for the signer's; it is accepted if it \
         is itself a root",
        &[
            "pathlen::validation-ignores-pathlen-in-leaf",
            "rfc5280::ca-as-leaf",
        ],
    ),
    (
        "refused: the library makes no exception for certificates whose issuer has the same name; \
         neither do the originals",
        &[
            "pathlen::self-issued-certs-pathlen",
            "rfc5280::nc::permitted-self-issued",
        ],
    ),
    (
        "refused: the library knows constraints on DNS names and addresses of hosts; others it \
         takes for not met",
        &[
            "rfc5280::nc::permitted-dn-match",
            "rfc5280::nc::nc-permits-email-exact",
            "rfc5280::nc::nc-permits-email-domain",
            "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
            "rfc5280::nc::nc-permits-email-literal-double-asterisk",
            "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
        ],
    ),
];

#[test]
fn limbo_cases_are_answered_as_expected_or_listed() {
    let Some(file) = suite() else {
        support::skip("x509-limbo is not here (SIGSIF_LIMBO names its limbo.json)");
        return;
    };
    let text = std::fs::read_to_string(file).expect("limbo.json");
    let suite: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let cases = suite["testcases"].as_array().expect("cases");
    assert_eq!(cases.len(), 194);
    let all = DIFFERENT
        .iter()
        .flat_map(|(reason, ids)| ids.iter().map(move |id| (*id, *reason)));
    let listed: BTreeMap<_, _> = all.clone().collect();
    assert_eq!(listed.len(), all.count(), "a case is listed twice");
    let mut faults = Vec::new();
    let mut unknown: Vec<_> = listed.keys().collect();
    let mut agreed = 0;
    for case in cases {
        let id = case["id"].as_str().expect("id");
        unknown.retain(|name| **name != id);
        let expected = case["expected_result"] == "SUCCESS";
        let found = judge(case);
        match (found.is_ok() == expected, listed.get(id)) {
            (true, None) => agreed += 1,
            (false, Some(reason)) => {
                if reason.starts_with("refused: ") != expected {
                    faults.push(format!("{id}: listed in the wrong direction"));
                }
            }
            (true, Some(reason)) => faults.push(format!("{id}: HEALED, strike it: {reason}")),
            (false, None) => {
                let description = case["description"].as_str().unwrap_or_default();
                let first = description.lines().next().unwrap_or_default();
                faults.push(format!(
                    "{id}: expected {expected}, found {found:?}\n    {first}"
                ));
            }
        }
    }
    faults.extend(unknown.iter().map(|id| format!("{id}: no such case")));
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
    println!(
        "x509-limbo: {agreed} of {} as expected, {} listed",
        cases.len(),
        listed.len()
    );
}

/// The suite is under a licence of its own and not part of this repository.
///
/// `SIGSIF_LIMBO` names the file, else it is looked for beside the repository.
fn suite() -> Option<PathBuf> {
    let file = std::env::var_os("SIGSIF_LIMBO").map_or_else(
        || support::project().join("../shared/corpus/x509-limbo/limbo.json"),
        PathBuf::from,
    );
    file.is_file().then_some(file)
}

fn judge(case: &serde_json::Value) -> Result<usize, String> {
    let text = |error: Error| error.to_string();
    let all = |name: &str| -> Vec<&[u8]> {
        let list = case[name].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .map(|pem| pem.as_str().expect("PEM").as_bytes())
            .collect()
    };
    let certificates = |name: &str| -> Result<Vec<Certificate>, String> {
        // As with a trust store: what cannot be read is not there.
        Ok(all(name)
            .into_iter()
            .filter_map(|pem| Certificate::from_pem(pem).ok())
            .collect())
    };
    let mut crls = Vec::new();
    for pem in all("crls") {
        crls.extend(Crl::all_from_file(pem).map_err(|e| e.to_string())?);
    }
    let trust = Trust {
        roots: certificates("trusted_certs")?,
        intermediates: certificates("untrusted_intermediates")?,
        crls,
    };
    let leaf = case["peer_certificate"].as_str().expect("leaf").as_bytes();
    let leaf = Certificate::from_pem(leaf).map_err(text)?;
    let chain = trust
        .validate_for(&leaf, usage(case), moment(case))
        .map_err(text)?;
    let key_usage = case["key_usage"].as_array().expect("key usage");
    assert!(key_usage.iter().all(|usage| usage == "digitalSignature"));
    // A key that checks no signature makes no certificate useful.
    chain.public_key().map_err(|e| e.to_string())?;
    Ok(chain.certificates().len())
}

fn usage(case: &serde_json::Value) -> Usage {
    let named = case["extended_key_usage"].as_array().expect("usages");
    assert!(named.len() <= 1);
    let server = match named.first() {
        Some(usage) if usage == "serverAuth" => true,
        Some(usage) if usage == "clientAuth" => false,
        Some(other) => panic!("{other}"),
        None => case["validation_kind"] == "SERVER",
    };
    let oid = if server {
        "1.3.6.1.5.5.7.3.1"
    } else {
        "1.3.6.1.5.5.7.3.2"
    };
    Usage(ObjectIdentifier::new_unwrap(oid))
}

fn moment(case: &serde_json::Value) -> Moment {
    let now = match case["validation_time"].as_str() {
        Some(text) => {
            let time: jiff::Timestamp = text.parse().expect("time");
            u64::try_from(time.as_second()).expect("time")
        }
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("clock")
            .as_secs(),
    };
    Moment::now(now)
}
