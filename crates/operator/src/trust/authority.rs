//! The operator's own certificate authority: a key in one Secret of the operator's namespace, and the certificate that
//! agents see.
//!
//! The chart makes the Secret empty, and the operator may get and update it by that name only. Whoever finds it empty fills
//! it, by a write that carries the resourceVersion; whoever loses that race reads what the winner wrote. So all replicas
//! have one authority, and it survives all of them. Deliberately without knowledge of which runs trust it: the bundle goes
//! into a ConfigMap of each run.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// Key of the Secret: the authority's private key, PEM.
const KEY: &str = "ca.key";
/// Key of the Secret: its certificate, PEM.
const CERTIFICATE: &str = "ca.crt";
/// How often a lost race is run again.
const TRIES: u32 = 5;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret cannot be read or written.
    #[error("the secret {0} of the authority cannot be read or written")]
    Secret(String, #[source] Box<kube::Error>),
    /// What it holds is no key and certificate.
    #[error("the secret {0} holds no key and certificate of an authority; empty it, and new ones are made")]
    Content(String, #[source] Box<rcgen::Error>),
    /// A key or certificate could not be made.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// It could not be put to use.
    #[error("the certificate could not be used")]
    Use(#[from] rustls::Error),
    /// Others wrote the Secret at the same time, over and over.
    #[error("the secret {0} was changed by others each time it was to be written")]
    Race(String),
}

/// The authority.
#[derive(Debug)]
pub struct Authority {
    key: String,
    certificate: String,
}

impl Authority {
    /// Reads the authority from its Secret, or makes one and writes it there.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub async fn of_secret(secrets: &Api<Secret>, name: &str) -> Result<Self, AuthorityError> {
        let failed = |error| AuthorityError::Secret(name.to_owned(), Box::new(error));
        for _ in 0..TRIES {
            let mut secret = secrets.get(name).await.map_err(failed)?;
            let data = secret.data.get_or_insert_default();
            let text = |bytes: &ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
            if let (Some(key), Some(certificate)) = (data.get(KEY), data.get(CERTIFICATE)) {
                let authority = Self { key: text(key), certificate: text(certificate) };
                let known = authority.issuer();
                known.map_err(|error| AuthorityError::Content(name.to_owned(), Box::new(error)))?;
                return Ok(authority);
            }
            let authority = Self::new()?;
            data.insert(KEY.to_owned(), ByteString(authority.key.clone().into_bytes()));
            data.insert(CERTIFICATE.to_owned(), ByteString(authority.certificate.clone().into_bytes()));
            match secrets.replace(name, &PostParams::default(), &secret).await {
                Ok(_) => return Ok(authority),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(AuthorityError::Race(name.to_owned()))
    }

    /// A new authority.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params().self_signed(&key)?;
        Ok(Self { key: key.serialize_pem(), certificate: certificate.pem() })
    }

    /// What agents are given, PEM.
    #[must_use]
    pub fn bundle(&self) -> &str {
        &self.certificate
    }

    /// How connections to these names are served.
    ///
    /// # Errors
    /// When a certificate cannot be made or used.
    pub fn server(&self, names: &[String]) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
        // All authorities of ours have one name, so the certificate need not be read to know who signs.
        Ok(Issuer::new(params(), KeyPair::from_pem(&self.key)?))
    }
}

/// What an authority says of itself, beside its key.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lockstep coordinator authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, pem::PemObject};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    /// Whether a client that trusts `bundle` gets through to a server of `config` under `name`.
    fn gets_through(bundle: &str, config: &Arc<ServerConfig>, name: &str) -> bool {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(bundle.as_bytes()).expect("a certificate");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
        let mut server = ServerConnection::new(Arc::clone(config)).expect("a server");
        let mut wire = Vec::new();
        for _ in 0..4 {
            wire.clear();
            client.write_tls(&mut wire).expect("memory");
            server.read_tls(&mut wire.as_slice()).expect("memory");
            if server.process_new_packets().is_err() {
                return false;
            }
            wire.clear();
            server.write_tls(&mut wire).expect("memory");
            client.read_tls(&mut wire.as_slice()).expect("memory");
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking() && !server.is_handshaking()
    }

    #[test]
    fn who_trusts_the_authority_gets_through_also_after_it_was_stored() {
        let name = "lockstep-coordinator.lockstep-system.svc";
        let (first, other) = (Authority::new().expect("one"), Authority::new().expect("another"));
        let again = Authority { key: first.key.clone(), certificate: first.certificate.clone() };
        let server = again.server(&[name.to_owned()]).expect("a server");
        assert!(gets_through(first.bundle(), &server, name));
        assert!(!gets_through(first.bundle(), &server, "elsewhere.svc"), "another name");
        assert!(!gets_through(other.bundle(), &server, name), "another authority of the same name");
    }
}
