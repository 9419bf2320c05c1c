//! When a new base is compiled beside requests.

use std::path::Path;

use portcullis_control::DATABASE;
use portcullis_control::store::{Fresh, Store};
use portcullis_engine::Engine;
use portcullis_model::credential::Seed;
use portcullis_model::id::Revision;
use portcullis_model::policy::build_delta;
use portcullis_model::source::Delta;

use crate::house::{House, now, tenant};

const SEED: Seed = Seed(*b"0123456789abcdef");
/// As many deltas as are to be compacted.
const DELTAS: usize = 32_768;

/// Applies deltas that change nothing and that the store does not have, until so many are kept.
fn fill(engine: &Engine, deltas: usize) {
    let mut revision = engine.describe().unwrap().revision.unwrap();
    while engine.kept_deltas().0 < deltas {
        let next = Revision(revision.0 + 1);
        engine.apply(&build_delta(&Delta::empty(revision, next, SEED)).unwrap()).unwrap();
        revision = next;
    }
}

async fn seeded(folder: &Path) {
    let fresh = Fresh { seed: SEED, at: now(), installation: Default::default() };
    Store::open(&folder.join(DATABASE), &fresh).await.unwrap().close().await;
}

#[tokio::test]
async fn deltas_lead_to_a_new_base_even_where_later_ones_have_overtaken_them() {
    let folder = tempfile::tempdir().unwrap();
    seeded(folder.path()).await;
    let house = House::in_folder(folder).await;
    house.done(tenant("acme", &[])).await;
    let (written, _) = house.engine.kept_deltas();
    assert!(written > 0);

    fill(&house.engine, DELTAS - 1);
    house.control.compact().await.unwrap();
    assert_eq!(house.engine.kept_deltas().0, DELTAS - 1, "one more may come");

    fill(&house.engine, DELTAS);
    let in_force = house.engine.describe().unwrap().revision;
    house.control.compact().await.unwrap();
    assert_eq!(house.engine.kept_deltas().0, DELTAS - written, "the base has what is written");
    assert_eq!(house.engine.describe().unwrap().revision, in_force);
}
