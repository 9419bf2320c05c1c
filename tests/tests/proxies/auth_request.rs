//! The authorization service beside the real nginx, with the configuration that is shipped. Each policy has an nginx of its own.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_authz::Dialect;
use portcullis_model::time::UnixTime;
use portcullis_tests::nginx::Nginx;
use portcullis_tests::wire::{Upstream, exchange};

use crate::CORPUS;
use crate::authz::Services;
use crate::places::Places;
use crate::run::each_case;

/// The file that people copy.
const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../host/server/deploy/nginx.conf"));
/// The socket that stands in for its port.
const SOCKET: &str = "clients";
/// Where policies of the corpus take keys, beyond the fields that the shipped file has.
const KEYS: [&str; 3] = ["X-Workspace-Key", "X-Beta-Key", "X-Long-Auth"];
/// Whoever says nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shipped file with other addresses, in a folder of its own, behind something that speaks the PROXY protocol.
fn configuration(service: u16, upstream: u16) -> Result<String> {
    let listen = format!(
        "listen unix:{}/{SOCKET} proxy_protocol; set_real_ip_from unix:; real_ip_header proxy_protocol;",
        Nginx::PREFIX
    );
    let http = "http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
";
    // As its comments say for services that take keys in other fields.
    let keys = |line: &dyn Fn(&str, String) -> String| {
        KEYS.iter().map(|name| line(name, name.to_ascii_lowercase().replace('-', "_"))).collect::<String>()
    };
    let backends = keys(&|name, _| format!("{:?} \"http://backend\";\n", name.to_ascii_lowercase()));
    let maps = keys(&|name, variable| {
        let name = name.to_ascii_lowercase();
        format!("map $portcullis_strip $portcullis_{variable} {{ default $http_{variable}; {name:?} \"\"; }}\n")
    });
    let fields = keys(&|name, variable| format!("proxy_set_header {name} $portcullis_{variable};\n"));
    let mut text = SHIPPED.to_owned();
    for (from, to) in [
        ("\"authorization\" \"http://backend\";", format!("\"authorization\" \"http://backend\";\n{backends}")),
        ("map $http_upgrade", format!("{maps}map $http_upgrade")),
        ("proxy_set_header Upgrade $http_upgrade;", format!("proxy_set_header Upgrade $http_upgrade;\n{fields}")),
        ("http {", http.to_owned()),
        ("127.0.0.1:9193", format!("127.0.0.1:{service}")),
        ("127.0.0.1:9000", format!("127.0.0.1:{upstream}")),
        ("listen 0.0.0.0:8000;", listen),
        // Cases say themselves what was forwarded for whom.
        ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", String::new()),
    ] {
        ensure!(text.contains(from), "the shipped configuration has no `{from}`");
        text = text.replace(from, &to);
    }
    Ok(text)
}

#[test]
fn every_case_is_answered_behind_nginx_as_everywhere() -> Result<()> {
    let (upstream, places) = (Upstream::start()?, Places::of_the_corpus());
    let services = Services::start(Dialect::Nginx, &places)?;
    let mut proxies = BTreeMap::new();
    for (place, port) in services.ports() {
        let text = configuration(port, upstream.address().port())?;
        proxies.insert(place.to_owned(), Nginx::start(&text, &[SOCKET]).with_context(|| place.to_owned())?);
    }
    let mut now: Option<UnixTime> = None;
    each_case("nginx", CORPUS.cases.iter().collect(), &upstream, |case, bytes| {
        if now != Some(case.at) {
            now = Some(case.at);
            services.set(case.at);
        }
        let place = places.name(case)?;
        let nginx = proxies.get(&place).with_context(|| format!("there is no nginx for `{place}`"))?;
        let mut stream = UnixStream::connect(nginx.socket(SOCKET))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        exchange(&mut stream, bytes, case.request.method == b"HEAD")
    })
    .with_context(|| proxies.values().map(Nginx::log).collect::<String>())
}
