//! ONNX graphs and input contracts from strangers: any bytes give what fits a contract, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net::graph::read;
use package::contract::Contract;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(graph) = read(bytes) {
        assert!(graph.net.operators.len() <= 1024);
        assert!(graph.parameters <= 2 * bytes.len() as u64);
    }
    if let Ok(contract) = Contract::parse(bytes) {
        let again = contract.to_bytes();
        assert!(Contract::parse(&again).is_ok_and(|again| again.to_string() == contract.to_string()));
    }
});
