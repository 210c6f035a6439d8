//! What a certificate says, compared with what `openssl x509` prints of it.

use super::*;

fn peer(name: &str) -> Certificate {
    let path = format!("fixtures/peers/x509/{name}.pem");
    Certificate::from_pem(&std::fs::read(path).unwrap()).unwrap()
}

/// `openssl req -new` with a P-256 key, then `openssl x509 -req -signkey`: no extension at all.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJDCBywIUYMacM91UIsbNcLoa6aGDJ0/dJB4wCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJVmVyc2lvbiAxMCAXDTI2MTEyNTIyMzUyNFoYDzIxMjYxMTAxMjIzNTI0
WjAUMRIwEAYDVQQDDAlWZXJzaW9uIDEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATmKR9sonKA5y5LlRgxOK3ITa7jr2LFNTqob9J6fr0bLXpeo3Yo8/iwvyukTCf7
aUwF9hvK/IE7T5GYPCniiqjyMAoGCCqGSM49BAMCA0gAMEUCIDsmSQIxCYSXzDbp
usWDkw5M7QB7ouTi34qJtgNu9gBIAiEApnoRgw5ss3HgURpfOo9LgC7Nd0XiuNN8
P4/AV1AjUkg=
-----END CERTIFICATE-----
";

#[test]
fn facts_are_those_that_openssl_prints() {
    let (root, between, leaf) = (peer("root"), peer("intermediate"), peer("leaf"));
    for (certificate, fingerprint, serial, subject, issuer) in [
        (
            &root,
            "c70a5a81f9b569bda508422af4347751\
             35303b5bb928c9d3fbc713108f78ef60",
            "3b0ed36508d813eef7749a972d0d3694984fb39c",
            "Fixture Root",
            "Fixture Root",
        ),
        (
            &between,
            "0aeaf8d2f01a690ab1570c1c357d0260\
             c1ed03300e12f73cdcf32381cef4dfc6",
            "1000",
            "Fixture Intermediate",
            "Fixture Root",
        ),
        (
            &leaf,
            "a94b94cfe751a8876879099e40b2b25f\
             27371189ceaea54682da2030595d20cc",
            "1001",
            "Fixture Leaf",
            "Fixture Intermediate",
        ),
    ] {
        assert_eq!(certificate.fingerprint(), fingerprint);
        assert_eq!(certificate.serial(), serial);
        assert_eq!(certificate.subject(), format!("CN={subject}"));
        assert_eq!(certificate.short_name(), subject);
        assert_eq!(certificate.issuer(), format!("CN={issuer}"));
        assert_eq!(certificate.issuer_short_name(), issuer);
        // 2026-11-22 09:19:23Z and 2076-11-09 09:19:23Z.
        assert_eq!(certificate.not_before(), 1_795_339_163);
        assert_eq!(certificate.not_after(), 3_372_139_163);
        assert_eq!(certificate.is_self_issued(), subject == issuer);
        assert_eq!(certificate.is_ca(), subject != "Fixture Leaf");
        assert!(!certificate.has_ocsp_no_check());
        let fresh = Certificate::from_der(certificate.der()).unwrap();
        assert_eq!(fresh, *certificate);
    }
    assert!(root.ocsp_urls().is_empty());
    assert_eq!(leaf.ocsp_urls(), ["http://127.0.0.1:18888"]);
    assert_eq!(
        leaf.subject_elements(),
        [[("CN".to_owned(), Some("Fixture Leaf".to_owned()))]]
    );
}

#[test]
fn validity_includes_its_first_and_its_last_second() {
    let leaf = peer("leaf");
    let (first, last) = (1_795_339_163, 3_372_139_163);
    for (at, limit) in [
        (first, None),
        (last, None),
        (first - 1, Some(first)),
        (last + 1, Some(last)),
    ] {
        let wanted = limit.map_or(Ok(()), |limit| Err(Error::Expired { at, limit }));
        assert_eq!(leaf.require_validity(at), wanted);
    }
}

#[test]
fn who_signed_whom_is_told_by_keys_and_not_by_names() {
    let (root, between, leaf) = (peer("root"), peer("intermediate"), peer("leaf"));
    let all = [&root, &between, &leaf];
    for (at, signer) in all.iter().enumerate() {
        for (of, signed) in all.iter().enumerate() {
            let by = matches!((at, of), (0, 0 | 1) | (1, 2));
            assert_eq!(signer.signed(signed), by, "{at} {of}");
        }
    }
    assert!(!peer("other-root").signed(&between));
}

/// RFC 5280, section 4.2.1.9: without basic constraints a version 3 certificate is no authority;
/// older versions cannot say.
#[test]
fn only_what_predates_basic_constraints_may_be_an_authority_without_them() {
    let old = Certificate::from_pem(VERSION_1.as_bytes()).unwrap();
    assert_eq!(old.version, Version::V1);
    assert!(old.is_ca());
    assert_eq!(
        Trust::default().validate(&old, Moment::now(1_800_000_000)),
        Err(Error::OldVersion(1))
    );
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let new = Certificate::from_der(made.der()).unwrap();
    assert_eq!(new.version, Version::V3);
    assert_eq!(new.extensions.ca, None);
    assert!(!new.is_ca());
}

/// A certificate of its own with these extensions, DER behind their identifiers.
fn with_extensions(
    extensions: &[(&[u64], &[u8])],
    change: Change<'_>,
) -> Result<Certificate, Error> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.custom_extensions = extensions
        .iter()
        .map(|(id, der)| rcgen::CustomExtension::from_oid_content(id, der.to_vec()))
        .collect();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    Certificate::from_der(params.self_signed(&key).unwrap().der())
}

type Change<'a> = &'a dyn Fn(&mut rcgen::CertificateParams);

#[test]
fn an_extension_must_be_what_its_identifier_says() {
    let nothing: &[u8] = &[5, 0];
    for (last, name) in [
        (14, "subject key identifier"),
        (15, "key usage"),
        (17, "subject alternative names"),
        (19, "basic constraints"),
        (30, "name constraints"),
        (31, "CRL distribution points"),
        (35, "authority key identifier"),
        (37, "extended key usages"),
    ] {
        let id: &[u64] = &[2, 5, 29, last];
        assert_eq!(
            with_extensions(&[(id, nothing)], &|_| {}),
            Err(Error::Extension(name))
        );
    }
    let unknown = with_extensions(&[(&[2, 5, 29, 99], nothing)], &|_| {}).unwrap();
    assert!(!unknown.extensions.unhandled_critical);
    // RFC 6960, section 4.2.2.2.1: the content is NULL.
    let freed = with_extensions(&[(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], nothing)], &|_| {});
    assert!(freed.unwrap().has_ocsp_no_check());
    // Section 4.2.2.1 of RFC 5280: addresses of other things stand beside those of responders.
    let access = |method: u8, url: &str| {
        let length = u8::try_from(url.len()).unwrap();
        let mut der = vec![0x30, length + 12, 6, 8];
        der.extend([0x2b, 6, 1, 5, 5, 7, 48, method, 0x86, length]);
        der.extend(url.bytes());
        der
    };
    let both = [access(2, "http://ca"), access(1, "http://ocsp")].concat();
    let list = [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat();
    let found = with_extensions(&[(&[1, 3, 6, 1, 5, 5, 7, 1, 1], &list)], &|_| {});
    assert_eq!(found.unwrap().ocsp_urls(), ["http://ocsp"]);
}

/// RFC 5280, section 4.2.1.10: constraints on addresses hold for the subject only where no
/// alternative name stands.
#[test]
fn an_address_in_the_subject_counts_only_without_alternative_names() {
    let email = rcgen::DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
    for (address, alternative, counts) in [
        (false, false, false),
        (false, true, false),
        (true, false, true),
        (true, true, false),
    ] {
        let made = with_extensions(&[], &|params| {
            if address {
                let value = rcgen::string::Ia5String::try_from("a@example.org").unwrap();
                let value = rcgen::DnValue::Ia5String(value);
                params.distinguished_name.push(email.clone(), value);
            }
            if alternative {
                let name = rcgen::string::Ia5String::try_from("example.org").unwrap();
                params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
            }
        });
        let made = made.unwrap();
        assert_eq!(
            made.has_address_in_subject(),
            counts,
            "{address} {alternative}"
        );
        let said = made.subject().contains("emailAddress=a@example.org");
        assert_eq!(said, address);
        // Where nothing is constrained an address is no harm.
        let trust = Trust {
            roots: vec![made.clone()],
            ..Trust::default()
        };
        assert!(trust.validate(&made, Moment::now(1_800_000_000)).is_ok());
    }
}

type Authority = rcgen::Issuer<'static, rcgen::KeyPair>;

/// An authority of its own or under another one, and its certificate.
fn authority(name: &str, limit: Option<u8>, by: Option<&Authority>) -> (Authority, Certificate) {
    authority_with(rcgen::KeyPair::generate().unwrap(), name, limit, by)
}

fn authority_with(
    key: rcgen::KeyPair,
    name: &str,
    limit: Option<u8>,
    by: Option<&Authority>,
) -> (Authority, Certificate) {
    use rcgen::BasicConstraints::{Constrained, Unconstrained};
    let mut params = named(name);
    params.is_ca = rcgen::IsCa::Ca(limit.map_or(Unconstrained, Constrained));
    let made = match by {
        Some(by) => params.signed_by(&key, by),
        None => params.self_signed(&key),
    };
    let certificate = Certificate::from_der(made.unwrap().der()).unwrap();
    (rcgen::Issuer::new(params, key), certificate)
}

fn named(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params
}

fn leaf_of(authority: &Authority) -> Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = named("Signer").signed_by(&key, authority).unwrap();
    Certificate::from_der(made.der()).unwrap()
}

/// RFC 5280, section 4.2.1.9: the number counts the certificates between.
#[test]
fn a_path_may_be_as_long_as_its_root_allows() {
    for (allowed, between) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2)] {
        let (mut last, root) = authority("Root", Some(allowed), None);
        let mut intermediates = Vec::new();
        for at in 0..between {
            let (next, made) = authority(&format!("Between {at}"), None, Some(&last));
            intermediates.push(made);
            last = next;
        }
        let trust = Trust {
            roots: vec![root],
            intermediates,
            ..Trust::default()
        };
        let found = trust.validate(&leaf_of(&last), Moment::now(1_800_000_000));
        match between > allowed {
            true => assert_eq!(found, Err(Error::TooManyIntermediates)),
            false => assert_eq!(
                found.unwrap().certificates().len(),
                usize::from(between) + 2
            ),
        }
    }
}

/// The sentences are those of Go 1.26, `crypto/x509` and `crypto/rsa`.
#[test]
fn a_signature_by_another_key_of_that_name_is_told_by_the_kind_of_key() {
    for (kind, words) in [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            "x509: ECDSA verification failure",
        ),
        (&rcgen::PKCS_ED25519, "x509: Ed25519 verification failure"),
        (&rcgen::PKCS_RSA_SHA256, "crypto/rsa: verification error"),
    ] {
        let key = || rcgen::KeyPair::generate_for(kind).unwrap();
        let (real, _) = authority_with(key(), "Root", None, None);
        let (_, other) = authority_with(key(), "Root", None, None);
        let trust = Trust {
            roots: vec![other],
            ..Trust::default()
        };
        let refused = trust.validate(&leaf_of(&real), Moment::now(1_800_000_000));
        assert_eq!(
            refused,
            Err(Error::UnknownAuthority {
                possibly: Some((words.to_owned(), "Root".to_owned()))
            })
        );
    }
}
