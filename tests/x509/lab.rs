//! A laboratory of certification authorities.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use sigsif::key::crl::Crl;
use sigsif::key::x509::Certificate;

/// A certificate and its key.
pub struct Party {
    pub params: CertificateParams,
    pub issuer: Issuer<'static, KeyPair>,
    pub made: rcgen::Certificate,
}

/// Changes what a certificate says before it is signed.
pub type Change<'a> = &'a dyn Fn(&mut CertificateParams);

/// No change.
pub const AS_IS: Change<'static> = &|_| {};

/// A key of the usual kind.
pub fn key() -> KeyPair {
    key_of(&PKCS_ECDSA_P256_SHA256)
}

/// A key of some kind.
pub fn key_of(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).expect("a key")
}

/// A root of its own.
pub fn root(name: &str, key: KeyPair, change: Change<'_>) -> Party {
    let mut params = ca_params(name);
    change(&mut params);
    let made = params.self_signed(&key).expect("a root");
    Party {
        issuer: Issuer::new(params.clone(), key),
        params,
        made,
    }
}

impl Party {
    /// An intermediate authority.
    pub fn ca(&self, name: &str, key: KeyPair, change: Change<'_>) -> Party {
        self.issue(ca_params(name), key, change)
    }

    /// A signer of code.
    pub fn signer(&self, name: &str, key: KeyPair, change: Change<'_>) -> Party {
        self.issue(signer_params(name), key, change)
    }

    fn issue(&self, mut params: CertificateParams, key: KeyPair, change: Change<'_>) -> Party {
        change(&mut params);
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Party {
            issuer: Issuer::new(params.clone(), key),
            params,
            made,
        }
    }

    /// Another certificate for the name and key of `other`.
    pub fn cross_sign(&self, other: &Party, change: Change<'_>) -> rcgen::Certificate {
        let mut params = other.params.clone();
        params.serial_number = Some(SerialNumber::from(77));
        change(&mut params);
        params
            .signed_by(other.issuer.key(), &self.issuer)
            .expect("a certificate")
    }

    /// The certificate as the program reads it.
    pub fn certificate(&self) -> Certificate {
        read(&self.made)
    }

    /// A list of revoked serial numbers, from 2020 to 2099.
    pub fn crl(
        &self,
        revoked: &[u64],
        change: &dyn Fn(&mut CertificateRevocationListParams),
    ) -> Crl {
        Crl::from_der(&self.crl_der(revoked, change)).expect("a list")
    }

    /// The same in DER.
    pub fn crl_der(
        &self,
        revoked: &[u64],
        change: &dyn Fn(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(|serial| revocation(*serial)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params
            .signed_by(&self.issuer)
            .expect("a list")
            .der()
            .to_vec()
    }
}

/// An entry of a list: revoked for a lost key in 2021.
pub fn revocation(serial: u64) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2021, 1, 1),
        reason_code: Some(rcgen::RevocationReason::KeyCompromise),
        invalidity_date: None,
    }
}

/// A certificate as the program reads it.
pub fn read(made: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(made.der()).expect("a certificate")
}

/// A name of one element.
pub fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn ca_params(common: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn signer_params(common: &str) -> CertificateParams {
    let mut params = ca_params(common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params
}

/// The extension that names OCSP responders.
pub fn responders(urls: &[&str]) -> CustomExtension {
    let descriptions: Vec<_> = urls
        .iter()
        .map(|url| {
            let method = [&[0x06, 8][..], &[0x2b, 6, 1, 5, 5, 7, 48, 1]].concat();
            tlv(0x30, &[method, tlv(0x86, url.as_bytes())].concat())
        })
        .collect();
    let content = tlv(0x30, &descriptions.concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

/// The extension that frees a responder's certificate from checks.
pub fn no_check() -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], vec![5, 0])
}

/// An extension.
pub fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A DER element of less than 64 KiB.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("short").to_be_bytes();
    let head = match content.len() {
        0..=127 => vec![tag, low],
        128..=255 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), content].concat()
}
