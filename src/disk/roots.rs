//! The certification authorities that this machine trusts.

/// Certificates (DER) of the system's trust store, or of the files that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name instead. Second: files that could not be read.
pub fn system() -> (Vec<Vec<u8>>, Vec<String>) {
    let found = rustls_native_certs::load_native_certs();
    let certificates = found.certs.iter().map(|der| der.to_vec()).collect();
    let faults = found.errors.iter().map(ToString::to_string).collect();
    (certificates, faults)
}
