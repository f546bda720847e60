//! The certificate that agents see: can be exchanged while sessions go on, since only a new handshake asks for it.

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};

/// The certificate in use.
#[derive(Debug)]
pub struct Serving(RwLock<Arc<CertifiedKey>>);

impl Serving {
    /// Begins with this one.
    #[must_use]
    pub fn new(certificate: CertifiedKey) -> Self {
        Self(RwLock::new(Arc::new(certificate)))
    }

    /// Takes another one for every handshake from now on.
    pub fn exchange(&self, certificate: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// How connections are served with whatever certificate is in use then.
///
/// # Errors
/// When this build of rustls has no protocol version for its provider.
pub fn config(serving: Arc<Serving>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::super::authority::Authority;
    use super::*;
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    const NAME: &str = "lockstep-coordinator.lockstep-system.svc";

    fn client(bundle: &str, name: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(authority.expect("a certificate")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        ClientConnection::new(Arc::new(config), name).expect("a client")
    }

    /// Carries bytes both ways for a while; whether nobody objected.
    fn talk(client: &mut ClientConnection, server: &mut ServerConnection) -> bool {
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

    fn gets_through(bundle: &str, config: &Arc<ServerConfig>, name: &str) -> bool {
        let mut server = ServerConnection::new(Arc::clone(config)).expect("a server");
        talk(&mut client(bundle, name), &mut server)
    }

    fn now_s() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn authority() -> Authority {
        Authority::new(now_s(), 3_600).expect("an authority")
    }

    fn certificate(of: &Authority) -> CertifiedKey {
        of.serving(&[NAME.to_owned()], now_s(), 600).expect("a certificate").0
    }

    #[test]
    fn who_trusts_the_authority_gets_through_also_after_it_was_stored() {
        let (first, other) = (authority(), authority());
        let stored = Authority { key: first.key.clone(), ..first.clone() };
        let server = config(Arc::new(Serving::new(certificate(&stored)))).expect("a server");
        assert!(gets_through(&first.certificate, &server, NAME));
        assert!(!gets_through(&first.certificate, &server, "elsewhere.svc"), "another name");
        assert!(!gets_through(&other.certificate, &server, NAME), "another authority of the same name");
        let both = format!("{}{}", other.certificate, first.certificate);
        assert!(gets_through(&both, &server, NAME), "one of two");
    }

    #[test]
    fn what_has_ended_lets_nobody_through() {
        let old = Authority::new(now_s() - 7_200, 3_600).expect("an authority");
        let (expired, _) = old.serving(&[NAME.to_owned()], now_s() - 7_200, 600).expect("a certificate");
        let server = config(Arc::new(Serving::new(expired))).expect("a server");
        assert!(!gets_through(&old.certificate, &server, NAME));
    }

    #[test]
    fn a_session_goes_on_when_the_certificate_is_exchanged() {
        let (first, next) = (authority(), authority());
        let serving = Arc::new(Serving::new(certificate(&first)));
        let config = config(Arc::clone(&serving)).expect("a server");
        let (mut client, mut server) =
            (client(&first.certificate, NAME), ServerConnection::new(Arc::clone(&config)).expect("a server"));
        assert!(talk(&mut client, &mut server));
        serving.exchange(certificate(&next));
        std::io::Write::write_all(&mut client.writer(), b"still there").expect("memory");
        assert!(talk(&mut client, &mut server));
        let mut read = [0; 11];
        std::io::Read::read_exact(&mut server.reader(), &mut read).expect("it was carried");
        assert_eq!(&read, b"still there");
        assert!(!gets_through(&first.certificate, &config, NAME), "new sessions are the next one's");
        assert!(gets_through(&next.certificate, &config, NAME));
    }
}
