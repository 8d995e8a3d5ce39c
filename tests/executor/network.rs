//! The appliance's own network: one, whoever makes it, and found again when it is gone.

use quire_executor::engine::{DockerError, Labels};
use quire_executor::{DockerConfig, DockerExecutor, Executor, StartSpec, Workspace};
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Seen, argv, endpoint, engine, finish, run_exit, small_tree};

fn labels(fixture: &Fixture) -> Labels {
    vec![("io.quire.instance".to_owned(), fixture.instance.clone())]
}

fn spec(fixture: &Fixture) -> StartSpec {
    let mut spec = fixture.spec(small_tree());
    spec.limits.network = true;
    spec
}

async fn networks(fixture: &Fixture) -> Vec<String> {
    engine()
        .networks(&labels(fixture))
        .await
        .unwrap()
        .into_iter()
        .map(|n| n.id)
        .collect()
}

/// Starts a run on an executor that knows of no network yet; as a process that has just begun.
async fn start_fresh(fixture: &Fixture) -> Box<dyn Workspace> {
    let fresh = DockerExecutor::new(DockerConfig::new(&endpoint(), &fixture.instance));
    fresh
        .start_workspace(
            spec(fixture),
            &mut Seen::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap()
}

/// A network as the appliance makes it, beside whatever is there.
async fn make_by_hand(fixture: &Fixture) -> Option<String> {
    match engine()
        .create_isolated_network(&format!("quire-{}", fixture.instance), &labels(fixture))
        .await
    {
        Ok(id) => Some(id),
        // Engines from 25 on make no duplicates.
        Err(DockerError::Conflict { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn works_and_stops(workspaces: Vec<Box<dyn Workspace>>) {
    for workspace in workspaces {
        let output = run_exit(&*workspace, argv(&["ls", "/sys/class/net"]), 0).await;
        assert!(output.text().contains("eth0"), "{}", output.text());
        finish(&*workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_starts_at_once_agree_on_one() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    // Two processes, and two starts in one.
    let shared = || fixture.start_with(spec(&fixture));
    let (one, two, three, four) = tokio::join!(
        start_fresh(&fixture),
        start_fresh(&fixture),
        shared(),
        shared()
    );
    works_and_stops(vec![
        one,
        two,
        three.unwrap(),
        four.unwrap(),
        start_fresh(&fixture).await,
    ])
    .await;
    assert_eq!(networks(&fixture).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_gives_the_network_back_unless_a_run_is_on_it() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let run = fixture.start_with(spec(&fixture)).await.unwrap();
    fixture.executor.shut_down().await;
    assert_eq!(networks(&fixture).await.len(), 1);
    works_and_stops(vec![run]).await;
    fixture.executor.shut_down().await;
    assert_eq!(networks(&fixture).await.len(), 0);
    works_and_stops(vec![fixture.start_with(spec(&fixture)).await.unwrap()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_do_no_harm() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let known = fixture.start_with(spec(&fixture)).await.unwrap();
    if make_by_hand(&fixture).await.is_none() {
        return finish(&*known).await;
    }
    // For one who knows the right one, and for one who has to look, which removes the other.
    let again = fixture.start_with(spec(&fixture)).await.unwrap();
    assert_eq!(networks(&fixture).await.len(), 2);
    let fresh = start_fresh(&fixture).await;
    assert_eq!(networks(&fixture).await.len(), 1);
    works_and_stops(vec![known, again, fresh]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_went_is_made_again() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    works_and_stops(vec![fixture.start_with(spec(&fixture)).await.unwrap()]).await;
    let gone = networks(&fixture).await;
    assert!(
        engine()
            .remove_network(&gone[0], engine().timeouts().lifecycle)
            .await
            .unwrap()
    );
    let (one, two) = tokio::join!(
        fixture.start_with(spec(&fixture)),
        fixture.start_with(spec(&fixture))
    );
    works_and_stops(vec![one.unwrap(), two.unwrap()]).await;
    let new = networks(&fixture).await;
    assert_eq!(new.len(), 1);
    assert_ne!(new, gone);
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}
