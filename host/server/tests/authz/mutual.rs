//! A listener that asks for certificates of its clients.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::front::{Front, Kind};
use crate::http::Call;
use crate::server::Settings;
use crate::wire;
use crate::world::{HOST, World};

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Unlike what it signs, which would else look like its own issuer.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for the name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn whoever_shows_no_certificate_of_the_authority_is_not_answered() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let table = "[[authz]]\ndialect = \"envoy-grpc\"\nlisten = \"127.0.0.1:0\"\nwhole_bodies = true\nclient_ca = \"ca.pem\"\n\
        tls = { certificate = \"server.pem\", key = \"server.key\" }\n";
    let (certificate, key) = ours.sign("portcullis.internal");
    let ca = ours.pem.clone();
    let world = World::prepared(Settings { top: table, ..Settings::default() }, |site| {
        for (name, text) in [("server.pem", &certificate), ("server.key", &key), ("ca.pem", &ca)] {
            std::fs::write(site.path(name), text).unwrap();
        }
    });
    let put = |name: &str, text: &str| {
        let path = world.site.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let trusted = put("portcullis-ca.pem", &ours.pem);
    let envoy = |client: Option<&Authority>| {
        let files = client.map(|authority| {
            let (certificate, key) = authority.sign("envoy.internal");
            (put("client.pem", &certificate), put("client.key", &key))
        });
        Front::with(&world, Kind::EnvoyGrpc, &"x".repeat(32), |text| {
            let mut out = Vec::new();
            let mut inside = false;
            for line in text.lines() {
                inside = (inside || line.contains("# transport_socket:")) && !line.contains("- name: backend");
                let line = if inside { line.replacen("      # ", "      ", 1) } else { line.to_owned() };
                out.push(line);
            }
            let text = out.join("\n").replace("/etc/envoy/portcullis-ca.pem", &trusted);
            match &files {
                Some((certificate, key)) => {
                    text.replace("/etc/envoy/client.pem", certificate).replace("/etc/envoy/client.key", key)
                }
                None => {
                    let without = |line: &&str| {
                        !["tls_certificates:", "certificate_chain:", "private_key:"]
                            .iter()
                            .any(|part| line.contains(part))
                    };
                    text.lines().filter(without).collect::<Vec<_>>().join("\n")
                }
            }
        })
    };
    let key = world.tenant_key();
    let call = Call::new("GET", "/events").field("host", HOST).field("x-api-key", &key.key);
    envoy(Some(&ours)).passes(&call);
    let before = world.echo.count();
    for client in [None, Some(&theirs)] {
        assert_eq!(envoy(client).send(&call).status, 503);
    }
    let plain = wire::ask(crate::front::listener(&world, Kind::EnvoyGrpc), "GET", "/", &[], b"");
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(world.echo.count(), before);
}
