//! A stranger's condition: any text gives an expression or an error with its place, and whatever stands on the board, judging
//! it and telling why does not fail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node::board::{Board, Kind, Slot};
use node::expression::Expression;
use node::expression::names::{Names, Unknown};

/// Every name means something: by its length, so that all kinds come up.
struct Anything;

impl Names for Anything {
    fn slot(&self, part: &str, field: &str) -> Result<(Slot, Kind), Unknown> {
        let at = (part.len() + field.len()) % 3;
        Ok((Slot(at as u32), [Kind::Number, Kind::Bool, Kind::Text][at]))
    }
}

fuzz_target!(|input: (&str, f64, Option<bool>, Option<&str>, i64)| {
    let (text, number, truth, word, now_ms) = input;
    let mut board = Board::new(3, 1);
    board.number(Slot(0), 0, 0, number);
    board.truth(Slot(1), 0, 0, truth);
    board.text(Slot(2), 0, 0, word);
    for kind in [Kind::Bool, Kind::Number, Kind::Text, Kind::Duration] {
        match Expression::parse(text, kind, &Anything) {
            Ok(expression) => {
                let holds = expression.holds(&board, now_ms);
                let why = expression.why(&board, now_ms);
                assert!(holds.is_none() || !why.words.is_empty());
                let _ = (expression.number(&board, now_ms), expression.first_value(&board));
            }
            Err(bad) => assert!(text.get(bad.span).is_some() && !bad.message.is_empty()),
        }
    }
});
