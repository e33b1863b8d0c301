//! Readings by HTTP from a stranger: JSON or line protocol; taken whole or refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node::source::http::{Form, HttpSource};
use node::source::queue::Outlet;
use wire::world::Simulated;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, body)) = bytes.split_first() else { return };
    let form = if choice % 2 == 0 { Form::Json } else { Form::Lines { unit_ns: 1 } };
    let outlet = Outlet::new(1);
    let mut source = HttpSource::new(outlet.inlet(0, Box::new(Simulated::new(0))), None);
    let _ = source.take(form, body, 1_767_225_600_000);
});
