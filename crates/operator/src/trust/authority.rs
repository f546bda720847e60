//! A certificate authority of the operator's own, and the certificates that it signs.
//!
//! Certificates are never read back: what has to be known of one stands beside it. Deliberately without knowledge of where
//! authorities are kept ([`super::keeper`]) and when they change ([`super::rotation`]).

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use time::OffsetDateTime;

/// How far before its making a certificate begins to hold, seconds: clocks of nodes differ.
const BACKDATED_S: i64 = 300;
/// Bytes of a hash that tell one authority from another.
const MARK_BYTES: usize = 8;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// It could not be put to use.
    #[error("the certificate could not be used")]
    Use(#[from] rustls::Error),
    /// It would hold at no time that there is.
    #[error("a certificate cannot hold until {0} s after 1970")]
    Time(i64),
}

/// An authority.
#[derive(Clone)]
pub struct Authority {
    /// Its private key, PEM.
    pub key: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// When it was made, seconds since 1970.
    pub begins_s: i64,
    /// When it ends.
    pub ends_s: i64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, {} to {})", self.mark(), self.begins_s, self.ends_s)
    }
}

impl Authority {
    /// A new one that holds from now on.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(now_s: i64, validity_s: i64) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let ends_s = now_s.saturating_add(validity_s);
        let mut params = name();
        (params.not_before, params.not_after) = (time(now_s - BACKDATED_S)?, time(ends_s)?);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { key: key.serialize_pem(), certificate, begins_s: now_s, ends_s })
    }

    /// What tells it from any other.
    #[must_use]
    pub fn mark(&self) -> String {
        mark(&self.certificate)
    }

    /// Whether its key is one.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), rcgen::Error> {
        KeyPair::from_pem(&self.key).map(|_| ())
    }

    /// A certificate for these names that holds from now on, for `validity_s` or as long as the authority does. Answers
    /// with its end, seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be made or used.
    pub fn serving(
        &self,
        names: &[String],
        now_s: i64,
        validity_s: i64,
    ) -> Result<(CertifiedKey, i64), CertificateError> {
        let key = KeyPair::generate()?;
        let ends_s = now_s.saturating_add(validity_s).min(self.ends_s);
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (time(now_s - BACKDATED_S)?, time(ends_s)?);
        // All authorities of ours have one name, so a certificate need not be read to know who signs.
        let issuer = Issuer::new(name(), KeyPair::from_pem(&self.key)?);
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)?;
        Ok((CertifiedKey::new(chain, key), ends_s))
    }
}

/// What tells the authority of this certificate from any other.
#[must_use]
pub fn mark(certificate: &str) -> String {
    let hash = Sha256::digest(certificate.trim_end().as_bytes());
    hash.iter().take(MARK_BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn time(at_s: i64) -> Result<OffsetDateTime, CertificateError> {
    OffsetDateTime::from_unix_timestamp(at_s).map_err(|_| CertificateError::Time(at_s))
}

/// What an authority says of itself, beside its key and its time.
fn name() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lockstep coordinator authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
