//! TLS: a certificate that is read again when its files change, and the authorities for upstreams and for clients.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// How often files are looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The most certificates of a chain or of a file of authorities; the public ones together are about 150.
const MAX_CERTIFICATES: usize = 1000;

/// The provider of cryptography: ring, for listeners and upstreams alike.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What listeners speak, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The authorities that clients' certificates are checked with.
#[derive(Clone)]
pub(crate) struct ClientAuthorities {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAuthorities(..)")
    }
}

impl ClientAuthorities {
    /// Reads them from a PEM file.
    ///
    /// # Errors
    /// As of [`authorities`].
    pub(crate) fn load(path: &Path) -> Result<Self, TlsError> {
        let roots = Arc::new(authorities(path)?);
        let made = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let failed = |error: rustls::server::VerifierBuilderError| TlsError::Unusable {
            path: path.to_owned(),
            source: rustls::Error::General(error.to_string()),
        };
        Ok(ClientAuthorities { verifier: made.map_err(failed)? })
    }
}

/// The files of a certificate, both PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Files {
    /// The certificate and its chain, the server's own first.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// A certificate with its key, loaded. Clones share what is loaded.
#[derive(Clone)]
pub(crate) struct Identity {
    files: Arc<Files>,
    current: Arc<Current>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.files).finish()
    }
}

impl Identity {
    /// Loads a certificate and its key.
    ///
    /// # Errors
    /// Where a file cannot be read, does not hold what it should, or the two do not belong together.
    pub(crate) fn load(files: Files) -> Result<Self, TlsError> {
        let loaded = Loaded { stamp: Stamp::of(&files), key: Arc::new(read(&files)?) };
        Ok(Identity { files: Arc::new(files), current: Arc::new(Current(ArcSwap::from_pointee(loaded))) })
    }

    /// How a listener speaks TLS with it: HTTP/2 and HTTP/1.1, with whatever is loaded at each handshake.
    ///
    /// # Errors
    /// Where rustls does not support its own defaults, which is a fault of the build.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    /// The same for clients that show a certificate of one of these authorities. Others do not get past the handshake.
    ///
    /// # Errors
    /// As [`Identity::server_config`].
    pub(crate) fn mutual_config(&self, clients: &ClientAuthorities) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::clone(&clients.verifier))
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    /// Follows the files for ever. A change that cannot be loaded is warned of once, and what was loaded stays.
    pub(crate) async fn follow(self, interval: Duration) {
        let mut refused = None;
        loop {
            tokio::time::sleep(interval).await;
            let identity = self.clone();
            let before = refused.clone();
            // Files may be on a network; a slow one must not hold up a thread that serves.
            let checked = tokio::task::spawn_blocking(move || identity.check(before)).await;
            refused = checked.unwrap_or(refused);
        }
    }

    /// Loads the files if they changed, and leads to the stamp of a state that was refused, so that it is not tried again.
    fn check(&self, refused: Option<Stamp>) -> Option<Stamp> {
        let stamp = Stamp::of(&self.files);
        if stamp == self.current.0.load().stamp {
            return None;
        }
        if refused.as_ref() == Some(&stamp) {
            return refused;
        }
        let certificate = self.files.certificate.display();
        match read(&self.files) {
            Ok(key) => {
                self.current.0.store(Arc::new(Loaded { stamp, key: Arc::new(key) }));
                tracing::info!(%certificate, "the certificate was reloaded");
                None
            }
            Err(error) => {
                let fix = error.fix();
                tracing::warn!(%certificate, %error, fix, "the changed certificate is not used, the one before stays");
                Some(stamp)
            }
        }
    }
}

struct Current(ArcSwap<Loaded>);

struct Loaded {
    stamp: Stamp,
    key: Arc<CertifiedKey>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

/// What tells one state of the files from another. Links are followed, because Kubernetes swaps a link to a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stamp([Option<FileStamp>; 2]);

/// Device, inode, length, and the time of the last change in seconds and nanoseconds.
type FileStamp = (u64, u64, u64, i64, i64);

impl Stamp {
    fn of(files: &Files) -> Self {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        };
        Stamp([of(&files.certificate), of(&files.key)])
    }
}

fn read(files: &Files) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unreadable(&files.key, error, TlsError::NoKey { path: files.key.clone() }))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| {
        if matches!(source, rustls::Error::InconsistentKeys(_)) {
            return TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() };
        }
        TlsError::Unusable { path: files.certificate.clone(), source }
    })
}

/// Why PEM could not be read: the file, or what is in it.
fn unreadable(path: &Path, error: pem::Error, lacks: TlsError) -> TlsError {
    if let pem::Error::Io(source) = error { TlsError::Read { path: path.to_owned(), source } } else { lacks }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unreadable(path, error, TlsError::NoCertificate { path: path.to_owned() });
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.take(MAX_CERTIFICATES).collect();
    match found.map_err(failed)? {
        none if none.is_empty() => Err(TlsError::NoCertificate { path: path.to_owned() }),
        some => Ok(some),
    }
}

/// Reads the authorities that upstreams' certificates are checked with.
///
/// # Errors
/// Where the file cannot be read or has no certificate that can be an authority.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// Why a certificate, its key or authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate in the file.
    #[error("`{}` has no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key in the file.
    #[error("`{}` has no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("the key in `{}` does not belong to the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// rustls refuses it.
    #[error("`{}` cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

impl TlsError {
    /// What to do about it.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            TlsError::Read { .. } => "check the path and its permissions",
            TlsError::NoCertificate { .. } => "give a PEM file that begins with `-----BEGIN CERTIFICATE-----`",
            TlsError::NoKey { .. } => "give a PEM file with an unencrypted `PRIVATE KEY`",
            TlsError::Mismatch { .. } => {
                "give the key that the certificate was issued for, the server's own certificate first"
            }
            TlsError::Unusable { .. } => "have it issued anew, with an ECDSA P-256 key for example",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    struct Pair {
        certificate: String,
        key: String,
        der: CertificateDer<'static>,
    }

    fn pair() -> Pair {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pair { certificate: pair.cert.pem(), key: pair.signing_key.serialize_pem(), der: pair.cert.der().clone() }
    }

    /// The certificate that a client sees, which accepts the given ones.
    async fn seen(identity: &Identity, trusted: &[&Pair]) -> CertificateDer<'static> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config().unwrap()));
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut roots = RootCertStore::empty();
        for pair in trusted {
            roots.add(pair.der.clone()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        server.await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    #[tokio::test]
    async fn a_client_sees_a_new_certificate_once_its_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let put = |pair: &Pair| {
            // Replaced as deployments do: written beside and renamed.
            for (path, text) in [(&files.certificate, &pair.certificate), (&files.key, &pair.key)] {
                let beside = path.with_extension("new");
                std::fs::write(&beside, text).unwrap();
                std::fs::rename(&beside, path).unwrap();
            }
        };
        let (first, second) = (pair(), pair());
        put(&first);
        let identity = Identity::load(files.clone()).unwrap();
        let following = tokio::spawn(identity.clone().follow(Duration::from_millis(5)));
        assert_eq!(seen(&identity, &[&first]).await, first.der);

        put(&second);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while seen(&identity, &[&first, &second]).await != second.der {
            assert!(std::time::Instant::now() < deadline, "the certificate was never reloaded");
        }
        following.abort();
    }

    #[tokio::test]
    async fn a_broken_file_changes_nothing_and_is_tried_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let (first, second) = (pair(), pair());
        std::fs::write(&files.certificate, &first.certificate).unwrap();
        std::fs::write(&files.key, &first.key).unwrap();
        let identity = Identity::load(files.clone()).unwrap();
        assert_eq!(identity.check(None), None);

        std::fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nnot base64").unwrap();
        let refused = identity.check(None);
        assert!(refused.is_some());
        assert_eq!(identity.check(refused.clone()), refused);
        assert_eq!(seen(&identity, &[&first]).await, first.der);

        // Half of a new pair is as broken.
        std::fs::write(&files.certificate, &second.certificate).unwrap();
        let mismatch = identity.check(refused);
        assert!(mismatch.is_some());
        assert_eq!(seen(&identity, &[&first]).await, first.der);

        std::fs::write(&files.key, &second.key).unwrap();
        assert_eq!(identity.check(mismatch), None);
        assert_eq!(seen(&identity, &[&second]).await, second.der);

        std::fs::remove_file(&files.key).unwrap();
        assert!(identity.check(None).is_some());
        assert_eq!(seen(&identity, &[&second]).await, second.der);
    }
}
