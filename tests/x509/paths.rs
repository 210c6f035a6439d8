//! Paths: the certificates of the peers, and unusual but valid ones made here.

use super::support;
use sigsif::key::x509::{Certificate, Error, Moment, Trust};

/// A time at which the certificates of the peers are valid.
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
    // A trust anchor is one whatever it is.
    for root in ["intermediate", "leaf"] {
        let chain = trust(root, None).validate(&peer("leaf"), Moment::now(NOW));
        assert_eq!(
            chain
                .expect("a chain")
                .certificates()
                .last()
                .map(Certificate::subject),
            Some(peer(root).subject())
        );
    }
}
