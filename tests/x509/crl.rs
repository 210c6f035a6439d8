//! Revocation lists.

use super::lab::{AS_IS, Party, key, revocation, root};
use super::support;
use proptest::prelude::*;
use rcgen::{
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, CustomExtension, RevocationReason,
    SerialNumber, date_time_ymd,
};
use sigsif::key::crl::{Crl, Error as CrlError};
use sigsif::key::x509::{Error, Moment, Trust};

const NOW: u64 = support::NOW;
const MOMENT: Moment = Moment { at: NOW, now: NOW };

/// Root, intermediate (serial 16), signer (serial 17).
struct House {
    top: Party,
    middle: Party,
    signer: Party,
}

fn house() -> House {
    house_with(&[])
}

/// With certificates that say where their list is.
fn house_with(urls: &[&str]) -> House {
    let top = root("Root", key(), AS_IS);
    let numbered = |serial: u64| {
        move |p: &mut rcgen::CertificateParams| {
            p.serial_number = Some(SerialNumber::from(serial));
            let uris = |url: &&str| vec![(*url).to_owned()];
            let points = urls.iter().map(uris);
            p.crl_distribution_points = points.map(|uris| CrlDistributionPoint { uris }).collect();
        }
    };
    let middle = top.ca("Intermediate", key(), &numbered(16));
    let signer = middle.signer("Signer", key(), &numbered(17));
    House {
        top,
        middle,
        signer,
    }
}

impl House {
    fn trust(&self, crls: Vec<Crl>) -> Trust {
        Trust {
            roots: vec![self.top.certificate()],
            intermediates: vec![self.middle.certificate()],
            crls,
        }
    }

    fn judge(&self, crls: Vec<Crl>) -> Result<(), Error> {
        self.judge_at(crls, MOMENT)
    }

    fn judge_at(&self, crls: Vec<Crl>, moment: Moment) -> Result<(), Error> {
        let trust = self.trust(crls);
        let chain = trust.validate(&self.signer.certificate(), moment)?;
        assert!(
            chain.links().all(|link| link.crl.is_some()),
            "a link was not looked at"
        );
        Ok(())
    }
}

fn unknown(subject: &str, why: &str) -> Result<(), Error> {
    Err(Error::StatusUnknown {
        subject: subject.to_owned(),
        why: why.to_owned(),
    })
}

/// 1 January 2021.
const REVOKED_AT: u64 = 1_609_459_200;

#[test]
fn every_certificate_but_the_root_must_be_on_no_list_and_covered_by_one() {
    let house = house();
    let (top, middle) = (
        || house.top.crl(&[], &|_| {}),
        || house.middle.crl(&[], &|_| {}),
    );
    assert_eq!(house.judge(vec![middle(), top()]), Ok(()));
    assert_eq!(
        house.judge(vec![middle()]),
        unknown("CN=Intermediate", "no CRL of its issuer")
    );
    assert_eq!(
        house.judge(vec![top()]),
        unknown("CN=Signer", "no CRL of its issuer")
    );
    let revoked = |subject: &str| {
        Err(Error::Revoked {
            subject: subject.to_owned(),
            at: REVOKED_AT,
            reason: 1,
        })
    };
    let bad = house.middle.crl(&[99, 17, 3], &|_| {});
    assert_eq!(house.judge(vec![bad.clone(), top()]), revoked("CN=Signer"));
    assert_eq!(
        house.judge(vec![top(), middle(), bad.clone()]),
        revoked("CN=Signer")
    );
    assert_eq!(
        house.judge(vec![house.top.crl(&[16], &|_| {}), middle()]),
        revoked("CN=Intermediate")
    );
    // The number alone says nothing: another issuer's list.
    assert_eq!(
        house.judge(vec![house.top.crl(&[17], &|_| {}), middle()]),
        Ok(())
    );
    assert_eq!(
        house.judge(vec![bad, top()]).unwrap_err().to_string(),
        "certificate revoked at '2021-01-01T00:00:00Z'. Revocation reason code: '1': CN=Signer"
    );
}

#[test]
fn a_list_counts_only_if_its_issuer_signed_it_and_may() {
    let house = house();
    let top = house.top.crl(&[], &|_| {});
    // The same name, another key: it can neither clear nor accuse.
    let impostor = root("Intermediate", key(), AS_IS);
    let false_good = impostor.crl(&[], &|_| {});
    let false_bad = impostor.crl(&[17], &|_| {});
    let why = "the CRL is not signed by the key of its issuer";
    assert_eq!(
        house.judge(vec![top.clone(), false_good.clone()]),
        unknown("CN=Signer", why)
    );
    let good = house.middle.crl(&[], &|_| {});
    assert_eq!(
        house.judge(vec![false_bad, top.clone(), good, false_good]),
        Ok(())
    );
    // A changed list is no list.
    let mut der = house.middle.crl_der(&[], &|_| {});
    let last = der.len() - 1;
    der[last] ^= 1;
    let changed = Crl::from_der(&der).expect("a list");
    assert_eq!(house.judge(vec![top, changed]), unknown("CN=Signer", why));
    let silent = root("Root", key(), &|p| {
        p.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    });
    let signer = silent.signer("Signer", key(), AS_IS);
    // The maker of these lists heeds key usage, too.
    let mut speaking = silent.params.clone();
    speaking.key_usages = Vec::new();
    let key = rcgen::KeyPair::from_pem(&silent.issuer.key().serialize_pem()).expect("a key");
    let speaking = Party {
        issuer: rcgen::Issuer::new(speaking.clone(), key),
        params: speaking,
        made: silent.made.clone(),
    };
    let trust = Trust {
        roots: vec![silent.certificate()],
        intermediates: Vec::new(),
        crls: vec![speaking.crl(&[], &|_| {})],
    };
    assert_eq!(
        trust.validate(&signer.certificate(), MOMENT).map(drop),
        unknown("CN=Signer", "its issuer may not sign CRLs")
    );
}

#[test]
fn lists_age_but_what_they_revoked_stays_revoked() {
    let house = house();
    let top = house.top.crl(&[], &|_| {});
    let old = |revoked: &[u64]| {
        house.middle.crl(revoked, &|list| {
            list.next_update = date_time_ymd(2025, 1, 1)
        })
    };
    assert_eq!(
        house.judge(vec![top.clone(), old(&[])]),
        unknown(
            "CN=Signer",
            "the CRL is out of date since 2025-01-01T00:00:00Z"
        )
    );
    let is_revoked = |crls| matches!(house.judge(crls), Err(Error::Revoked { .. }));
    assert!(is_revoked(vec![top.clone(), old(&[17])]));
    let new = house.middle.crl(&[], &|_| {});
    assert!(is_revoked(vec![top.clone(), new.clone(), old(&[17])]));
    // A hold may end: an old list does not prove it.
    let held = |end| {
        house.middle.crl(&[], &|list| {
            let mut entry = revocation(17);
            entry.reason_code = Some(RevocationReason::CertificateHold);
            list.revoked_certs.push(entry);
            list.next_update = date_time_ymd(end, 1, 1);
        })
    };
    assert!(is_revoked(vec![top.clone(), held(2099)]));
    assert_eq!(house.judge(vec![top.clone(), new, held(2025)]), Ok(()));
    let young = house
        .middle
        .crl(&[], &|list| list.this_update = date_time_ymd(2031, 1, 1));
    assert_eq!(
        house.judge(vec![top.clone(), young.clone()]),
        unknown(
            "CN=Signer",
            "the CRL is from the future (2031-01-01T00:00:00Z)"
        )
    );
    // To the second, as OpenSSL's `X509_cmp_time` has the end; clocks may differ by five minutes.
    let turn = 1_924_992_000;
    let at = |at| Moment { at, now: at };
    let until = house
        .middle
        .crl(&[], &|list| list.next_update = date_time_ymd(2031, 1, 1));
    let judge = |list: &Crl, moment| house.judge_at(vec![top.clone(), list.clone()], moment);
    assert_eq!(judge(&young, at(turn - 300)), Ok(()));
    assert!(judge(&young, at(turn - 301)).is_err());
    assert_eq!(judge(&until, at(turn - 1)), Ok(()));
    assert!(judge(&until, at(turn)).is_err());
    // As of a day in the past, by a list made since then: what is known now counts.
    let later = Moment {
        at: NOW,
        now: NOW + 400 * 86_400,
    };
    assert_eq!(house.judge_at(vec![top.clone(), young], later), Ok(()));
    // As of a day in the past, by a list of that day.
    assert_eq!(
        house.judge_at(
            vec![top.clone(), old(&[])],
            Moment {
                at: 1_700_000_000,
                now: NOW
            }
        ),
        Ok(())
    );
    // Before the revocation it is revoked all the same: nothing proves when an image was signed.
    let before = Moment {
        at: REVOKED_AT - 86_400,
        now: NOW,
    };
    let bad = house.middle.crl(&[17], &|_| {});
    assert!(matches!(
        house.judge_at(vec![top, bad], before),
        Err(Error::Revoked { .. })
    ));
}

#[test]
fn of_several_lists_the_youngest_is_named() {
    let house = house();
    let top = house.top.crl(&[], &|_| {});
    let made = |year| {
        house
            .middle
            .crl(&[], &|list| list.this_update = date_time_ymd(year, 1, 1))
    };
    let named = |lists: [Crl; 3]| {
        let crls = lists.into_iter().chain([top.clone()]).collect();
        let chain = house
            .trust(crls)
            .validate(&house.signer.certificate(), MOMENT)
            .expect("a chain");
        let first = chain.links().next().and_then(|link| link.crl.cloned());
        first.expect("a list").this_update
    };
    // 2024-01-01.
    let youngest = 1_704_067_200;
    let (a, b, c) = (made(2022), made(2023), made(2024));
    for lists in [
        [a.clone(), b.clone(), c.clone()],
        [c.clone(), b.clone(), a.clone()],
        [b, c, a],
    ] {
        assert_eq!(named(lists), youngest);
    }
}

#[test]
fn a_list_says_nothing_outside_its_scope() {
    let house = house_with(&["http://a/crl"]);
    let (middle, top) = (house.middle.crl(&[], &|_| {}), house.top.crl(&[], &|_| {}));
    let scoped = |party: &Party, scope, revoked: &[u64]| {
        party.crl(revoked, &|list| {
            list.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint {
                    uris: vec!["http://a/crl".to_owned()],
                },
                scope,
            });
        })
    };
    let why = "the CRL of its issuer does not cover it";
    for (scope, signer, authority) in [
        (None, true, true),
        (Some(CrlScope::UserCertsOnly), true, false),
        (Some(CrlScope::CaCertsOnly), false, true),
    ] {
        let expected = |covered, subject| match covered {
            true => Ok(()),
            false => unknown(subject, why),
        };
        assert_eq!(
            house.judge(vec![scoped(&house.middle, scope, &[]), top.clone()]),
            expected(signer, "CN=Signer")
        );
        assert_eq!(
            house.judge(vec![scoped(&house.top, scope, &[]), middle.clone()]),
            expected(authority, "CN=Intermediate")
        );
    }
    // Nor of a certificate that names no list: it could be in any part.
    let nameless = self::house();
    let (top_of_all, part) = (
        nameless.top.crl(&[], &|_| {}),
        scoped(&nameless.middle, None, &[]),
    );
    assert_eq!(
        nameless.judge(vec![part, top_of_all.clone()]),
        unknown("CN=Signer", why)
    );
    // But what is on a part is revoked.
    for list in [&[16, 17][..], &[17]] {
        let part = scoped(&nameless.middle, None, list);
        assert!(matches!(
            nameless.judge(vec![part, top_of_all.clone()]),
            Err(Error::Revoked { .. })
        ));
    }
    // A certificate that names its list is covered by no other part.
    let pointing = |url: &'static str| {
        house.middle.signer("Signer", key(), &|p| {
            p.crl_distribution_points = vec![CrlDistributionPoint {
                uris: vec![url.to_owned()],
            }];
        })
    };
    let crls = vec![scoped(&house.middle, None, &[]), top];
    let judge = |signer: &Party| {
        let trust = house.trust(crls.clone());
        trust.validate(&signer.certificate(), MOMENT).map(drop)
    };
    assert_eq!(judge(&pointing("http://a/crl")), Ok(()));
    assert_eq!(judge(&pointing("http://b/crl")), unknown("CN=Signer", why));
    // RFC 5280 5.2.5, 6.3.3: where it names a list of some reasons, or of another issuer, that list
    // does not clear it.
    let at_point = |more: &[u8]| {
        let wrap = |tag: u8, inner: &[u8]| {
            let length = u8::try_from(inner.len()).expect("short");
            [&[tag, length], inner].concat()
        };
        let name = wrap(0xa0, &wrap(0xa0, &wrap(0x86, b"http://a/crl")));
        let points = wrap(0x30, &wrap(0x30, &[&name, more].concat()));
        house.middle.signer("Signer", key(), &|p| {
            let extension = CustomExtension::from_oid_content(&[2, 5, 29, 31], points.clone());
            p.custom_extensions.push(extension);
        })
    };
    let (reasons, issuer) = (b"\x81\x02\x06\x40", b"\xa2\x0a\x86\x08http://a");
    assert_eq!(judge(&at_point(b"")), Ok(()));
    for more in [&reasons[..], issuer, &[&reasons[..], issuer].concat()] {
        assert_eq!(judge(&at_point(more)), unknown("CN=Signer", why));
    }
}

#[test]
fn a_signer_that_is_itself_a_root_needs_nobody_unless_somebody_issued_it() {
    let house = house();
    let alone = |party: &Party| {
        let trust = Trust {
            roots: vec![party.certificate()],
            intermediates: Vec::new(),
            crls: vec![house.top.crl(&[], &|_| {})],
        };
        trust.validate(&party.certificate(), MOMENT).map(drop)
    };
    let itself = root("Myself", key(), &|p| {
        p.is_ca = rcgen::IsCa::ExplicitNoCa;
        p.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    });
    assert_eq!(alone(&itself), Ok(()));
    let why = "it is itself a root, and its issuer is not at hand";
    assert_eq!(alone(&house.signer), unknown("CN=Signer", why));
}

#[test]
fn lists_that_cannot_be_used_are_refused_when_read() {
    let house = house();
    let good = house.middle.crl_der(&[17], &|_| {});
    // One byte of an extension's name makes another extension of it.
    let renamed = |from: &[u8], to: &[u8]| {
        let mut der = house.middle.crl_der(&[17], &|list| {
            list.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint {
                    uris: vec!["http://a/crl".to_owned()],
                },
                scope: None,
            });
        });
        let at = der
            .windows(from.len())
            .position(|w| w == from)
            .expect("the bytes");
        der[at..at + from.len()].copy_from_slice(to);
        Crl::from_der(&der)
    };
    let number = [0x06, 3, 0x55, 0x1d, 20];
    let point = [0x06, 3, 0x55, 0x1d, 28];
    // The issuing distribution point is critical.
    assert_eq!(
        renamed(&point, &[0x06, 3, 0x55, 0x1d, 99]),
        Err(CrlError::Critical)
    );
    assert_eq!(
        renamed(&point, &[0x06, 3, 0x55, 0x1d, 27]),
        Err(CrlError::Delta)
    );
    assert_eq!(
        renamed(&number, &[0x06, 3, 0x55, 0x1d, 99]),
        Err(CrlError::Number)
    );
    // The version.
    let version = good
        .windows(3)
        .position(|w| w == [2, 1, 1])
        .expect("version 2");
    let mut first = good.clone();
    first[version + 2] = 0;
    assert_eq!(Crl::from_der(&first), Err(CrlError::Version));
    assert!(
        Crl::from_der(&[&good[..], &[0]].concat()).is_err(),
        "a byte behind the list"
    );
    assert_eq!(Crl::from_der(&[]), Err(CrlError::Malformed));
}

/// OpenSSL writes lists that rcgen does not.
#[test]
fn lists_of_openssl_are_read_or_refused_for_the_right_reason() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let house = house();
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect(name);
    put("ca.pem", &house.middle.made.pem());
    put("ca.key", &house.middle.issuer.key().serialize_pem());
    put(
        "index.txt",
        "R\t491231235959Z\t210101000000Z,keyCompromise\t11\tunknown\t/CN=x\n",
    );
    put("number", "01\n");
    let make = |extensions: &str| {
        put(
            "ca.cnf",
            &format!(
                "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=number\n\
                 default_md=sha256\ndefault_crl_days=3650\ncrl_extensions=e\n[e]\n{extensions}\n\
                 [p]\nfullname=URI:http://a/crl\nonlyuser=TRUE\n[i]\nfullname=URI:http://a/crl\n\
                 indirectCRL=TRUE\n[r]\nfullname=URI:http://a/crl\nonlysomereasons=keyCompromise\n\
                 [n]\nonlyuser=TRUE\n"
            ),
        );
        let mut command = std::process::Command::new("openssl");
        command
            .args("ca -gencrl -config ca.cnf -cert ca.pem -keyfile ca.key -out crl.pem".split(' '))
            .args([
                "-crl_lastupdate",
                "200101000000Z",
                "-crl_nextupdate",
                "20990101000000Z",
            ])
            .current_dir(folder.path());
        support::run(&mut command).expect(0);
        std::fs::read(folder.path().join("crl.pem")).expect("crl.pem")
    };
    let revoked = |pem: &[u8]| {
        let mut crls = Crl::all_from_file(pem).expect("a list");
        crls.push(house.top.crl(&[], &|_| {}));
        matches!(
            house.judge(crls),
            Err(Error::Revoked {
                at: REVOKED_AT,
                reason: 1,
                ..
            })
        )
    };
    assert!(revoked(&make("authorityKeyIdentifier=keyid")));
    assert!(revoked(&make("issuingDistributionPoint=critical,@p")));
    for (extensions, refusal) in [
        ("issuingDistributionPoint=critical,@i", CrlError::Indirect),
        (
            "issuingDistributionPoint=critical,@r",
            CrlError::SomeReasons,
        ),
        ("issuingDistributionPoint=critical,@n", CrlError::Scope),
        ("deltaCRL=critical,DER:020101", CrlError::Delta),
        ("1.2.3.4=critical,DER:0500", CrlError::Critical),
    ] {
        assert_eq!(
            Crl::all_from_file(&make(extensions)),
            Err(refusal),
            "{extensions}"
        );
    }
}

#[test]
fn a_file_holds_one_list_in_der_or_many_in_pem() {
    let house = house();
    let (one, two) = (
        house.middle.crl_der(&[], &|_| {}),
        house.top.crl_der(&[], &|_| {}),
    );
    let pem = |der: &[u8]| sigsif::key::pem::encode_block("X509 CRL", der);
    let count = |bytes: &[u8]| Crl::all_from_file(bytes).map(|all| all.len());
    assert_eq!(count(&one), Ok(1));
    let both = format!("issued by hand\n{}\n\n{}\n", pem(&one), pem(&two));
    assert_eq!(count(both.as_bytes()), Ok(2));
    assert_eq!(
        house.judge(Crl::all_from_file(both.as_bytes()).expect("lists")),
        Ok(())
    );
    assert_eq!(count(b""), Err(CrlError::Pem));
    assert_eq!(
        count(format!("{}more", pem(&one)).as_bytes()),
        Err(CrlError::Pem)
    );
    let label = sigsif::key::pem::encode_block("CERTIFICATE", &one);
    assert_eq!(
        count(label.as_bytes()),
        Err(CrlError::Label("CERTIFICATE".to_owned()))
    );
}

proptest! {
    #[test]
    fn lists_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Crl::all_from_file(&data);
        let _ = Crl::from_der(&data);
    }
}

#[test]
fn damaged_lists_neither_panic_nor_clear() {
    let house = house();
    let der = house.middle.crl_der(&[17], &|_| {});
    let top = house.top.crl(&[], &|_| {});
    let mut read = 0;
    for index in 0..der.len() {
        for bit in [1u8, 0x80] {
            let mut damaged = der.clone();
            damaged[index] ^= bit;
            let Ok(crl) = Crl::from_der(&damaged) else {
                continue;
            };
            read += 1;
            let verdict = house.judge(vec![top.clone(), crl]);
            assert!(verdict.is_err(), "byte {index} bit {bit}");
        }
        assert!(Crl::from_der(&der[..index]).is_err(), "cut at {index}");
    }
    assert!(read > 50, "only {read} damaged lists could be read");
}
