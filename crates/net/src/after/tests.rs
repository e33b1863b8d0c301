//! Meanings over tensors that are written here.

use super::*;

fn port(name: &str) -> Port {
    Port { name: name.into(), element: "float32".into(), shape: None }
}

fn tensor(shape: &[usize], list: &[f32]) -> Tensor {
    Tensor::of_f32(shape, list.to_vec()).unwrap()
}

fn read(
    meaning: &str,
    outputs: &[(&str, Tensor)],
    placed: Option<(Placed, (usize, usize))>,
) -> Result<Answer, MeaningError> {
    let meaning: Meaning = toml::from_str(meaning).unwrap();
    let ports: Vec<Port> = outputs.iter().map(|(name, _)| port(name)).collect();
    let outputs: Vec<Tensor> = outputs.iter().map(|(_, tensor)| tensor.clone()).collect();
    let inputs = [tensor(&[1, 3], &[1.0, 1.0, 0.0])];
    let input_ports = [port("mask")];
    meaning.check(&input_ports, &ports)?;
    let mut answer = Answer::default();
    let step = Step { ports: &ports, outputs: &outputs, input_ports: &input_ports, inputs: &inputs, placed };
    meaning.read(&step, &mut answer)?;
    Ok(answer)
}

#[test]
fn classes_are_ranked() {
    let scores = || tensor(&[1, 3], &[0.0, 2.0, 1.0]);
    let text = "as = 'classes'\noutput = 'y'\nlabels = ['a', 'b', 'c']\n";
    let answer = read(&format!("{text}activation = 'softmax'\ntop = 2"), &[("y", scores())], None).unwrap();
    let told: Vec<(&str, i32)> =
        answer.ranked.iter().map(|class| (&*class.label, (class.p * 1e4).round() as i32)).collect();
    assert_eq!(told, [("b", 6652), ("c", 2447)]);
    assert_eq!(answer.fields[0], ("label".into(), Field::Word("b".into())));
    // A class may have a threshold of its own; without any class there is a word, and no probability.
    let answer =
        read(&format!("{text}activation = 'sigmoid'\nthresholds = {{ b = 0.9 }}"), &[("y", scores())], None)
            .unwrap();
    assert_eq!(answer.ranked[0].label, "c");
    let none =
        format!("{text}activation = 'softmax'\nthreshold = 0.99\notherwise = 'unknown'\nprefix = 'net_'");
    let answer = read(&none, &[("y", scores())], None).unwrap();
    assert_eq!(answer.fields, [("net_label".into(), Field::Word("unknown".into()))]);
    let error = read(text, &[("y", tensor(&[1, 2], &[0.0; 2]))], None).unwrap_err();
    assert!(error.to_string().contains("scores for 3 labels"), "{error}");
    let error = read("as = 'classes'\noutput = 'z'", &[("y", scores())], None).unwrap_err();
    assert_eq!(error.to_string(), "the network has no output `z`; it has `y`");
    let mut huge = [1e30, f32::MAX, -f32::MAX];
    Activation::Softmax.apply(&mut huge);
    assert_eq!(huge, [0.0, 1.0, 0.0]);
}

#[test]
fn of_boxes_that_overlap_the_best_stays_and_lies_in_the_picture() {
    let boxes = tensor(
        &[1, 4, 4],
        &[
            0.1,
            0.1,
            0.5,
            0.5, //
            0.12,
            0.1,
            0.52,
            0.5, //
            0.6,
            0.6,
            0.9,
            0.9, //
            0.0,
            0.0,
            f32::NAN,
            1.0,
        ],
    );
    let scores = tensor(&[1, 4, 2], &[0.2, 0.8, 0.1, 0.9, 0.3, 0.7, 0.0, 1.0]);
    let text = "as = 'boxes'\nboxes = 'b'\nscores = 's'\nbackground = 0\nlabels = ['nothing', 'face']\nthreshold = 0.5\noverlap = 0.5";
    let answer = read(text, &[("b", boxes), ("s", scores)], None).unwrap();
    let told: Vec<(&str, f32, f32)> = answer.boxes.iter().map(|one| (&*one.label, one.p, one.left)).collect();
    assert_eq!(told, [("face", 0.9, 0.12), ("face", 0.7, 0.6)]);
    assert_eq!(answer.fields[0], ("count".into(), Field::Number(2.0)));
    // As YOLO has them: a column for each box, the middle and pixels, scores behind; the picture was letterboxed.
    let boxes = tensor(&[1, 6, 2], &[50.0, 10.0, 50.0, 50.0, 20.0, 4.0, 20.0, 4.0, 0.1, 0.2, 0.9, 0.3]);
    let text = "as = 'boxes'\nboxes = 'b'\nsides = 'middle'\nunit = 'pixels'\ncolumns = true\nthreshold = 0.25\noverlap = 0.5";
    let placed = Placed { offset: (0.0, -0.5), scale: (1.0, 2.0) };
    let answer = read(text, &[("b", boxes)], Some((placed, (100, 100)))).unwrap();
    assert_eq!(answer.boxes.len(), 2);
    let Found { label, left, top, right, bottom, .. } = &answer.boxes[0];
    assert_eq!((&**label, *left, *right), ("1", 0.4, 0.6));
    assert!((top - 0.3).abs() < 1e-6 && (bottom - 0.7).abs() < 1e-6, "{top} {bottom}");
    let none = "as = 'boxes'\nboxes = 'b'\nthreshold = 0.5\noverlap = 0.5";
    let answer = read(none, &[("b", tensor(&[1, 0, 6], &[]))], None).unwrap();
    assert_eq!(answer.fields, [("count".into(), Field::Number(0.0))]);
    let error =
        read("as = 'boxes'\nboxes = 'b'\nthreshold = 2\noverlap = 0.5", &[("b", tensor(&[1], &[1.0]))], None);
    assert!(error.unwrap_err().to_string().contains("from 0 to 1"));
}

#[test]
fn vectors_are_means_of_what_counts() {
    let rows = tensor(&[1, 3, 2], &[2.0, 0.0, 4.0, 8.0, 100.0, 100.0]);
    let answer = read("as = 'embedding'\noutput = 'y'\nmask = 'mask'", &[("y", rows.clone())], None).unwrap();
    assert_eq!(answer.vector, [3.0, 4.0]);
    let unit = "as = 'embedding'\noutput = 'y'\nmask = 'mask'\nunit_length = true";
    assert_eq!(read(unit, &[("y", rows)], None).unwrap().vector, [0.6, 0.8]);
    let short = tensor(&[1, 2, 2], &[0.0; 4]);
    assert!(read(unit, &[("y", short)], None).unwrap_err().to_string().contains("a mask of 3"));
}

#[test]
fn numbers_have_names() {
    let text = "as = 'numbers'\noutput = 'y'\nnames = ['speech', '', 'noise']\nactivation = 'sigmoid'";
    let answer = read(text, &[("y", tensor(&[1, 3], &[0.0, 9.0, f32::NAN]))], None).unwrap();
    assert_eq!(answer.fields, [("speech".into(), Field::Number(0.5))]);
    assert!(
        read(text, &[("y", tensor(&[2], &[0.0; 2]))], None).unwrap_err().to_string().contains("3 numbers")
    );
}
