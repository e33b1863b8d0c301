//! Networks of others on pictures of others, where those are at hand: faces, through a folder and a flow.

use std::fs;

use node::flow::Flow;
use node::pipeline::Product;
use node::play::play;
use wire::body::Said;

use crate::borrowed::data::data;
use crate::borrowed::recipes::{FACES, in_flow};

#[test]
fn faces_are_found_through_a_folder() {
    let Some(data) = data("onnx-models/ultraface") else { return };
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for name in ["13.jpg", "19.jpg"] {
        fs::copy(data.join("images").join(name), pictures.join(name)).unwrap();
    }
    fs::write(pictures.join("broken.jpg"), b"\xff\xd8\xff and no more").unwrap();
    let (file, recipe) = (data.join("version-RFB-320.onnx"), in_flow(FACES, "faces"));
    let text = format!(
        r#"
[source.door]
type = "images"
folder = "pictures"

[model.faces]
type = "network"
inputs = ["source.door"]
file = {file:?}
record = "each"

{recipe}
[rule.crowd]
inputs = ["model.faces"]
when = 'faces.count >= 3.0 && faces.label == "face"'
"#
    );
    let flow =
        Flow::parse(&dir.path().join("flow.toml"), text.into()).unwrap_or_else(|errors| panic!("{errors}"));
    let (mut counts, mut fired) = (Vec::new(), 0);
    play(&flow, 0, |_, _, products| {
        for product in products {
            match product {
                Product::Answer(answer) => match &answer.fields["count"] {
                    Said::Number(count) => counts.push(*count as u64),
                    Said::Word(word) => panic!("{word}"),
                },
                Product::Decision(_) => fired += 1,
                _ => {}
            }
        }
    })
    .unwrap();
    counts.sort_unstable();
    println!("faces: {counts:?}");
    assert_eq!((counts, fired >= 1), (vec![2, 5], true));
}
