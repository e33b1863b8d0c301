//! Candidates, from the order to the commit: every phase, every way out of it, and what a restart makes of it.

use super::*;

#[test]
fn an_update_that_commits() {
    Play::at_work().plays(
        "order 8      => persist choose:8
         chosen 8     => persist transfer:8
         order 8      =>
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         loaded 8     =>
         answer 8     =>
         answer 8     =>
         after 599    =>
         after 1      => persist committed:8 floor:8 collect
         answer 8     =>
         journalled   => persist
         order 8      =>
         cut          => persist floor:8 serve:8",
        "8 (7) [-] refused []",
    );
}

#[test]
fn the_first_model_of_all() {
    let mut play = Play::new();
    play.plays(
        "restart      =>
         order 1      => persist choose:1
         chosen 1     => persist transfer:1
         arrived 1    => persist verify:1
         verified 1   => persist prove:1
         proved 1     => persist serve:1
         loaded 1     =>
         fail 1       =>
         fail 1       => persist refused:1 unload collect
         order 2      => persist choose:2
         chosen 2     => persist transfer:2
         arrived 2    => persist verify:2
         verified 2   => persist prove:2
         proved 2     => persist serve:2
         loaded 2     =>
         golden 2     =>
         answer 2     =>
         after 600    => persist committed:2 floor:2 collect",
        "2 (-) [-] refused [1]",
    );
    assert!(play.slots.kept.current.as_ref().unwrap().committed_ms.is_some());
}

#[test]
fn each_phase_refuses_what_is_no_good() {
    fn check(phase: Phase, event: &str, effects: &str) {
        let mut play = Play::with_8_in(phase);
        assert_eq!(play.hear(event), effects, "{phase:?} {event}");
        assert_eq!(play.shown(), "7 (6) [-] refused [8]", "{phase:?} {event}");
        // And never tries it again.
        play.hear("order 8");
        assert_eq!(play.hear("chosen 8"), "persist unfit:8");
        play.hear("order 8");
        assert_eq!(play.hear("chosen 8"), "persist", "told once");
        assert_eq!(play.shown(), "7 (6) [-] refused [8]");
    }
    check(Phase::Staged, "unusable 8", "persist refused:8 collect");
    check(Phase::Proving, "disproved 8", "persist refused:8 collect");
    check(Phase::Shadow, "differs 8", "persist refused:8 collect");
    check(Phase::Shadow, "crash 8", "persist refused:8 collect");
    check(Phase::Trial, "crash 8", "persist refused:8 serve:7 collect");
    check(Phase::Trial, "not-loaded 8", "persist refused:8 serve:7 collect");
}

#[test]
fn a_candidate_waits_for_its_grant() {
    let mut play = Play::with_8_in(Phase::Staged);
    play.plays(
        "not-granted 8 =>
         after 59      =>
         after 1       => verify:8
         not-granted 8 =>
         cut           => persist floor:7 serve:7 verify:8
         verified 8    => persist prove:8",
        "7 (6) [8 proving 0] refused []",
    );
}

#[test]
fn a_restart_is_a_miss_where_the_model_runs() {
    fn check(phase: Phase, stops: &[&str], effects: &str, shown: &str) {
        let mut play = Play::with_8_in(phase);
        for stop in &stops[..stops.len() - 1] {
            play.hear(stop);
        }
        assert_eq!(play.hear(stops[stops.len() - 1]), effects, "{phase:?} {stops:?}");
        assert_eq!(play.shown(), shown, "{phase:?} {stops:?}");
    }
    check(Phase::Staging, &["cut"], "persist floor:7 serve:7 transfer:8", "7 (6) [8 staging 0] refused []");
    check(Phase::Staged, &["cut"], "persist floor:7 serve:7 verify:8", "7 (6) [8 staged 0] refused []");
    for phase in [Phase::Proving, Phase::Shadow, Phase::Trial] {
        check(phase, &["cut"], "persist floor:7 missed:8 serve:7", "7 (6) [8 staged 1] refused []");
        check(phase, &["stop", "cut"], "persist floor:7 serve:7 verify:8", "7 (6) [8 staged 0] refused []");
    }
    // A second miss refuses, however far it came the second time.
    let again = ["cut", "loaded 7", "answer 7", "journalled", "after 60", "verified 8"];
    let effects = "persist floor:7 refused:8 collect serve:7";
    check(Phase::Proving, &[&again[..], &["cut"]].concat(), effects, "7 (6) [-] refused [8]");
    check(Phase::Trial, &[&again[..], &["proved 8", "cut"]].concat(), effects, "7 (6) [-] refused [8]");
}

#[test]
fn a_miss_waits_before_it_is_tried_again() {
    Play::with_8_in(Phase::Proving).plays(
        "cut          => persist floor:7 missed:8 serve:7
         after 59     =>
         after 1      => verify:8
         verified 8   => persist prove:8
         not-now 8    => persist
         after 60     => verify:8
         damaged 8    => persist refused:8 collect",
        "7 (6) [-] refused [8]",
    );
    Play::with_8_in(Phase::Staged).plays(
        "damaged 8    => persist missed:8
         after 60     => transfer:8
         not-arrived 8 =>
         after 60     => transfer:8",
        "7 (6) [8 staging 1] refused []",
    );
    // Found when it is loaded for its trial: no more is it the release's fault.
    Play::with_8_in(Phase::Trial).plays(
        "spoilt 8     => persist missed:8 serve:7
         after 60     => transfer:8
         arrived 8    => persist verify:8",
        "7 (6) [8 staged 1] refused []",
    );
    Play::with_8_in(Phase::Trial).plays("spoilt 7 =>", "7 (6) [8 trial 0] refused []");
}

#[test]
fn a_trial_that_nobody_asks() {
    let mut play = Play::with_8_in(Phase::Trial);
    play.plays(
        "after 60     => exercise:8
         golden 8     =>
         after 3600   =>
         after 82739  =>
         after 1      => persist committed:8 floor:8 collect",
        "8 (7) [-] refused []",
    );
    Play::with_8_in(Phase::Trial)
        .plays("after 86400  => persist missed:8 serve:7", "7 (6) [8 staged 1] refused []");
}

#[test]
fn late_answers_are_nobody_elses() {
    Play::with_8_in(Phase::Trial).plays(
        "crash 7      =>
         answer 7     =>
         fail 7       =>
         proved 8     =>
         arrived 8    =>
         order 9      => persist choose:9
         chosen 8     =>
         chosen 9     => persist superseded:8 serve:7 collect transfer:9
         loaded 8     =>
         crash 8      =>
         not-loaded 8 =>
         loaded 7     =>
         answer 7     => persist
         arrived 8    =>",
        "7 (6) [9 staging 0] refused []",
    );
}

#[test]
fn an_order_for_what_is_here_ends_what_is_on_its_way() {
    Play::with_8_in(Phase::Trial).plays(
        "order 6      =>
         order 7      => persist superseded:8 serve:7 collect
         order 7      =>
         order-back 6 => persist choose:6
         cut          => persist superseded:8 floor:7 serve:7 choose:6
         chosen 6     => persist transfer:6",
        "7 (6) [6 staging 0] refused []",
    );
}

#[test]
fn an_order_forgives_once() {
    let mut play = Play::with_8_in(Phase::Proving);
    play.plays(
        "disproved 8     => persist refused:8 collect
         order-forgive 8 => persist choose:8
         chosen 8        => persist transfer:8
         arrived 8       => persist verify:8
         verified 8      => persist prove:8
         disproved 8     => persist refused:8 collect
         order-forgive 8 => persist choose:8
         chosen 8        => persist unfit:8",
        "7 (6) [-] refused [8]",
    );
}

#[test]
fn the_same_bytes_in_another_release_need_no_proof() {
    let mut play = Play::at_work();
    play.hear("order 8");
    let same = Slot { manifest: slot(7).manifest, ..slot(8) };
    let chosen = Event::Chosen { index: digest("index", 8), result: Ok(same) };
    assert_eq!(play.take(chosen), "persist committed:8 floor:8");
    assert_eq!(play.shown(), "8 (6) [-] refused []");
}
