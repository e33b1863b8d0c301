//! Reports: kept until the journal has them, named, bounded, and true about the machine.

use super::*;

#[test]
fn reports_stay_until_the_journal_has_them_and_have_names_of_their_own() {
    let mut play = Play::with_8_in(Phase::Proving);
    play.hear("disproved 8");
    play.hear("order 9");
    play.hear("unfit 9");
    let ids: Vec<String> = play.slots.kept.reports.iter().map(|report| report.id.clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    assert_eq!(play.hear("cut"), "persist refused:8 unfit:9 floor:7 serve:7");
    assert_eq!(play.hear("journalled"), "persist");
    assert_eq!(play.hear("cut"), "persist unfit:9 floor:7 serve:7");
    let (why, measured) = ("x".repeat(10_000), Measured::default());
    let mut play = Play::with_8_in(Phase::Proving);
    play.take(Event::Proved(digest("manifest", 8), Proof::Failed { why, measured }));
    assert!(serde_json::to_vec(&play.slots.kept).unwrap().len() < 10_000);
}

#[test]
fn a_report_says_whether_the_machine_ran_on() {
    for (reboots, same) in [(true, Some(false)), (false, Some(true))] {
        let mut play = Play::with_8_in(Phase::Staged);
        let mut kernel = || Some(BootId::random(&mut play.chance));
        let (first, second) = (kernel(), kernel());
        play.now.kernel = first;
        play.hear("verified 8");
        play.now.kernel = if reboots { second } else { first };
        play.hear("restart");
        let missed = play.slots.kept.reports.last().unwrap();
        assert_eq!((missed.outcome, missed.kernel_same), (Outcome::Missed, same));
    }
}
