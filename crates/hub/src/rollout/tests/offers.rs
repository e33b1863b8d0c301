//! Who gets a document, and why not.

use super::super::member::{Running, Standing};
use super::super::offer::{Caller, Offer, Why, box_ms, offer, place, ring};
use super::super::plan::{Disruption, Lane, Plan, PlanId};
use super::super::step::Order;
use super::{HOUR_MS, Play, member, plan, salted};

/// A node of the group that asks, in ring and time.
fn caller<'a>(plan: &Plan, name: &'a str, slots: &'a [Running<'a>]) -> Caller<'a> {
    Caller {
        name,
        place: place(plan, name),
        in_group: true,
        understands: true,
        member: None,
        accepted: 0,
        slots,
        conflict: None,
        other: None,
        refused: false,
        box_until_ms: 0,
        unavailable: &[],
        bytes: 100,
    }
}

#[test]
fn who_gets_a_document_and_why_not() {
    let limits = |plan: &mut Plan| {
        plan.rate.nodes_per_min = 2;
        plan.budget = vec![Disruption { by: "site".to_owned(), max_unavailable: 2 }];
    };
    let mut play = Play::start(salted(plan(&[1024, 2048]), limits));
    let names: Vec<String> = (0..100).map(|n| format!("pump-{n}")).collect();
    let inside = names.iter().find(|name| place(&play.plan, name) < 1024).unwrap();
    let outside = names.iter().find(|name| place(&play.plan, name) >= 1024).unwrap();
    let old = [Running { model: "smollm2", current: Some(6), candidate: None }];
    let new = [Running { model: "smollm2", current: Some(7), candidate: None }];
    let now_ms = play.now_ms;
    let other = PlanId([1; 16]);
    let base = caller(&play.plan, inside, &old);
    #[track_caller]
    fn check(play: &Play, caller: Caller<'_>, expected: &str) {
        let found = match offer(&play.plan, &play.rollout, &caller, play.now_ms) {
            Offer::Hand { kind, wave, first } => {
                format!("{kind} in {wave}{}", if first { ", first" } else { "" })
            }
            Offer::No(why) => why.to_string(),
        };
        assert!(found.contains(expected), "{found}");
    }
    let hand = "wave 1 in 1, first";
    check(&play, base, hand);
    check(
        &play,
        Caller { name: outside, place: place(&play.plan, outside), ..base },
        "the ring that is open ends at 1024",
    );
    check(&play, Caller { in_group: false, ..base }, "the group does not have it");
    check(&play, Caller { understands: false, ..base }, "does not understand");
    check(&play, Caller { slots: &new, ..base }, "runs the release already");
    check(&play, Caller { slots: &[], ..base }, hand);
    check(&play, Caller { conflict: Some("it is denied"), ..base }, "it is denied");
    check(&play, Caller { other: Some((other, Lane::Normal)), ..base }, "is under way on it");
    check(&play, Caller { refused: true, ..base }, "has refused this release");
    check(&play, Caller { box_until_ms: now_ms + 1, ..base }, "it failed lately");
    check(&play, Caller { box_until_ms: now_ms, ..base }, hand);
    check(&play, Caller { unavailable: &[1], ..base }, hand);
    check(&play, Caller { unavailable: &[2], ..base }, "2 nodes of its site are away");
    let emergency = salted(play.plan.clone(), |plan| plan.lane = Lane::Emergency);
    let emergency = Play::start(emergency);
    // Another salt is another lot.
    let inside_there = names.iter().find(|name| place(&emergency.plan, name) < 1024).unwrap();
    let urgent = caller(&emergency.plan, inside_there, &old);
    check(&emergency, Caller { box_until_ms: i64::MAX, ..urgent }, hand);
    check(&emergency, Caller { other: Some((other, Lane::Normal)), ..urgent }, hand);
    check(&emergency, Caller { other: Some((other, Lane::Emergency)), ..urgent }, "is under way");
    // The same document goes out until its version is named, whatever the budget says now.
    let row = member(Standing::Offered);
    play.moves(Standing::Waiting, Standing::Offered, 2);
    check(&play, base, "enough nodes got it");
    check(&play, Caller { member: Some(&row), unavailable: &[9], ..base }, "wave 1 in 1");
    check(&play, Caller { member: Some(&row), accepted: 1, ..base }, "it has the document");
    let failed = member(Standing::Failed);
    check(&play, Caller { member: Some(&failed), ..base }, "it is failed");
    play.now_ms += 66_000;
    check(&play, base, hand);
    play.order(Order::Pause);
    check(&play, base, "the rollout is paused");
    check(&play, Caller { member: Some(&row), ..base }, "the rollout is paused");
    play.order(Order::Revert);
    check(&play, base, "the rollout is reverting");
    check(&play, Caller { member: Some(&row), accepted: 1, ..base }, "way back of wave 1");
    check(&play, Caller { member: Some(&row), accepted: 501, ..base }, "it has the document");
    let gone = member(Standing::Superseded);
    assert_eq!(
        offer(&play.plan, &play.rollout, &Caller { member: Some(&gone), ..base }, play.now_ms),
        Offer::No(Why::Settled(Standing::Superseded))
    );
}

#[test]
fn the_penalty_box_grows_and_ends() {
    let hours: Vec<i64> = (0..10).map(|failures| box_ms(failures) / HOUR_MS).collect();
    assert_eq!(hours, [0, 2, 4, 8, 16, 32, 64, 128, 168, 168]);
    assert_eq!(box_ms(u32::MAX), 168 * HOUR_MS);
}

/// The place that is reckoned here and the ring that a node judges by are one.
#[test]
fn hub_and_node_draw_the_same_lots() {
    let plan = plan(&[21, 205, 2048]);
    for name in (0..500).map(|n| format!("pump-{n}")) {
        for wave in 1..=3 {
            let ours = place(&plan, &name) < plan.ring_to(wave);
            assert_eq!(ring(&plan, wave).has(&name), ours);
        }
    }
}
