//! A rollout that was made after the backup: this hub knows it by its id alone, until somebody gives it the plan again.

use super::*;
use crate::store::recovery::{self, Strange};

#[tokio::test]
async fn a_rollout_that_only_nodes_know_is_made_anew_from_its_plan_and_stands_where_they_say() {
    let (mut stand, plan) = (Stand::new().await, plan(&[1024, 2048], "after the backup"));
    let id = text::id(&plan);
    let (mut inside, _) = nodes(&plan, 1, 0);
    let node = &mut inside[0];
    // The hub that this one follows had released the second wave, and this node has it.
    stand.call(node).await;
    node.accepted.insert(id.to_string(), 2);
    (node.revision, node.release) = (Some(40), 7);
    assert_eq!(stand.call(node).await, [0; 0], "it knows more than the hub, and gets nothing");
    assert_eq!(stand.behind().await.len(), 1);
    assert_eq!(stand.names.rollouts.engine().unwrap().strange(&node.checkin()), [id.to_string()]);

    // Made anew, it is the same, for a plan's hash is its name; nothing of it is released before somebody believes the node.
    assert_eq!(stand.ready(&plan).await, id);
    assert!(stand.names.rollouts.engine().unwrap().strange(&node.checkin()).is_empty());
    assert_eq!(stand.call(node).await, [0; 0]);
    assert_eq!(stand.rollout(id).await.released.len(), 0);
    assert_eq!(stand.adopt().await, Recovered { nodes: 1, rollouts: 1, keys: 0 });
    let raised = stand.rollout(id).await;
    assert_eq!((raised.phase.as_str(), raised.wave), ("running", 2));
    assert_eq!(stand.members(id).await.len(), 1);
    assert_eq!(stand.call(node).await, [0; 0], "it has what there is");
    assert!(stand.behind().await.is_empty());
}

#[tokio::test]
async fn who_was_believed_before_the_plan_came_back_is_looked_at_once_more() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "believed too soon"));
    let mut node = Node::new("pump-1", 1);
    stand.call(&mut node).await;
    node.accepted.insert(text::id(&plan).to_string(), 1);
    node.revision = Some(40);
    stand.call(&mut node).await;
    assert_eq!(stand.adopt().await, Recovered { nodes: 1, rollouts: 0, keys: 0 });
    stand.call(&mut node).await;
    assert!(stand.behind().await.is_empty(), "what it has of an unknown rollout may be made by hand");
    let id = stand.ready(&plan).await;
    assert_eq!(stand.call(&mut node).await, [0; 0]);
    assert_eq!(stand.behind().await.len(), 1, "now it is known to be ahead");
    assert_eq!(stand.adopt().await, Recovered { nodes: 1, rollouts: 1, keys: 0 });
    assert_eq!(stand.rollout(id).await.phase.as_str(), "running");
}

#[tokio::test]
async fn what_only_nodes_know_is_shown_though_the_hub_has_gone_on_since() {
    let (mut stand, lost) = (Stand::new().await, plan(&[2048], "after the backup"));
    let id = text::id(&lost);
    // This hub has gone on since it was restored, so its number is no smaller than what nodes were told before.
    stand.start(&plan(&[2048], "since the backup")).await;
    let (mut other, mut node) = (Node::new("pump-9", 9), Node::new("pump-1", 1));
    assert_eq!(stand.call(&mut other).await, [1]);
    node.accepted.insert(id.to_string(), 1);
    node.revision = other.revision;
    stand.call(&mut node).await;
    assert!(stand.behind().await.is_empty(), "by no number is it ahead");
    let noted = [("pump-1".to_owned(), vec![Strange { id: id.to_string(), version: 1 }])];
    assert_eq!(recovery::read_noted(&stand.store.readers).await.unwrap(), noted);
    // It says so as long as it is so, whoever asks, also a hub that starts again.
    stand.names.forget();
    stand.call(&mut other).await;
    stand.call(&mut node).await;
    assert_eq!(recovery::read_noted(&stand.store.readers).await.unwrap(), noted);
    assert_eq!(recovery::count_strange(&stand.store.readers).await.unwrap(), 1);

    // The plan is here again: it is known, and the node is ahead of what was released of it.
    stand.ready(&lost).await;
    stand.call(&mut node).await;
    assert_eq!(recovery::count_strange(&stand.store.readers).await.unwrap(), 0);
    assert_eq!(stand.behind().await.len(), 1);
    // What somebody made by hand is nobody's rollout.
    other.accepted.insert("by hand".to_owned(), 1);
    stand.call(&mut other).await;
    assert_eq!(recovery::count_strange(&stand.store.readers).await.unwrap(), 0);
}
