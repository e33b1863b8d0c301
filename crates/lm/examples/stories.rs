//! scratch
use std::num::NonZeroUsize; use std::path::Path; use std::sync::Arc; use std::time::Instant;
use kernels::{compute::Compute, cpu::Isa, page::CacheFormat};
use lm::{batch::*, model::Model, sample::Settings, answer::Answer, tokenizer::special::Special};
fn main() {
    let path = std::env::args().nth(1).unwrap(); let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let t0 = Instant::now();
    let threads: usize = std::env::args().nth(3).map_or(2, |t| t.parse().unwrap());
    let compute = Arc::new(Compute::new(Isa::from_environment().unwrap(), NonZeroUsize::new(threads).unwrap()));
    let model = Arc::new(Model::open(Path::new(&path), compute).unwrap());
    println!("load {:?} {:?}", t0.elapsed(), model.facts);
    let pages = model.network.page_shape(CacheFormat::F16).unwrap();
    let limits = Limits { running: 4, waiting: 4, step_tokens: 256, context: 512, cache_bytes: 1<<30, prefix_bytes: 1<<28 };
    let mut batch = Batch::new(model.clone(), pages, limits);
    let prompt = model.tokenizer.encode_for_model("", Special::Parse);
    println!("{prompt:?}");
    let sampling = Settings { temperature: 0.0, ..Settings::default() };
    batch.submit(Request { prompt, max_tokens: Some(n), sampling, top: 2, echo: false, constraint: None, ignore_end: false, adapter: None }).unwrap();
    let mut answer = Answer::new(&model.tokenizer, vec![]);
    let t = Instant::now(); let mut count = 0;
    while batch.busy() { for event in batch.step().unwrap() { match event { Event::Token { chosen, .. } => { if count == 0 { println!("first {:?} {:?}", t0.elapsed(), chosen); } count += 1; print!("{}", answer.push(chosen.token)) }, e => println!("{e:?}") } } }
    println!("{}", answer.finish());
    println!("{} tok in {:?}: {:.0}/s", count, t.elapsed(), count as f64 / t.elapsed().as_secs_f64());
}
