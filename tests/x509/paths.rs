//! Paths: the certificates of the peers, and a set of unusual ones, judged here and by OpenSSL.

use super::lab::{self, AS_IS, Party, extension, key, key_of, name, read, root};
use super::support;
use rcgen::{
    BasicConstraints, DnType, ExtendedKeyUsagePurpose as Eku, GeneralSubtree, IsCa,
    KeyUsagePurpose as Ku, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, SanType, date_time_ymd,
};
use sigsif::key::x509::{Certificate, Error, Moment, Trust};
use std::process::Command;

/// A time at which the certificates of the peers and of the set are valid: in 2030.
const NOW: u64 = support::NOW;

fn peer(name: &str) -> Certificate {
    Certificate::from_pem(&support::read_peers(&format!("x509/{name}.pem"))).expect(name)
}

fn trust(root: &str, intermediate: Option<&str>) -> Trust {
    Trust {
        roots: vec![peer(root)],
        intermediates: intermediate.into_iter().map(peer).collect(),
        crls: Vec::new(),
    }
}

#[test]
fn certificates_of_the_peers_are_judged_as_by_the_originals() {
    let whole = trust("root", Some("intermediate"));
    let chain = whole
        .validate(&peer("leaf"), Moment::now(NOW))
        .expect("a chain");
    let subjects: Vec<_> = chain
        .certificates()
        .iter()
        .map(Certificate::subject)
        .collect();
    assert_eq!(
        subjects,
        [
            "CN=Fixture Leaf",
            "CN=Fixture Intermediate",
            "CN=Fixture Root"
        ]
    );
    let key = chain.public_key().expect("a key");
    assert_eq!(key.algorithm(), "ECDSA P-256");
    let unknown = Error::UnknownAuthority { possibly: None };
    for trust in [
        trust("root", None),
        trust("other-root", Some("intermediate")),
        Trust::default(),
    ] {
        assert_eq!(
            trust.validate(&peer("leaf"), Moment::now(NOW)),
            Err(unknown.clone())
        );
    }
    assert_eq!(
        whole.validate(&peer("leaf-noeku"), Moment::now(NOW)),
        Err(Error::IncompatibleUsage)
    );
    let expired = whole
        .validate(&peer("leaf-expired"), Moment::now(NOW))
        .unwrap_err();
    assert_eq!(
        expired.to_string(),
        "x509: certificate has expired or is not yet valid: current time 2030-03-17T17:46:40Z is \
         after 2021-01-01T00:00:00Z"
    );
    let early = whole.validate(&peer("leaf"), Moment::now(0)).unwrap_err();
    assert!(
        early
            .to_string()
            .contains("current time 1970-01-01T00:00:00Z is before 20")
    );
}

/// One chain of the set.
struct Case {
    name: &'static str,
    signer: Certificate,
    roots: Vec<Certificate>,
    between: Vec<Certificate>,
    /// Length of the path, or the start of the refusal.
    expected: Result<usize, &'static str>,
    openssl: OpenSsl,
}

/// What OpenSSL says about a case.
#[derive(Clone, Copy, PartialEq)]
enum OpenSsl {
    /// The same.
    Agrees,
    /// The same, but only `-purpose codesign` looks at it.
    AgreesOnUsage,
    /// The contrary, for this reason.
    Differs(&'static str),
    /// The contrary, but only with `-purpose codesign`.
    DiffersOnUsage(&'static str),
}
use OpenSsl::{Agrees, AgreesOnUsage, Differs, DiffersOnUsage};

const UNKNOWN: &str = "x509: certificate signed by unknown authority";
const USAGE: &str = "x509: certificate specifies an incompatible key usage";
const EXPIRED: &str = "x509: certificate has expired or is not yet valid: current time 2030-03-17";
const PATH_LENGTH: &str = "x509: too many intermediates for path length constraint";
const CRITICAL: &str = "x509: unhandled critical extension";
const NAMES: &str =
    "x509: a root or intermediate certificate is not authorized to sign for this name";

fn case(
    name: &'static str,
    signer: &Party,
    between: &[&Party],
    roots: &[&Party],
    expected: Result<usize, &'static str>,
    openssl: OpenSsl,
) -> Case {
    let all = |parties: &[&Party]| parties.iter().map(|party| party.certificate()).collect();
    Case {
        name,
        signer: signer.certificate(),
        roots: all(roots),
        between: all(between),
        expected,
        openssl,
    }
}

/// Chains whose shape matters.
fn shapes() -> Vec<Case> {
    let top = root("Root", key(), AS_IS);
    let middle = top.ca("Intermediate", key(), AS_IS);
    let low = middle.ca("Issuing", key(), AS_IS);
    let signer = low.signer("Signer", key(), AS_IS);
    let mut cases = vec![
        case(
            "whole chain",
            &signer,
            &[&middle, &low],
            &[&top],
            Ok(4),
            Agrees,
        ),
        case(
            "order does not matter",
            &signer,
            &[&low, &middle],
            &[&top],
            Ok(4),
            Agrees,
        ),
        case(
            "a link is missing",
            &signer,
            &[&low],
            &[&top],
            Err(UNKNOWN),
            Agrees,
        ),
        case(
            "nothing in common",
            &signer,
            &[],
            &[&top],
            Err(UNKNOWN),
            Agrees,
        ),
        case(
            "intermediate as root",
            &signer,
            &[&low],
            &[&middle],
            Ok(3),
            Agrees,
        ),
        case("issuer as root", &signer, &[], &[&low], Ok(2), Agrees),
        case("signer as root", &signer, &[], &[&signer], Ok(1), Agrees),
        case(
            "root and intermediates swapped",
            &signer,
            &[&top, &low],
            &[&middle],
            Ok(3),
            Agrees,
        ),
    ];
    // Another root of the same name, with another key.
    let impostor = root("Root", key(), AS_IS);
    let one = top.signer("One", key(), AS_IS);
    cases.push(case(
        "same name, other key first",
        &one,
        &[],
        &[&impostor, &top],
        Ok(2),
        Agrees,
    ));
    cases.push(case(
        "same name, other key alone",
        &one,
        &[],
        &[&impostor],
        Err(
            "x509: certificate signed by unknown authority (possibly because of \"x509: ECDSA \
             verification failure\" while trying to verify candidate authority certificate \
             \"Root\")",
        ),
        Agrees,
    ));
    let false_middle = impostor.ca("Intermediate", key(), AS_IS);
    cases.push(case(
        "same name, other key between",
        &signer,
        &[&false_middle, &middle, &low],
        &[&top],
        Ok(4),
        Agrees,
    ));
    // Two roots certify one authority.
    let other = root("Other Root", key(), AS_IS);
    let crossed = Party {
        params: middle.params.clone(),
        issuer: rcgen::Issuer::new(middle.params.clone(), key()),
        made: other.cross_sign(&middle, AS_IS),
    };
    let between = [&crossed, &middle, &low];
    cases.push(case(
        "cross-signed, the first way",
        &signer,
        &between,
        &[&other],
        Ok(4),
        Agrees,
    ));
    cases.push(case(
        "cross-signed, the second way",
        &signer,
        &between,
        &[&top],
        Ok(4),
        Differs("OpenSSL does not go back to an issuer that it passed over"),
    ));
    // The authority's first certificate has expired, its second has not.
    let old = Party {
        params: middle.params.clone(),
        issuer: rcgen::Issuer::new(middle.params.clone(), key()),
        made: top.cross_sign(&middle, &|p| p.not_after = date_time_ymd(2025, 1, 1)),
    };
    cases.push(case(
        "renewed intermediate",
        &signer,
        &[&old, &middle, &low],
        &[&top],
        Ok(4),
        Agrees,
    ));
    cases.push(case(
        "expired intermediate",
        &signer,
        &[&old, &low],
        &[&top],
        Err(EXPIRED),
        Agrees,
    ));
    let old_root = Party {
        params: top.params.clone(),
        issuer: rcgen::Issuer::new(top.params.clone(), key()),
        made: top.cross_sign(&top, &|p| p.not_after = date_time_ymd(2025, 1, 1)),
    };
    cases.push(case(
        "renewed root",
        &one,
        &[],
        &[&old_root, &top],
        Ok(2),
        Agrees,
    ));
    cases.push(case(
        "expired root",
        &one,
        &[],
        &[&old_root],
        Err(EXPIRED),
        Agrees,
    ));
    let late = top.signer("Late", key(), &|p| p.not_before = date_time_ymd(2031, 1, 1));
    cases.push(case(
        "not yet valid",
        &late,
        &[],
        &[&top],
        Err(EXPIRED),
        Agrees,
    ));
    // Self-signed certificates.
    let itself = root("Myself", key(), &|p| {
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![Ku::DigitalSignature];
        p.extended_key_usages = vec![Eku::CodeSigning];
    });
    cases.push(case(
        "self-signed signer",
        &itself,
        &[],
        &[&itself],
        Ok(1),
        Agrees,
    ));
    cases.push(case(
        "self-signed stranger",
        &itself,
        &[],
        &[&top],
        Err(UNKNOWN),
        Agrees,
    ));
    let everything = root("Everything", key(), &|p| {
        p.key_usages = Vec::new();
    });
    cases.push(case(
        "self-signed authority as signer",
        &everything,
        &[],
        &[&everything],
        Ok(1),
        DiffersOnUsage("OpenSSL wants code signing named; Go takes no usage for any"),
    ));
    let authority = top.ca("Authority", key(), &|p| {
        p.key_usages.push(Ku::DigitalSignature);
        p.extended_key_usages = vec![Eku::CodeSigning];
    });
    cases.push(case(
        "authority as signer",
        &authority,
        &[],
        &[&top],
        Err("x509: the certificate of a CA cannot be the signer's unless it is a root"),
        AgreesOnUsage,
    ));
    cases
}

/// Chains whose constraints matter.
fn constraints() -> Vec<Case> {
    let top = root("Root", key(), AS_IS);
    let signer_of = |ca: &Party| ca.signer("Signer", key(), AS_IS);
    let with = |change: lab::Change<'_>| top.ca("Intermediate", key(), change);
    let below_root = |change: lab::Change<'_>| {
        let top = root("Root", key(), change);
        let middle = top.ca("Intermediate", key(), AS_IS);
        let signer = signer_of(&middle);
        (signer, middle, top)
    };
    let mut cases = Vec::new();
    let mut between = |name, ca: &Party, expected, openssl| {
        cases.push(case(
            name,
            &signer_of(ca),
            &[ca],
            &[&top],
            expected,
            openssl,
        ));
    };
    let unfit = "x509: certificate signed by unknown authority (possibly because of \"x509: \
                 invalid signature: parent certificate cannot sign this kind of certificate\" \
                 while trying to verify candidate authority certificate \"Intermediate\")";
    let no_ca = with(&|p| p.is_ca = IsCa::ExplicitNoCa);
    between("intermediate is no authority", &no_ca, Err(unfit), Agrees);
    let no_constraints = with(&|p| p.is_ca = IsCa::NoCa);
    between(
        "intermediate without basic constraints",
        &no_constraints,
        Err(unfit),
        Agrees,
    );
    let no_signing = with(&|p| p.key_usages = vec![Ku::CrlSign]);
    between(
        "intermediate may not sign certificates",
        &no_signing,
        Err(unfit),
        Agrees,
    );
    let no_usage = with(&|p| p.key_usages = Vec::new());
    between("intermediate without key usage", &no_usage, Ok(3), Agrees);
    let web = with(&|p| p.extended_key_usages = vec![Eku::ServerAuth]);
    between(
        "intermediate for servers only",
        &web,
        Err(USAGE),
        Differs("OpenSSL looks at the usage of the signer only"),
    );
    let any = with(&|p| p.extended_key_usages = vec![Eku::Any]);
    between("intermediate for any usage", &any, Ok(3), Agrees);
    let both = with(&|p| p.extended_key_usages = vec![Eku::ServerAuth, Eku::CodeSigning]);
    between("intermediate for several usages", &both, Ok(3), Agrees);
    let unknown = with(&|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]);
    between(
        "intermediate with an unknown critical extension",
        &unknown,
        Err(CRITICAL),
        Agrees,
    );
    let ignored = with(&|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], false, &[5, 0])]);
    between(
        "intermediate with an unknown extension",
        &ignored,
        Ok(3),
        Agrees,
    );
    // requireExplicitPolicy 0: every certificate must have an acceptable policy.
    for (name, critical) in [
        ("policies are asked for", true),
        ("policies are hinted at", false),
    ] {
        let policy = with(&|p| {
            p.custom_extensions =
                vec![extension(&[2, 5, 29, 36], critical, &[0x30, 3, 0x80, 1, 0])];
        });
        let refusal = match critical {
            true => CRITICAL,
            false => "x509: policy constraints are not supported",
        };
        between(name, &policy, Err(refusal), Agrees);
    }
    // Path lengths.
    let short = with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    between("path length kept", &short, Ok(3), Agrees);
    let low = short.ca("Issuing", key(), AS_IS);
    let signer = signer_of(&low);
    cases.push(case(
        "path length passed",
        &signer,
        &[&low, &short],
        &[&top],
        Err(PATH_LENGTH),
        Agrees,
    ));
    let (signer, middle, top) =
        below_root(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    cases.push(case(
        "path length of the root passed",
        &signer,
        &[&middle],
        &[&top],
        Err(PATH_LENGTH),
        Agrees,
    ));
    // Roots.
    let (signer, middle, top) =
        below_root(&|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]);
    cases.push(case(
        "root with an unknown critical extension",
        &signer,
        &[&middle],
        &[&top],
        Err(CRITICAL),
        Agrees,
    ));
    let unfit = "x509: certificate signed by unknown authority (possibly because of \"x509: \
                 invalid signature: parent certificate cannot sign this kind of certificate\" \
                 while trying to verify candidate authority certificate \"Root\")";
    let (signer, middle, top) = below_root(&|p| p.key_usages = vec![Ku::CrlSign]);
    cases.push(case(
        "root may not sign",
        &signer,
        &[&middle],
        &[&top],
        Err(unfit),
        Agrees,
    ));
    let (signer, middle, top) = below_root(&|p| p.is_ca = IsCa::ExplicitNoCa);
    cases.push(case(
        "root is no authority",
        &signer,
        &[&middle],
        &[&top],
        Err(unfit),
        Agrees,
    ));
    let (signer, middle, top) = below_root(&|p| p.extended_key_usages = vec![Eku::ServerAuth]);
    cases.push(case(
        "root for servers only",
        &signer,
        &[&middle],
        &[&top],
        Err(USAGE),
        Differs("OpenSSL looks at the usage of the signer only"),
    ));
    cases.extend(names());
    cases
}

/// Chains whose name constraints matter.
fn names() -> Vec<Case> {
    let top = root("Root", key(), AS_IS);
    let constrained = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        top.ca("Intermediate", key(), &|p| {
            p.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted.clone(),
                excluded_subtrees: excluded.clone(),
            });
        })
    };
    let dns = |text: &str| GeneralSubtree::DnsName(text.to_owned());
    let host = |text: &'static str| {
        move |p: &mut rcgen::CertificateParams| {
            p.subject_alt_names = vec![SanType::DnsName(text.try_into().expect("a name"))];
        }
    };
    let mail = |text: &'static str| {
        move |p: &mut rcgen::CertificateParams| {
            p.subject_alt_names = vec![SanType::Rfc822Name(text.try_into().expect("a name"))];
        }
    };
    let mut cases = Vec::new();
    let mut add = |name, ca: &Party, change: lab::Change<'_>, expected, openssl| {
        let signer = ca.signer("Signer", key(), change);
        cases.push(case(name, &signer, &[ca], &[&top], expected, openssl));
    };
    let inside = constrained(vec![dns("example.com")], Vec::new());
    add(
        "permitted host",
        &inside,
        &host("a.example.com"),
        Ok(3),
        Agrees,
    );
    add(
        "host that is not permitted",
        &inside,
        &host("a.example.org"),
        Err(NAMES),
        Agrees,
    );
    add("no host at all", &inside, AS_IS, Ok(3), Agrees);
    let outside = constrained(Vec::new(), vec![dns("example.com")]);
    add(
        "excluded host",
        &outside,
        &host("a.example.com"),
        Err(NAMES),
        Agrees,
    );
    add(
        "host that is not excluded",
        &outside,
        &host("a.example.org"),
        Ok(3),
        Agrees,
    );
    let mailing = constrained(
        vec![GeneralSubtree::Rfc822Name("example.com".to_owned())],
        Vec::new(),
    );
    let stricter = Differs("the library takes constraints on addresses for not met");
    add(
        "permitted address",
        &mailing,
        &mail("a@example.com"),
        Err(NAMES),
        stricter,
    );
    add(
        "address that is not permitted",
        &mailing,
        &mail("a@example.org"),
        Err(NAMES),
        Agrees,
    );
    add(
        "address in the subject that is not permitted",
        &mailing,
        &|p| {
            let address = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
            let text = rcgen::string::Ia5String::try_from("a@example.org").expect("ASCII");
            p.distinguished_name
                .push(address, rcgen::DnValue::Ia5String(text));
        },
        Err(NAMES),
        Agrees,
    );
    let directory = constrained(
        vec![GeneralSubtree::DirectoryName(name("Signer"))],
        Vec::new(),
    );
    add(
        "permitted directory name",
        &directory,
        AS_IS,
        Err(NAMES),
        Differs("the library takes constraints on directory names for not met"),
    );
    cases
}

/// Signers whose own certificate matters.
fn signers() -> Vec<Case> {
    let top = root("Root", key(), AS_IS);
    let mut cases = Vec::new();
    let mut add = |name, change: lab::Change<'_>, expected, openssl| {
        let signer = top.signer("Signer", key(), change);
        cases.push(case(name, &signer, &[], &[&top], expected, openssl));
    };
    add("signer of code", AS_IS, Ok(2), Agrees);
    add(
        "signer without extended usage",
        &|p| p.extended_key_usages = Vec::new(),
        Ok(2),
        DiffersOnUsage("OpenSSL wants code signing named; Go takes no usage for any"),
    );
    add(
        "signer for any usage",
        &|p| p.extended_key_usages = vec![Eku::Any],
        Ok(2),
        DiffersOnUsage("OpenSSL wants code signing named; Go takes any usage for it"),
    );
    add(
        "signer for servers",
        &|p| p.extended_key_usages = vec![Eku::ServerAuth],
        Err(USAGE),
        AgreesOnUsage,
    );
    add(
        "signer of code and server",
        &|p| p.extended_key_usages = vec![Eku::ServerAuth, Eku::CodeSigning],
        Ok(2),
        DiffersOnUsage("OpenSSL follows the CA/Browser Forum: code signing and no server"),
    );
    add(
        "signer without key usage",
        &|p| p.key_usages = Vec::new(),
        Ok(2),
        DiffersOnUsage("OpenSSL follows the CA/Browser Forum: key usage must be there"),
    );
    add(
        "signer for encryption",
        &|p| p.key_usages = vec![Ku::KeyEncipherment],
        Err(USAGE),
        AgreesOnUsage,
    );
    add(
        "signer that also signs certificates",
        &|p| p.key_usages = vec![Ku::DigitalSignature, Ku::KeyCertSign],
        Err(USAGE),
        AgreesOnUsage,
    );
    add(
        "signer with an unknown critical extension",
        &|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])],
        Err(CRITICAL),
        Agrees,
    );
    cases
}

/// One chain for each kind of key.
fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind) in [
        ("RSA", &PKCS_RSA_SHA256),
        ("P-256", &PKCS_ECDSA_P256_SHA256),
        ("P-384", &PKCS_ECDSA_P384_SHA384),
        ("P-521", &PKCS_ECDSA_P521_SHA512),
        ("Ed25519", &PKCS_ED25519),
    ] {
        let top = root("Root", key_of(kind), AS_IS);
        let middle = top.ca("Intermediate", key_of(kind), AS_IS);
        let signer = middle.signer("Signer", key_of(kind), AS_IS);
        cases.push(case(name, &signer, &[&middle], &[&top], Ok(3), Agrees));
        let chain = trust_of(cases.last().expect("a case"))
            .validate(&signer.certificate(), Moment::now(NOW))
            .expect("a chain");
        let key = chain.public_key().expect("a key");
        assert_eq!(key.to_pem(), signer.issuer.key().public_key_pem());
    }
    cases
}

fn set() -> Vec<Case> {
    let mut all = shapes();
    all.extend(constraints());
    all.extend(signers());
    all.extend(kinds());
    all
}

fn trust_of(case: &Case) -> Trust {
    Trust {
        roots: case.roots.clone(),
        intermediates: case.between.clone(),
        crls: Vec::new(),
    }
}

#[test]
fn unusual_chains_are_judged_as_they_must_and_openssl_agrees() {
    let set = set();
    let mut faults = Vec::new();
    for case in &set {
        let found = trust_of(case).validate(&case.signer, Moment::now(NOW));
        let right = match (&found, case.expected) {
            (Ok(chain), Ok(length)) => chain.certificates().len() == length,
            (Err(error), Err(start)) => error.to_string().starts_with(start),
            _ => false,
        };
        if !right {
            let found = found
                .map(|chain| chain.certificates().len())
                .map_err(|e| e.to_string());
            faults.push(format!("{}: {found:?}, not {:?}", case.name, case.expected));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    match support::tool("openssl") {
        Some(_) => compare_with_openssl(&set),
        None => support::skip_without("openssl"),
    }
}

fn compare_with_openssl(set: &[Case]) {
    // Code signing is a purpose since OpenSSL 3.2; before it, all but usage is compared.
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", "codesign", "/dev/null"]);
    let codesign = !support::run(&mut command)
        .stderr
        .contains("Invalid purpose");
    let folder = tempfile::tempdir().expect("a folder");
    let outcomes = support::parallel(set, |case| {
        let file = |kind: &str, all: &[Certificate]| {
            let path = folder
                .path()
                .join(format!("{kind} {}", case.name.replace('/', " ")));
            let pem: String = all
                .iter()
                .map(|c| sigsif::key::pem::encode_block("CERTIFICATE", c.der()))
                .collect();
            std::fs::write(&path, pem).expect("a file");
            path
        };
        let mut command = Command::new("openssl");
        command
            .args([
                "verify",
                "-no-CAfile",
                "-no-CApath",
                "-no-CAstore",
                "-partial_chain",
                "-policy_check",
            ])
            .args(["-attime", &NOW.to_string()])
            .args(["-purpose", if codesign { "codesign" } else { "any" }])
            .arg("-trusted")
            .arg(file("roots", &case.roots));
        if !case.between.is_empty() {
            command
                .arg("-untrusted")
                .arg(file("between", &case.between));
        }
        support::run(command.arg(file("signer", std::slice::from_ref(&case.signer))))
    });
    let mut faults = Vec::new();
    let (mut compared, mut differ) = (0, 0);
    for (case, outcome) in set.iter().zip(outcomes) {
        let same = match outcome.code {
            Some(0) => case.expected.is_ok(),
            Some(2) => case.expected.is_err(),
            _ => panic!("{}: {outcome}", case.name),
        };
        let wanted = match case.openssl {
            Agrees => true,
            Differs(_) => false,
            // Without the purpose the usage stops nobody.
            AgreesOnUsage => codesign || case.expected.is_ok(),
            DiffersOnUsage(_) => !codesign,
        };
        compared += 1;
        differ += usize::from(!wanted);
        if same != wanted {
            faults.push(format!(
                "{}: agrees {same}, not {wanted}: {outcome}",
                case.name
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let purpose = if codesign {
        "codesign"
    } else {
        "any (no codesign before OpenSSL 3.2)"
    };
    println!("openssl verify -purpose {purpose}: {compared} chains, {differ} differ as listed");
}

#[test]
fn a_leaf_names_its_certificate_in_any_way_it_likes() {
    let top = root("Root", key(), AS_IS);
    let hostile = top.signer("a, O=Good\u{1b}[2J", key(), AS_IS).certificate();
    assert_eq!(hostile.subject(), "CN=a\\, O\\=Good\\1b[2J");
    assert_eq!(read(&top.made).subject(), "CN=Root");
}

/// rcgen makes nothing that weak.
#[test]
fn what_is_signed_with_sha1_or_by_a_short_key_vouches_for_nothing() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        command.args(line.split(' ')).current_dir(folder.path());
        support::run(&mut command).expect(0);
    };
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect(name);
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect(name);
    put(
        "leaf.ext",
        "keyUsage=digitalSignature\nextendedKeyUsage=codeSigning\n",
    );
    put("index.txt", "");
    put("number", "01\n");
    put(
        "ca.cnf",
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=number\n\
         default_crl_days=36500\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=Signer -out leaf.csr");
    let judge = |bits: &str, leaf_digest: &str, list_digest: &str| {
        openssl(&format!(
            "req -x509 -newkey rsa:{bits} -nodes -keyout ca.key -subj /CN=Root -days 36500 \
             -addext keyUsage=critical,keyCertSign,cRLSign -out ca.pem"
        ));
        openssl(&format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 36500 \
             -{leaf_digest} -extfile leaf.ext -out leaf.pem"
        ));
        openssl(&format!(
            "ca -gencrl -config ca.cnf -cert ca.pem -keyfile ca.key -md {list_digest} -out crl.pem"
        ));
        let trust = |crls| Trust {
            roots: vec![Certificate::from_pem(&read("ca.pem")).expect("a root")],
            intermediates: Vec::new(),
            crls,
        };
        let leaf = Certificate::from_pem(&read("leaf.pem")).expect("a signer");
        let lists = sigsif::key::crl::Crl::all_from_file(&read("crl.pem")).expect("a list");
        let (at, now) = (NOW, NOW);
        [Vec::new(), lists].map(|crls| trust(crls).validate(&leaf, Moment { at, now }).is_ok())
    };
    assert_eq!(judge("2048", "sha256", "sha256"), [true, true]);
    assert_eq!(judge("2048", "sha1", "sha256"), [false, false]);
    assert_eq!(judge("2048", "sha256", "sha1"), [true, false]);
    assert_eq!(judge("1024", "sha256", "sha256"), [false, false]);
}
