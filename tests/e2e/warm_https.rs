//! `warm.http` over TLS: who is asked has to prove who it is.

use crate::support::{Setup, World};
use base64::Engine as _;
use redis::Commands as _;
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

const SCHEMA: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'one')";

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        n @ 0..128 => vec![n as u8],
        n @ 128..256 => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), &content].concat()
}

/// A key of its own, made of one number, and a certificate for `localhost` that it has signed itself.
fn identity(seed: u8) -> (PrivateKeyDer<'static>, CertificateDer<'static>) {
    // Ed25519, PKCS #8: an algorithm and thirty-two bytes.
    let mut key = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    key.extend([seed; 32]);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let signing = ring::sign::any_supported_type(&key).unwrap();
    let algorithm = der(0x30, &[&der(6, &[&[0x2b, 0x65, 0x70]])]);
    let name = der(0x30, &[&der(0x31, &[&der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[&[b'a' + seed]])])])]);
    let names = der(0x30, &[&der(0x82, &[b"localhost"])]);
    let extension = der(0x30, &[&der(6, &[&[0x55, 0x1d, 0x11]]), &der(4, &[&names])]);
    let signed = der(
        0x30,
        &[
            &der(0xa0, &[&der(2, &[&[2]])]),
            &der(2, &[&[1]]),
            &algorithm,
            &name,
            &der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x17, &[b"491231235959Z"])]),
            &name,
            &signing.public_key().unwrap(),
            &der(0xa3, &[&der(0x30, &[&extension])]),
        ],
    );
    let signature = signing.choose_scheme(&[rustls::SignatureScheme::ED25519]).unwrap().sign(&signed).unwrap();
    let certificate = der(0x30, &[&signed, &algorithm, &der(3, &[&[0], &signature])]);
    (key, CertificateDer::from(certificate))
}

/// An application behind TLS that says yes to everything; its port.
fn start(seed: u8) -> u16 {
    let (key, certificate) = identity(seed);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                let mut tls = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
                let mut request = Vec::new();
                let mut buffer = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(n @ 1..) => request.extend(&buffer[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    port
}

/// A daemon that trusts `trusted` alone and asks `host`; what it says of the warm-up.
fn said(host: &str, trusted: u8) -> String {
    let port = start(1);
    let mut w = World::new(&Setup { schema: SCHEMA, ..Setup::default() });
    let pem = base64::engine::general_purpose::STANDARD.encode(identity(trusted).1);
    let file = w.config_path().with_file_name("trusted.pem");
    std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n")).unwrap();
    w.set_env("SSL_CERT_FILE", file.to_str().unwrap());
    w.write_config(&format!(
        "[cache.user]\nkey = \"user:{{id}}\"\nwarm.http = {{ url = \"https://{host}:{port}/fill/{{id}}\" }}\n[table.users]\nevict = [\"user\"]\n"
    ));
    w.apply();
    w.start();
    w.wait_position();
    let _: () = w.redis().set("user:1", "old").unwrap();
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_gone(&["user:1"]);
    // What may pass is tried six times, with growing pauses.
    w.wait_line(mark, &["\"warm user:1: ", "(took="])
}

#[test]
fn an_application_that_proves_who_it_is_is_asked() {
    let said = said("localhost", 1);
    assert!(said.contains("warm user:1: asked"), "{said}");
}

#[test]
fn one_whose_certificate_nobody_vouches_for_is_not_asked() {
    let said = said("localhost", 2);
    assert!(said.contains("warm user:1: failed: warm.http: TLS: ") && said.contains("UnknownIssuer"), "{said}");
}

#[test]
fn one_whose_certificate_is_for_somebody_else_is_not_asked() {
    let said = said("127.0.0.1", 1);
    assert!(said.contains("warm user:1: failed: warm.http: TLS: ") && said.contains("not valid for"), "{said}");
}
