//! What serves: starts that are proven and starts that are not, the way back, safe mode and out of it.

use super::*;

#[test]
fn a_current_model_that_does_not_start_gives_way_to_the_previous_one() {
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         loaded 7     =>
         after 59     =>
         cut          => persist floor:7 serve:7
         cut          => persist floor:7 fellback:7 serve:6 collect
         loaded 6     =>
         after 60     => persist
         order 7      => persist choose:7
         chosen 7     => persist unfit:7",
        "6 (-) [-] refused [7]",
    );
    // A restart that was asked for is none that failed.
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7",
        "7 (6) [-] refused []",
    );
    // Breaking down counts like not starting, until an answer.
    Play::at_work().plays(
        "crash 7      => persist serve:7
         answer 7     => persist
         crash 7      => persist serve:7
         not-loaded 7 => persist serve:7
         not-loaded 7 => persist serve:7
         not-loaded 7 => persist fellback:7 serve:6 collect",
        "6 (-) [-] refused [7]",
    );
}

#[test]
fn what_nobody_serves_is_not_started_and_comes_back() {
    // However often the node begins, nothing was started that could have failed.
    Play::at_work().plays(
        "stop         => persist
         unserved     => persist floor:7
         unserved     => floor:7
         unserved     => floor:7
         after 90     =>
         stop         => persist
         unserved     => persist floor:7
         unserved     => floor:7
         order 7      =>
         restart      => persist floor:7 serve:7
         loaded 7     =>
         answer 7     => persist",
        "7 (6) [-] refused []",
    );
    // Starts that did fail before stay counted, and are not forgotten by a stop.
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         unserved     => floor:7
         after 90     =>
         stop         => persist
         cut          => persist floor:7 fellback:7 serve:6 collect",
        "6 (-) [-] refused [7]",
    );
    // A person may change what is current meanwhile.
    Play::at_work().plays(
        "unserved     => floor:7
         roll-back    => persist rolledback:7 collect
         restart      => persist rolledback:7 floor:6 serve:6",
        "6 (-) [-] refused [7]",
    );
    // A candidate waits where it was, at no risk.
    Play::with_8_in(Phase::Trial).plays(
        "stop         => persist
         unserved     => persist floor:7
         after 90     =>
         unserved     => floor:7
         unserved     => floor:7
         restart      => persist floor:7 serve:7 verify:8",
        "7 (6) [8 staged 0] refused []",
    );
    Play::with_8_in(Phase::Staging).plays(
        "unserved     => floor:7
         after 90     =>
         restart      => persist floor:7 serve:7 transfer:8",
        "7 (6) [8 staging 0] refused []",
    );
    let mut play = Play::with_8_in(Phase::Proving);
    play.slots.run.unserved = true;
    play.plays("proved 8 => persist\n after 90 =>", "7 (6) [8 staged 0] refused []");
}

#[test]
fn safe_mode_and_out() {
    let safe = || {
        let mut play = Play::at_work();
        for _ in 0..7 {
            play.hear("cut");
        }
        assert_eq!(play.shown(), "6 (-) [-] refused [7 6] safe");
        play
    };
    safe().plays(
        "cut          => fellback:7 safe:6 floor:6
         roll-back    =>
         crash 6      =>
         leave-safe   => persist serve:6
         loaded 6     =>
         answer 6     => persist
         leave-safe   =>",
        "6 (-) [-] refused [7]",
    );
    // A new release leads out, and only when it has proven itself.
    safe().plays(
        "order 9      => persist choose:9
         chosen 9     => persist transfer:9
         arrived 9    => persist verify:9
         verified 9   => persist prove:9
         proved 9     => persist serve:9
         crash 9      => persist refused:9 unload collect
         order 10     => persist choose:10
         chosen 10    => persist transfer:10
         arrived 10   => persist verify:10
         verified 10  => persist prove:10
         proved 10    => persist serve:10
         loaded 10    =>
         answer 10    =>
         answer 10    =>
         after 600    => persist committed:10 floor:10 collect",
        "10 (-) [-] refused [7 6 9]",
    );
}

#[test]
fn a_person_goes_back_and_forgives() {
    Play::with_8_in(Phase::Trial).plays(
        "roll-back    => persist superseded:8 rolledback:7 serve:6 collect
         roll-back    =>
         loaded 6     =>
         answer 6     => persist
         order 7      => persist choose:7
         chosen 7     => persist unfit:7
         forgive 7    => persist
         order 7      => persist choose:7
         chosen 7     => persist transfer:7",
        "6 (-) [7 staging 0] refused []",
    );
}
