//! Feeds: what workers in proxies get of the policy. For superusers alone.

use std::collections::BTreeSet;

use portcullis_model::id::Id;
use portcullis_model::source::Application;
use portcullis_store::{ApplicationRecord, FeedRecord, Stored, Write};
use serde_json::json;

use super::tenants::key_confined_to;
use super::{Faults, Situation, missing, require_confirmed};
use crate::catalogue::ADMIN_SERVICE;
use crate::change::Plan;
use crate::command::{Confirmation, FeedEdit, NewFeed};
use crate::error::{CommandError, Refused};

/// The most feeds of an installation: of each the host keeps a policy of its own.
pub const MAX_FEEDS: usize = 100;
/// What people see of the application beside a feed.
const APPLICATION_NAME: &str = "Keys of the feed";

pub(super) async fn create(s: &Situation<'_>, new: &NewFeed) -> Result<Plan, CommandError> {
    let store = &s.control.store;
    let feeds = store.feeds().await?;
    if feeds.iter().any(|stored| stored.record.id == new.id) {
        return Err(Refused::Exists { kind: "feed", id: new.id.to_string() }.into());
    }
    if feeds.len() >= MAX_FEEDS {
        let what = format!("there are {MAX_FEEDS} feeds, which is as many as may be: add the services to one of them");
        return Err(Refused::State { code: "too_many_feeds", what }.into());
    }
    let tenant = crate::system_tenant();
    // Keys that are confined to an application that was there before were not made to read a feed.
    if store.application(&tenant, &new.id).await?.is_some() {
        return Err(Refused::Exists { kind: "application", id: new.id.to_string() }.into());
    }
    let services = services(s, &new.services)?;
    let application = Application { id: new.id.clone(), tenant };
    let details = json!({ "services": services });
    let writes = vec![
        Write::PutApplication(ApplicationRecord { application, name: APPLICATION_NAME.to_owned() }),
        Write::PutFeed(FeedRecord { id: new.id.clone(), services }),
    ];
    Ok(Plan::new(writes, details))
}

pub(super) async fn edit(s: &Situation<'_>, id: &Id, edit: &FeedEdit) -> Result<Plan, CommandError> {
    let mut record = find(s, id).await?.record;
    let mut details = serde_json::Map::new();
    if let Some(given) = &edit.services {
        record.services = services(s, given)?;
        details.insert("services".to_owned(), json!(record.services));
    }
    Ok(Plan::new(vec![Write::PutFeed(record)], details.into()))
}

pub(super) async fn delete(s: &Situation<'_>, id: &Id, confirmation: Confirmation) -> Result<Plan, CommandError> {
    find(s, id).await?;
    let tenant = crate::system_tenant();
    if let Some(key) = key_confined_to(s, &tenant, id).await? {
        let what = format!("the management key `{key}` is for the feed `{id}`: revoke it first");
        return Err(Refused::State { code: "feed_in_use", what }.into());
    }
    require_confirmed(confirmation, format!("the workers of the feed `{id}` deny every request from then on"))?;
    let writes = vec![Write::RemoveFeed(id.clone()), Write::RemoveApplication { tenant, application: id.clone() }];
    Ok(Plan::new(writes, json!({})))
}

/// The feeds that have a service, without it.
pub(super) async fn without(s: &Situation<'_>, service: &Id) -> Result<Vec<Write>, CommandError> {
    let feeds = s.control.store.feeds().await?.into_iter().map(|stored| stored.record);
    let without = feeds.filter_map(|mut feed| feed.services.remove(service).then_some(Write::PutFeed(feed)));
    Ok(without.collect())
}

async fn find(s: &Situation<'_>, id: &Id) -> Result<Stored<FeedRecord>, CommandError> {
    let stored = s.control.store.feed(id).await?.ok_or_else(|| missing("feed", id))?;
    s.require_unchanged("feed", &stored)?;
    Ok(stored)
}

/// The services that were named, each once.
fn services(s: &Situation<'_>, given: &[Id]) -> Result<BTreeSet<Id>, Refused> {
    let mut faults = Faults::default();
    faults.list("services", given);
    if given.is_empty() {
        faults.add("services", "it is empty, so workers would deny every request: name the services");
    }
    for (index, service) in given.iter().enumerate().take(super::MAX_LIST) {
        let field = format!("services[{index}]");
        if service.as_str() == ADMIN_SERVICE {
            faults.add(field, "the admin API is for this host alone and is in no feed");
        } else if s.lane.catalogue.service(service).is_none() {
            faults.add(field, format!("there is no service `{service}`"));
        }
    }
    faults.end()?;
    Ok(given.iter().cloned().collect())
}
