//! What answers beside the current model: when it is begun, when it is enough, and what sends it away.

use super::*;

#[test]
fn what_answers_beside_never_serves_and_goes_when_it_is_enough() {
    Play::with_8_beside().plays(
        "beside 8     =>
         order 7      =>
         agrees 8     =>
         compared 8   => persist
         answer 7     =>
         compared 8   => persist
         after 90000  =>
         compared 8   => persist compared:8 collect
         compared 8   =>
         beside 8     =>
         beside-too 8 => persist choose:8
         chosen 8     => persist transfer:8
         withdrawn    => persist compared:8 collect
         withdrawn    =>",
        "7 (6) [-] refused []",
    );
    // What it is to be compared with must be there, and be something else.
    Play::new().plays("restart => \n beside 8 =>", "- (-) [-] refused []");
    Play::at_work().plays("beside 7 => \n beside 6 =>", "7 (6) [-] refused []");
    let mut play = Play::at_work();
    play.hear("beside 8");
    let same = Slot { manifest: slot(7).manifest, ..slot(8) };
    let chosen = Event::Chosen { index: digest("index", 8), result: Ok(same) };
    assert_eq!(play.take(chosen), "persist unfit:8");
    assert_eq!(play.hear("beside 8"), "", "once is enough");
}

#[test]
fn the_owner_says_what_may_answer_beside() {
    // None, whoever orders it, and the hub hears of it once; what is ordered to serve comes as ever.
    let mut play = Play::at_work();
    play.rules.beside = None;
    play.plays(
        "beside 8     => persist unfit:8
         beside 8     =>
         order 8      => persist choose:8",
        "7 (6) [-] refused []",
    );
    let why = &play.slots.kept.reports.last().unwrap().why;
    assert!(why.contains("the owner of this node"), "{why}");
    assert_eq!(play.slots.kept.reports.last().unwrap().rollout.as_deref(), Some("9f3c"));
    // None any more: what an earlier run began goes.
    Play::with_8_beside().plays(
        "forbidden    => persist told:8 unfit:8 collect floor:7 serve:7
         beside 8     =>
         loaded 7     =>
         answer 7     => persist
         cut          => persist told:8 unfit:8 floor:7 serve:7
         allowed      => persist told:8 unfit:8 floor:7 serve:7
         beside 8     => persist choose:8",
        "7 (6) [-] refused []",
    );
    let mut play = Play::at_work();
    play.plays("beside 8 => persist choose:8\n forbidden => persist floor:7 serve:7", "7 (6) [-] refused []");
    // Less than was ordered.
    let mut play = Play::at_work();
    play.rules.beside = Some(Cap { share_ppm: 20_000, joules: Some(30), ..Cap::default() });
    for word in ["beside 8", "chosen 8", "arrived 8", "verified 8"] {
        play.hear(word);
    }
    let proved = Event::Proved(digest("manifest", 8), Proof::Passed(Measured::default()));
    let (slots, effects) = step(play.slots.clone(), proved, &play.now, &play.rules);
    let held = effects.iter().find_map(|effect| match effect {
        Effect::Shadow(_, limits) => *limits,
        _ => None,
    });
    let held = held.unwrap();
    assert_eq!((held.share_ppm, held.core_ppm, held.joules, held.answers), (20_000, 50_000, Some(30), 10));
    let (_, order) = slots.kept.beside().unwrap();
    assert_eq!(order.limits.share_ppm, 100_000, "what was ordered is remembered as it was ordered");
}

#[test]
fn what_is_ordered_to_serve_comes_first() {
    Play::with_8_beside().plays(
        "order 9      => persist choose:9
         beside 8     =>
         chosen 9     => persist superseded:8 collect transfer:9
         beside 8     =>
         compared 8   =>
         arrived 9    => persist verify:9
         verified 9   => persist prove:9
         proved 9     => persist serve:9
         loaded 9     =>
         answer 9     =>
         answer 9     =>
         after 600    => persist committed:9 floor:9 collect
         beside 8     =>",
        "9 (7) [-] refused []",
    );
    // The very release that is compared comes to serve: from the beginning, through its trial.
    Play::with_8_beside().plays(
        "order 8      => persist choose:8
         chosen 8     => persist superseded:8 collect transfer:8
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         beside 8     =>",
        "7 (6) [8 trial 0] refused []",
    );
    Play::with_8_in(Phase::Staged).plays("beside 9 =>", "7 (6) [8 staged 0] refused []");
    Play::at_work().plays("order 8 => persist choose:8\n beside 9 =>", "7 (6) [-] refused []");
    // And whoever goes back leaves it, to come again.
    Play::with_8_beside().plays(
        "roll-back    => persist superseded:8 rolledback:7 serve:6 collect
         beside 8     => persist choose:8",
        "6 (-) [-] refused [7]",
    );
}

#[test]
fn what_answers_beside_survives_the_mains_and_not_its_own_faults() {
    Play::with_8_beside().plays("crash 8 => persist refused:8 collect", "7 (6) [-] refused [8]");
    Play::with_8_beside().plays("off 8 => persist unfit:8 collect\n beside 8 =>", "7 (6) [-] refused []");
    Play::with_8_beside().plays(
        "stop         => persist
         cut          => persist told:8 floor:7 serve:7 verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         aside 8      =>
         after 599    =>
         after 1      => beside:8
         cut          => persist told:8 floor:7 missed:8 serve:7
         loaded 7     =>
         answer 7     => persist
         after 60     => verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         after 600    => persist
         cut          => persist told:8 missed:8 floor:7 missed:8 serve:7",
        "7 (6) [8 staged 1] refused []",
    );
    Play::with_8_beside().plays(
        "cut          => persist told:8 floor:7 missed:8 serve:7
         answer 7     => persist
         after 60     => verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         after 599    =>
         cut          => persist told:8 missed:8 floor:7 refused:8 collect serve:7",
        "7 (6) [-] refused [8]",
    );
    // Nothing is left to compare with.
    let mut play = Play::with_8_beside();
    play.slots.kept.previous = None;
    for _ in 0..4 {
        play.hear("crash 7");
    }
    assert_eq!(play.shown(), "7 (-) [-] refused [7] safe");
}
