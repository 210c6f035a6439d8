//! Images signed in memory by signers of every kind.

use crate::support::{read_peers, table};
use sigsif::key::pem::PrivateKey;
use sigsif::key::pgp::{KeyType, Keyring, Params, SigningKey, generate};
use sigsif::policy::{Demands, KeyName, Required};
use sigsif::report::{Origin, Report};
use sigsif::scope::Selection;
use sigsif::sif::Image;
use sigsif::sign::{self, NativeSigner};
use sigsif::verify::{self, KeyMaterial, Request};

/// When keys and signatures are made, and when they are judged.
pub const THEN: u64 = 1_700_000_000;
pub const NOW: u64 = 1_900_000_000;

/// One signature of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seal {
    /// By OpenPGP keys of the keyring.
    Alice,
    Bob,
    /// By an OpenPGP key that nobody knows.
    Stranger,
    /// By a key of the keyring that has expired since.
    Expired,
    /// By Alice, and damaged since.
    DamagedAlice,
    /// By PEM keys that were given.
    KeyOne,
    KeyTwo,
    /// By a PEM key that nobody knows.
    UnknownKey,
    /// By the first of the PEM keys, and damaged since.
    DamagedKey,
}

/// The signers.
pub struct Bench {
    pgp: Vec<(SigningKey, Vec<u8>)>,
    pem: Vec<PrivateKey>,
}

impl Bench {
    pub fn new() -> Self {
        let pair = |name: &str, lifetime| {
            let pair = generate(&Params {
                name,
                key_type: KeyType::Ed25519,
                lifetime,
                now: THEN,
                ..Params::default()
            })
            .expect("a key pair");
            let keys = Keyring::parse(&pair.secret_bytes).expect("a keyring");
            let key = keys.entities()[0].unlock(None).expect("a secret key");
            (key, pair.public_bytes)
        };
        let pem = |name: &str| {
            let pem = read_peers(&format!("keys/{name}.key.pem"));
            PrivateKey::from_pem(&pem, None).expect("a private key")
        };
        Self {
            pgp: vec![
                pair("Alice", None),
                pair("Bob", None),
                pair("Stranger", None),
                pair("Old", Some(1000)),
            ],
            pem: ["p256", "ed25519", "p384"].map(pem).into(),
        }
    }

    /// The public half of an OpenPGP key: Alice, Bob, the stranger, the expired one.
    pub fn public(&self, at: usize) -> &[u8] {
        &self.pgp[at].1
    }

    fn signing_key(&self, seal: Seal) -> Result<&SigningKey, &PrivateKey> {
        match seal {
            Seal::Alice | Seal::DamagedAlice => Ok(&self.pgp[0].0),
            Seal::Bob => Ok(&self.pgp[1].0),
            Seal::Stranger => Ok(&self.pgp[2].0),
            Seal::Expired => Ok(&self.pgp[3].0),
            Seal::KeyOne | Seal::DamagedKey => Err(&self.pem[0]),
            Seal::KeyTwo => Err(&self.pem[1]),
            Seal::UnknownKey => Err(&self.pem[2]),
        }
    }

    /// The keyring without the stranger, and the two PEM keys.
    pub fn material(&self) -> KeyMaterial {
        let known = [0, 1, 3].map(|at: usize| self.pgp[at].1.clone()).concat();
        let ring = Keyring::parse(&known).expect("a keyring");
        let keys = self.pem[..2].iter().map(|key| key.public().into());
        KeyMaterial {
            keyrings: Some(vec![(Origin::Local, std::sync::Arc::new(ring))]),
            keys: keys.collect(),
        }
    }

    /// The signer of a seal as something that can be required.
    pub fn required(&self, seal: Seal) -> Required {
        let key = match self.signing_key(seal) {
            Ok(pgp) => KeyName::Pgp(pgp.fingerprint().to_string()),
            Err(pem) => KeyName::Spki(pem.public().spki_sha256()),
        };
        Required {
            label: format!("{seal:?}"),
            keys: vec![key],
        }
    }

    /// Adds a signature of the selection.
    pub fn seal(&self, image: &[u8], seal: Seal, selection: &Selection) -> Vec<u8> {
        let image = image.to_vec();
        let parsed = Image::parse(&image).expect("an image");
        let time = i64::try_from(THEN + 10).expect("a time");
        let keys: [&PrivateKey; 1];
        let signer = match self.signing_key(seal) {
            Ok(key) => NativeSigner::Pgp { key, salt: true },
            Err(key) => {
                keys = [key];
                NativeSigner::Dsse(&keys)
            }
        };
        let patch = sign::native(&parsed, &signer, selection, time, 1).expect("a signature");
        patch.applied(&image)
    }

    /// An image with these signatures of its group, in this order.
    pub fn sealed(&self, seals: &[Seal]) -> Vec<u8> {
        let bare = read_peers("native/unsigned.sif");
        let mut bytes = seals.iter().fold(bare, |bytes, seal| {
            self.seal(&bytes, *seal, &Selection::default())
        });
        let objects = table::objects(&bytes).into_iter();
        let signatures: Vec<_> = objects.filter(table::Object::is_signature).collect();
        assert_eq!(signatures.len(), seals.len());
        for (object, seal) in signatures.iter().zip(seals) {
            if matches!(seal, Seal::DamagedAlice | Seal::DamagedKey) {
                damage(&mut bytes[object.range()]);
            }
        }
        bytes
    }
}

/// Changes one digit of the signed text or payload.
fn damage(data: &mut [u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let at = match text.find("\"digest\":\"sha256:") {
        Some(at) => at + 20,
        None => text.find("\"payload\":\"").expect("a payload") + 200,
    };
    data[at] = if data[at] == b'a' { b'b' } else { b'a' };
}

/// The answer, which must not depend on whether all is examined.
#[track_caller]
pub fn judge(
    image: &[u8],
    material: &KeyMaterial,
    demands: &Demands,
    selection: &Selection,
) -> Report {
    let image = image.to_vec();
    let image = Image::parse(&image).expect("an image");
    let [quick, whole] = [false, true].map(|examine_all| {
        let request = Request {
            selection: selection.clone(),
            demands: demands.clone(),
            examine_all,
            now: NOW,
            threads: 1,
        };
        verify::native(&image, material, &request).expect("a judgement")
    });
    assert_eq!(quick.is_verified(), whole.is_verified());
    assert_eq!(quick.failure(), whole.failure());
    whole
}
