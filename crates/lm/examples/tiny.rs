//! scratch
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use kernels::{compute::Compute, cpu::Isa, page::CacheFormat};
use lm::forward::{Part, Scratch, Wanted};
use lm::gguf::Gguf;
use lm::network::Network;
fn main() {
    for isa in Isa::all_here() {
    let compute = Arc::new(Compute::new(isa, NonZeroUsize::new(2).unwrap()));
    let mut names: Vec<_> = std::fs::read_dir("/tmp/tiny").unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "gguf")).collect();
    names.sort();
    for path in names {
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path.with_extension("json")).unwrap()).unwrap();
        let tokens: Vec<u32> = json["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect();
        let file = Gguf::open(Path::new(&path)).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        let network = match Network::load(&file, compute.clone()) { Ok(n) => n, Err(e) => { println!("{name}: {e:?}"); continue } };
        let mut scratch = Scratch::default();
        if json.get("logits").is_none() {
            let pooling = network.shape().pooling.unwrap();
            let v = lm::embed::embed(&network, &mut scratch, &[tokens.clone()], pooling).unwrap();
            let e: Vec<f64> = json["embedding"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect();
            let n = e.iter().map(|x| x*x).sum::<f64>().sqrt();
            let d = v[0].iter().zip(&e).map(|(a,b)| (*a as f64 - b/n).abs()).fold(0.0, f64::max);
            println!("{} {name}: embedding max diff {d:.2e}", isa.name());
            continue;
        }
        let want: Vec<Vec<f64>> = json["logits"].as_array().unwrap().iter().map(|r| r.as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect()).collect();
        let diff = |logits: &[f32], first: usize| -> f64 { let v = want[0].len(); logits.chunks_exact(v).enumerate().flat_map(|(i,row)| { let w = &want[first+i]; row.iter().zip(w).map(|(a,b)| (*a as f64 - b).abs()).collect::<Vec<_>>() }).fold(0.0, f64::max) };
        let mut out = String::new();
        for format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8_0] {
            let Ok(pages) = network.page_shape(format) else { continue };
            let mut cache = network.sequence(pages, tokens.len());
            let logits = network.step(&mut scratch, &mut [Part { tokens: &tokens, cache: &mut cache, adapter: None, wanted: Wanted::All }]).unwrap();
            let mut worst = 0.0f64;
            let mut cache2 = network.sequence(pages, tokens.len());
            for (i, t) in tokens.iter().enumerate() {
                let l = network.step(&mut scratch, &mut [Part { tokens: &[*t], cache: &mut cache2, adapter: None, wanted: Wanted::All }]).unwrap();
                worst = worst.max(diff(&l, i));
            }
            out += &format!(" {format:?}: prompt {:.1e} decode {:.1e}", diff(&logits, 0), worst);
        }
        println!("{} {name}:{out}", isa.name());
    }
    }
}
