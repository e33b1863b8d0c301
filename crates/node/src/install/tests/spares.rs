//! Spares, from the search for one to the time when memory is short, and what ends them; as scripts of events.

use super::*;

#[test]
fn a_spare_stands_by_answers_and_steps_back() {
    Play::that_spares().plays(
        "quiet        => seek:7
         quiet        =>
         s-chosen 7   => persist transfer:spare-7
         s-arrived 7  => persist verify:spare-7
         s-verified 7 => persist prove:spare-7
         s-proved 7   => persist
         quiet        =>
         s-loaded 7   => over
         s-loaded 7   =>
         s-answer 7   =>
         quiet        =>
         loaded 7     => back
         loaded 7     =>
         s-loaded 7   => over
         cut          => persist floor:7 serve:7
         loaded 7     =>",
        "7 (6) [-] refused [] spare ready 0",
    );
    // Nobody wants one, or nobody wants one any more.
    Play::at_work().plays("quiet =>", "7 (6) [-] refused []");
    let mut play = Play::with_spare();
    play.rules.spare = false;
    play.plays("cut => persist floor:7 serve:7 collect", "7 (6) [-] refused []");
    // Nothing is begun before the current one has answered.
    let mut play = Play::that_spares();
    play.plays(
        "cut => persist floor:7 serve:7 \n quiet => \n loaded 7 => \n quiet =>",
        "7 (6) [-] refused []",
    );
    play.plays("answer 7 => persist \n quiet => seek:7", "7 (6) [-] refused []");
}

#[test]
fn a_spare_makes_way_for_whatever_comes_and_goes_with_its_release() {
    Play::that_spares().plays(
        "quiet        => seek:7
         s-chosen 7   => persist transfer:spare-7
         s-arrived 7  => persist verify:spare-7
         s-verified 7 => persist prove:spare-7
         order 8      => persist choose:8
         busy         => persist rest
         busy         =>
         s-proved 7   =>
         chosen 8     => persist transfer:8
         s-arrived 7  =>
         quiet        =>
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         loaded 8     =>
         quiet        =>
         answer 8     =>
         answer 8     =>
         after 600    => persist committed:8 floor:8 collect
         quiet        => seek:8
         s-chosen 7   =>
         s-chosen 8   => persist transfer:spare-8",
        "8 (7) [-] refused [] spare staging 0",
    );
    let mut play = Play::with_spare();
    play.plays(
        "order 8      => persist choose:8
         chosen 8     => persist transfer:8
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         disproved 8  => persist refused:8 collect
         quiet        =>",
        "7 (6) [-] refused [8] spare ready 0",
    );
    play.plays(
        "roll-back    => persist rolledback:7 serve:6 collect
         quiet        =>
         loaded 6     =>
         answer 6     => persist
         quiet        => seek:6",
        "6 (-) [-] refused [8 7]",
    );
    // The disk has room for one of them.
    let mut play = Play::with_spare();
    play.plays(
        "order 8      => persist choose:8
         chosen 8     => persist transfer:8
         no-room 8    => persist collect transfer:8
         no-room 8    =>
         after 60     => transfer:8",
        "7 (6) [8 staging 0] refused []",
    );
    // While one answers a release comes all the same.
    Play::with_spare().plays(
        "s-loaded 7   => over
         order 8      => persist choose:8
         chosen 8     => persist transfer:8
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         s-answer 7   =>
         loaded 8     => back",
        "7 (6) [8 trial 0] refused [] spare ready 0",
    );
}

#[test]
fn a_spare_that_is_no_good_is_just_absent() {
    Play::that_spares().plays(
        "quiet        => seek:7
         s-never 7    => persist
         quiet        =>
         cut          => persist floor:7 serve:7
         loaded 7     =>
         answer 7     => persist
         quiet        =>",
        "7 (6) [-] refused []",
    );
    Play::that_spares().plays(
        "quiet         => seek:7
         s-later 7     =>
         after 599     =>
         quiet         =>
         after 1       =>
         quiet         => seek:7
         s-chosen 7    => persist transfer:spare-7
         s-not-arrived 7 =>
         quiet         =>
         after 600     =>
         quiet         => transfer:spare-7
         s-arrived 7   => persist verify:spare-7
         s-verified 7  => persist prove:spare-7
         s-disproved 7 => persist collect
         quiet         =>",
        "7 (6) [-] refused []",
    );
    // The node died of it, or of something else: once it is tried again.
    let mut play = Play::that_spares();
    for word in ["quiet", "s-chosen 7", "s-arrived 7", "s-verified 7", "stop"] {
        play.hear(word);
    }
    play.plays(
        "cut          => persist floor:7 serve:7
         loaded 7     =>
         answer 7     => persist
         quiet        => verify:spare-7
         s-verified 7 => persist prove:spare-7
         cut          => persist floor:7 serve:7
         loaded 7     =>
         answer 7     => persist
         quiet        =>
         after 600    =>
         quiet        => verify:spare-7
         s-verified 7 => persist prove:spare-7
         cut          => persist floor:7 collect serve:7
         loaded 7     =>
         answer 7     => persist
         after 600    =>
         quiet        =>",
        "7 (6) [-] refused []",
    );
    // It breaks when it is needed.
    Play::with_spare().plays(
        "s-loaded 7   => over
         s-crash 7    => persist collect serve:7
         loaded 7     => back
         answer 7     => persist
         quiet        =>",
        "7 (6) [-] refused []",
    );
    Play::with_spare().plays("s-not-loaded 7 => persist collect serve:7", "7 (6) [-] refused []");
    Play::with_spare().plays(
        "s-spoilt 7   => persist serve:7
         loaded 7     =>
         answer 7     => persist
         after 600    =>
         quiet        => transfer:spare-7",
        "7 (6) [-] refused [] spare staging 1",
    );
}
