//! Feeds: made and gone together with their application, and never more than their services.

use portcullis_control::{
    Command, CommandError, Confirmation, FeedEdit, KeyRef, MAX_FEEDS, NewApplication, NewFeed, NewManagementKey, Order,
};
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Revision};
use portcullis_model::source::CreatorRule;
use portcullis_model::time::Expiry;

use crate::house::{House, id, now, service, tenant};

fn feed(name: &str, services: &[&str]) -> Command {
    Command::CreateFeed(NewFeed { id: id(name), services: services.iter().map(|service| id(service)).collect() })
}

fn edit(name: &str, services: &[&str]) -> Command {
    let services = Some(services.iter().map(|service| id(service)).collect());
    Command::EditFeed(id(name), FeedEdit { services })
}

fn delete(name: &str) -> Command {
    Command::DeleteFeed(id(name), Confirmation::Confirmed)
}

/// An installation with the services `shop` and `wallet`.
async fn house() -> House {
    let house = House::bare().await;
    for name in ["shop", "wallet"] {
        house.done(Command::CreateService(service(name))).await;
    }
    house
}

async fn refusal(house: &House, command: Command) -> (&'static str, String) {
    let before = *house.control.enforced().borrow();
    let Err(CommandError::Refused(refused)) = house.order(command).await else { panic!("it was not refused") };
    assert_eq!(*house.control.enforced().borrow(), before, "a refusal changed something");
    (refused.code(), refused.to_string())
}

async fn services(house: &House, name: &str) -> Vec<String> {
    let stored = house.control.system_view(&house.root).unwrap().feed(&id(name)).await.unwrap();
    stored.record.services.iter().map(ToString::to_string).collect()
}

async fn has_application(house: &House, name: &str) -> bool {
    let view = house.control.tenant_view(&house.root, &id("system")).await.unwrap();
    view.application(&id(name)).await.is_ok()
}

async fn key(house: &House, feed: &str) -> KeyRef {
    let endpoint = |name: &str| EndpointRef::try_from(format!("portcullis/{name}")).unwrap();
    let new = NewManagementKey {
        name: "Edge".to_owned(),
        description: String::new(),
        expires: Expiry::at(portcullis_model::time::UnixTime::from_secs(now().as_secs() + 3600).unwrap()),
        endpoints: vec![endpoint("feed"), endpoint("feed.read")],
        applications: vec![id(feed)],
        creator: None,
        creator_rule: CreatorRule::Independent,
    };
    let done = house.done(Command::CreateManagementKey(id("system"), new)).await;
    KeyRef { tenant: id("system"), kind: Kind::Management, id: id(&done.object) }
}

#[tokio::test]
async fn a_feed_comes_and_goes_with_its_application() {
    let house = house().await;
    house.done(feed("edge", &["wallet", "shop", "shop"])).await;
    assert_eq!(services(&house, "edge").await, ["shop", "wallet"], "each once, in order");
    assert!(has_application(&house, "edge").await);
    let house = house.again().await;
    assert_eq!(services(&house, "edge").await, ["shop", "wallet"]);

    house.done(delete("edge")).await;
    assert!(!has_application(&house, "edge").await);
    assert_eq!(refusal(&house, delete("edge")).await.0, "not_found");
    house.done(feed("edge", &["shop"])).await;
}

#[tokio::test]
async fn a_feed_is_not_made_of_what_is_not_there() {
    let house = house().await;
    house.done(Command::CreateApplication(id("system"), NewApplication { id: id("taken"), name: String::new() })).await;
    house.done(feed("edge", &["shop"])).await;
    for (command, code, what) in [
        (feed("edge", &["shop"]), "exists", "there is a feed `edge` already"),
        (feed("taken", &["shop"]), "exists", "there is a application `taken` already"),
        (feed("other", &[]), "invalid", "`services`: it is empty"),
        (feed("other", &["shop", "nothing"]), "invalid", "`services[1]`: there is no service `nothing`"),
        (feed("other", &["portcullis"]), "invalid", "`services[0]`: the admin API is for this host alone"),
        (edit("other", &["shop"]), "not_found", "there is no feed `other`"),
        (edit("edge", &["nothing"]), "invalid", "there is no service `nothing`"),
        (edit("edge", &[]), "invalid", "`services`: it is empty"),
        (Command::DeleteFeed(id("edge"), Confirmation::Missing), "confirmation_required", "the workers of the feed"),
    ] {
        let (found, text) = refusal(&house, command).await;
        assert!(found == code && text.contains(what), "{found}: {text}");
    }
    assert!(!has_application(&house, "other").await);
}

#[tokio::test]
async fn no_more_feeds_are_made_than_may_be() {
    let house = house().await;
    for number in 0..MAX_FEEDS {
        house.done(feed(&format!("feed-{number}"), &["shop"])).await;
    }
    assert_eq!(refusal(&house, feed("one-more", &["shop"])).await.0, "too_many_feeds");
    house.done(delete("feed-0")).await;
    house.done(feed("one-more", &["shop"])).await;
}

#[tokio::test]
async fn a_feed_that_keys_are_for_stays() {
    let house = house().await;
    house.done(feed("edge", &["shop"])).await;
    let key = key(&house, "edge").await;
    assert_eq!(refusal(&house, delete("edge")).await.0, "feed_in_use");
    let application = Command::RemoveApplication(id("system"), id("edge"));
    assert_eq!(refusal(&house, application.clone()).await.0, "feed_application");
    house.done(Command::RevokeKey(key, Confirmation::Confirmed)).await;
    assert_eq!(refusal(&house, application).await.0, "feed_application", "it goes with its feed alone");
    house.done(delete("edge")).await;
}

#[tokio::test]
async fn a_service_that_is_removed_falls_out_for_good() {
    let house = house().await;
    house.done(feed("edge", &["shop", "wallet"])).await;
    house.done(Command::RemoveService(id("shop"), Confirmation::Confirmed)).await;
    assert_eq!(services(&house, "edge").await, ["wallet"]);
    house.done(Command::CreateService(service("shop"))).await;
    assert_eq!(services(&house, "edge").await, ["wallet"], "another service of that name is not in it");
    house.done(edit("edge", &["shop"])).await;
    assert_eq!(services(&house, "edge").await, ["shop"]);
}

#[tokio::test]
async fn a_feed_is_changed_as_it_was_read_or_not_at_all() {
    let house = house().await;
    let made = house.done(feed("edge", &["shop"])).await.revision;
    let order = |command: Command, at: Revision| {
        let order = Order { caller: house.root.clone(), if_match: Some(at), idempotency: None, command };
        house.control.execute(order)
    };
    let edited = order(edit("edge", &["wallet"]), made).await.unwrap().revision;
    for command in [edit("edge", &["shop"]), delete("edge")] {
        let Err(CommandError::Refused(refused)) = order(command, made).await else { panic!("it was not refused") };
        assert_eq!(refused.code(), "changed");
    }
    order(delete("edge"), edited).await.unwrap();
}

#[tokio::test]
async fn feeds_are_the_superusers() {
    let house = house().await;
    house.done(tenant("acme", &[])).await;
    house.done(feed("edge", &["shop"])).await;
    let endpoints = vec![EndpointRef::try_from("portcullis/feeds".to_owned()).unwrap()];
    let new = NewManagementKey {
        name: "Theirs".to_owned(),
        description: String::new(),
        expires: Expiry::at(portcullis_model::time::UnixTime::from_secs(now().as_secs() + 3600).unwrap()),
        endpoints,
        applications: Vec::new(),
        creator: None,
        creator_rule: CreatorRule::Independent,
    };
    let theirs = house.done(Command::CreateManagementKey(id("acme"), new)).await.object;
    let theirs = crate::house::caller("acme", &theirs);
    assert!(house.control.system_view(&theirs).is_err());
    for command in [feed("other", &["shop"]), edit("edge", &["wallet"]), delete("edge")] {
        let Err(CommandError::Refused(refused)) = house.by(&theirs, command).await else { panic!("not refused") };
        assert_eq!(refused.code(), "forbidden");
    }
}
