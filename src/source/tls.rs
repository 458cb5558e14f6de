//! TLS to PostgreSQL as libpq means it: `sslmode` decides what of the certificate is verified.

use crate::config::model::{PgTls, SslMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much of the server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verify {
    /// Nothing: the wire is encrypted, the peer unknown.
    Nothing,
    /// The chain, not the name.
    Chain,
}

/// A verifier that asks for less than rustls does.
#[derive(Debug)]
struct Lenient {
    verify: Verify,
    full: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (&self.full, self.verify) {
            (Some(full), Verify::Chain) => {
                match full.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                    Err(Error::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    )) => Ok(ServerCertVerified::assertion()),
                    other => other,
                }
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Builds the connector that `sslmode`, `sslrootcert`, `sslcert` and `sslkey` ask for.
///
/// # Errors
/// Names the file that cannot be read or does not fit.
pub fn connector(tls: &PgTls) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    let system = tls.root_cert.as_deref() == Some(Path::new("system"));
    // libpq verifies the chain under `require` too, when a root certificate was given.
    let verified = tls.mode >= SslMode::VerifyCa || (tls.mode == SslMode::Require && tls.root_cert.is_some());
    let builder = if verified {
        let roots = Arc::new(roots(tls.root_cert.as_deref().filter(|_| !system))?);
        if tls.mode == SslMode::VerifyFull || system {
            builder.with_root_certificates(roots)
        } else {
            let full = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|e| format!("sslrootcert: {e}"))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient {
                verify: Verify::Chain,
                full: Some(full),
                provider,
            }))
        }
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient {
            verify: Verify::Nothing,
            full: None,
            provider,
        }))
    };
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let chain = pem_certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("sslkey {}: {e}", key.display()))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("sslcert {}: {e}", cert.display()))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("sslcert and sslkey are given together or not at all".into()),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn pem_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(format!("{} holds no PEM certificate", path.display())),
        Ok(list) => Ok(list),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in pem_certificates(path)? {
                store.add(certificate).map_err(|e| format!("sslrootcert {}: {e}", path.display()))?;
            }
        }
        None => {
            // One unreadable certificate of the system is not our problem as long as others can be read.
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(
                    "no certificate of the system could be read: give sslrootcert, or install ca-certificates".into()
                );
            }
        }
    }
    Ok(store)
}
