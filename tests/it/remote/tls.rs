//! Engines and hubs behind TLS: a certificate counts where whoever signed it is trusted, and nowhere else.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::server::{Server, well};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

/// A port where TLS is spoken, with a certificate for this machine, and what is said goes on to `inner`.
async fn door(inner: SocketAddr) -> u16 {
    let chain = CertificateDer::pem_file_iter(format!("{FOLDER}/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{FOLDER}/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // who does not trust the certificate leaves here
                let Ok(mut outside) = acceptor.accept(stream).await else {
                    return;
                };
                let mut inside = TcpStream::connect(inner).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    port
}

/// The program, with an authority of its own or without: exit code, stdout and stderr.
async fn tts(args: &[&str], trusting: bool, hub: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tts"));
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("TTS_") || name.starts_with("HF_") || name == "OPENAI_API_KEY")
    {
        command.env_remove(name);
    }
    let cache = tempfile::tempdir().unwrap();
    command
        .args(args)
        .env("HF_HOME", cache.path())
        .env("HF_ENDPOINT", hub);
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    if trusting {
        command.env("SSL_CERT_FILE", format!("{FOLDER}/authority.pem"));
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_trusted_for_its_certificate() {
    let server = Server::new(|r| well(r, 3)).await;
    let port = door(server.address).await;
    let solve = async |host: &str, trusting| {
        let url = format!("https://{host}:{port}/v1");
        let args = [
            "solve",
            "--backend",
            &url,
            "--strategy",
            "majority",
            "--traces",
            "3",
            "--max-tokens",
            "100",
            "What is 3 + 4?",
        ];
        tts(&args, trusting, "http://127.0.0.1:9").await
    };
    for host in ["localhost", "127.0.0.1"] {
        let (code, out, err) = solve(host, true).await;
        assert_eq!((code, out.trim()), (Some(0), "7"), "{err}");
    }
    assert_eq!(server.traces().len(), 6);
    let before = server.asked().len();
    let refused = async |host: &str, trusting| {
        let (code, out, err) = solve(host, trusting).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(
            err.contains(host)
                && err.contains("its certificate is not trusted")
                && err.trim().lines().count() == 1,
            "one sentence says which, and why: {err}"
        );
        err
    };
    assert!(refused("localhost", false).await.contains("SSL_CERT_FILE"));
    // signed by one that is trusted, for another name
    #[cfg(target_os = "linux")]
    refused("[::ffff:127.0.0.1]", true).await;
    assert_eq!(
        server.asked().len(),
        before,
        "nothing was said to one that is not trusted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_trusted_for_its_certificate() {
    let server = Server::new(|r| well(r, 3)).await;
    let hub = format!("https://localhost:{}", door(server.address).await);
    let args = ["solve", "--model", "some/model", "What is 3 + 4?"];
    let (code, _, err) = tts(&args, false, &hub).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("no trusted connection could be made") && err.contains("SSL_CERT_FILE"),
        "{err}"
    );
    assert!(server.asked().is_empty());
    let (code, _, err) = tts(&args, true, &hub).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(
        !server.asked().is_empty() && !err.contains("trusted"),
        "it was asked, and has no such model: {err}"
    );
}
