//! The gate inside another program: load a policy, decide a request, revoke a key.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_engine::{Config, Engine, Request};
use portcullis_model::head::RequestHead;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;

fn main() -> anyhow::Result<()> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/sample");
    let source = Source::from_json(&fs::read(format!("{sample}/policy.json"))?)?;
    let revoked = Source::from_json(&fs::read(format!("{sample}/revoked.json"))?)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = UnixTime::from_secs(seconds).ok_or(anyhow::anyhow!("the clock is wrong"))?;

    let engine = Engine::new(&Config::default())?;
    engine.load(build(&source)?.into())?;
    engine.confirm(now);
    let head = RequestHead {
        secure: true,
        peer: "192.0.2.1".parse()?,
        method: b"GET",
        authority: None,
        target: b"/v1/events",
        headers: &[
            (b"host", b"api.shop.example"),
            (b"x-api-key", b"ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw"),
        ],
        bodiless: false,
    };
    let head = head.pack()?;
    println!("{:?}", engine.decide(Request::new(&head, now))?.verdict());
    engine.apply(&build_delta(&Delta::between(&source, &revoked))?)?;
    println!("{:?}", engine.decide(Request::new(&head, now))?.verdict());
    Ok(())
}
