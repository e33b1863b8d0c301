//! Several looks in one run: each says what it says alone, with every runtime of the build; and what cannot be is refused.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

mod shared;

use net::after::{Answer, Field};
use net::before::Window;
use net::network::Network;
use net::picture::Picture;
use net::recipe::Recipe;
use net::runtime::Kind;
use net::specimen::{Size, constant, int, model, node, value, whole};
use net::stage::{Material, Stage, StepError};
use net::tensor::{Data, Tensor};
use shared::data::data;
use shared::recipes::FACES;
use shared::runtimes::{kinds, options};

fn stage(bytes: &[u8], kind: Kind, recipe: &str) -> Stage {
    let network =
        Network::load(bytes, &options(kind)).unwrap_or_else(|error| panic!("{}: {error}", kind.word()));
    Stage::new(network, toml::from_str(recipe).unwrap()).unwrap()
}

/// Numbers that look like weights.
fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * at + 3 * at) as f32 * 0.37).sin() * 0.3).collect()
}

/// A convolution, and what one box with two classes is made of; of any number of pictures.
fn eyes() -> Vec<u8> {
    let parts = [
        node("Conv", &["picture", "k"], &["seen"], &[]),
        node("Relu", &["seen"], &["lit"], &[]),
        node("Flatten", &["lit"], &["flat"], &[]),
        node("MatMul", &["flat", "wb"], &["b"], &[]),
        node("Sigmoid", &["b"], &["inside"], &[]),
        node("Reshape", &["inside", "four"], &["boxes"], &[]),
        node("MatMul", &["flat", "ws"], &["s"], &[]),
        node("Sigmoid", &["s"], &["sure"], &[]),
        node("Reshape", &["sure", "two"], &["scores"], &[]),
        constant("k", &[4, 3, 3, 3], &weights(108)),
        constant("wb", &[144, 4], &weights(576)),
        constant("ws", &[144, 2], &weights(288)),
        whole("four", &[3], &[-1, 1, 4]),
        whole("two", &[3], &[-1, 1, 2]),
    ];
    let looks = Size::Called("pictures");
    let picture = value("picture", 1, &[looks, Size::Is(3), Size::Is(8), Size::Is(8)]);
    let boxes = value("boxes", 1, &[looks, Size::Is(1), Size::Is(4)]);
    model(&parts, &[picture], &[boxes, value("scores", 1, &[looks, Size::Is(1), Size::Is(2)])])
}

const EYES: &str = r#"
    [inputs.picture]
    from = "picture"
    fit = "letterbox"
    mean = [127]
    deviation = [128]
    [[answers]]
    as = "boxes"
    boxes = "boxes"
    scores = "scores"
    labels = ["cup", "plate"]
    threshold = 0.0
    overlap = 0.5
"#;

/// Whether two answers are the same up to what runtimes differ by.
fn is_near(a: &Answer, b: &Answer) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    let fields = a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|((name, a), (other, b))| {
            name == other
                && match (a, b) {
                    (Field::Number(a), Field::Number(b)) => near(*a, *b),
                    (a, b) => a == b,
                }
        });
    let boxes = a.boxes.len() == b.boxes.len()
        && a.boxes.iter().zip(&b.boxes).all(|(a, b)| {
            let sides =
                |one: &net::after::Found| [one.left, one.top, one.right, one.bottom, one.p].map(f64::from);
            a.label == b.label && sides(a).iter().zip(sides(b)).all(|(a, b)| near(*a, b))
        });
    let labels = |one: &Answer| one.ranked.iter().map(|class| class.label.clone()).collect::<Vec<_>>();
    let vectors = a.vector.len() == b.vector.len()
        && a.vector.iter().zip(&b.vector).all(|(a, b)| near(f64::from(*a), f64::from(*b)));
    fields && boxes && vectors && labels(a) == labels(b)
}

/// Asks for all of them at once, and for each alone with a stage of its own.
fn check(bytes: &[u8], kind: Kind, batch: usize, recipe: &str, materials: &[Material<'_>]) {
    let mut alone = stage(bytes, kind, recipe);
    let expected: Vec<Answer> = materials.iter().map(|material| alone.step(material).unwrap()).collect();
    let mut together = stage(bytes, kind, &format!("batch = {batch}\n{recipe}"));
    together.prove(materials).unwrap();
    let found = together.steps(materials);
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let found = found.as_ref().unwrap();
        assert!(is_near(found, expected), "{} {at}: {found:?}\n{expected:?}", kind.word());
    }
}

#[test]
fn pictures_of_many_sizes_keep_their_own_boxes() {
    let picture = |at: usize| {
        let (width, height) = (8 + at * 5 % 23, 8 + at * 7 % 17);
        let rgb = (0..3 * width * height).map(|pixel| (pixel * (at + 3) * 31 % 256) as u8).collect();
        Picture::new(width, height, rgb).unwrap()
    };
    let pictures: Vec<Picture> = (0..11).map(picture).collect();
    let material = |picture| Material { picture: Some(picture), ..Material::default() };
    let materials: Vec<Material<'_>> = pictures.iter().map(material).collect();
    for kind in kinds() {
        for batch in [1, 2, 4, 11, 64] {
            check(&eyes(), kind, batch, EYES, &materials);
        }
        check(&eyes(), kind, 4, EYES, &[]);
    }
}

/// `y = gain · x + offset`, of which `gain` is one number for all and `offset` a row for each.
fn offset() -> Vec<u8> {
    let parts = [node("Mul", &["x", "gain"], &["g"], &[]), node("Add", &["g", "offset"], &["y"], &[])];
    let row = |name| value(name, 1, &[Size::Called("n"), Size::Is(4)]);
    model(&parts, &[row("x"), value("gain", 1, &[]), row("offset")], &[row("y")])
}

const OFFSET: &str = r#"
    [inputs.x]
    from = "numbers"
    layout = "channels-last"
    [inputs.gain]
    from = "constant"
    values = [3]
    [inputs.offset]
    from = "constant"
    shape = [1, 4]
    values = [0, 10, 20, 30]
"#;

#[test]
fn windows_share_constants_and_a_wrong_one_is_wrong_alone() {
    let short = [1.0, 2.0];
    let windows: Vec<Vec<f32>> = (0..9).map(|at| (0..4).map(|of| (at * 4 + of) as f32).collect()).collect();
    let material = |values| {
        let window = Window { values, channels: 2 };
        Material { window: Some(window), ..Material::default() }
    };
    for kind in kinds() {
        let mut materials: Vec<Material<'_>> =
            windows.iter().map(|values| material(values.as_slice())).collect();
        check(&offset(), kind, 4, OFFSET, &materials);
        materials[5] = material(&short[..]);
        let mut together = stage(&offset(), kind, &format!("batch = 4\n{OFFSET}"));
        let answers = together.steps(&materials);
        for (at, answer) in answers.iter().enumerate() {
            match answer {
                Ok(answer) => assert_eq!(answer.fields[0].1, Field::Number(3.0 * (at * 4) as f64)),
                Err(error) => assert!(at == 5 && matches!(error, StepError::Fill(_)), "{at}: {error}"),
            }
        }
        assert!(answers[5].is_err() && answers.iter().filter(|answer| answer.is_err()).count() == 1);
    }
}

/// Vectors of tokens, doubled.
fn tokens() -> Vec<u8> {
    let parts = [node("Add", &["x", "x"], &["y"], &[]), node("Identity", &["mask"], &["same"], &[])];
    let size = |name| Size::Called(name);
    let many = |name| value(name, 1, &[size("n"), size("length"), Size::Is(3)]);
    let mask = |name| value(name, 7, &[size("n"), size("length")]);
    model(&parts, &[many("x"), mask("mask")], &[many("y"), mask("same")])
}

#[test]
fn what_is_handed_over_in_unlike_shapes_is_looked_at_alone() {
    let recipe = "[inputs.x]\nfrom = \"given\"\n[inputs.mask]\nfrom = \"given\"\n\
        [[answers]]\nas = \"embedding\"\noutput = \"y\"\nmask = \"mask\"\n";
    let given = |at: usize, length: usize| {
        let x = (0..3 * length).map(|of| (at * 7 + of) as f32).collect();
        let mask = (0..length).map(|of| i64::from(of <= at % 3)).collect();
        let x = Tensor::of_f32(&[1, length, 3], x).unwrap();
        let mask = Tensor::new(vec![1, length], Data::I64(mask)).unwrap();
        Material { given: [("x".to_owned(), x), ("mask".to_owned(), mask)].into(), ..Material::default() }
    };
    let alike: Vec<Material<'_>> = (0..6).map(|at| given(at, 5)).collect();
    let unlike = [5, 5, 4, 5, 6, 5, 5].iter().enumerate().map(|(at, length)| given(at, *length));
    let unlike: Vec<Material<'_>> = unlike.collect();
    for kind in kinds() {
        check(&tokens(), kind, 3, recipe, &alike);
        let mut alone = stage(&tokens(), kind, recipe);
        let mut together = stage(&tokens(), kind, &format!("batch = 3\n{recipe}"));
        for (material, answer) in unlike.iter().zip(together.steps(&unlike)) {
            assert!(is_near(&answer.unwrap(), &alone.step(material).unwrap()));
        }
    }
}

#[test]
fn who_compiles_for_shapes_gets_full_groups_alone() {
    for kind in kinds() {
        let stage = stage(&offset(), kind, &format!("batch = 4\n{OFFSET}"));
        let groups = [0, 1, 3, 4, 9].map(|waiting| stage.together(waiting));
        match kind {
            Kind::Tract => assert_eq!(groups, [1, 1, 1, 4, 4]),
            Kind::OnnxRuntime => assert_eq!(groups, [1, 1, 3, 4, 4]),
        }
    }
}

#[test]
fn what_weighs_looks_together_or_gives_one_answer_for_all_is_noticed() {
    let row = |name, wide| value(name, 1, &[Size::Called("n"), Size::Is(wide)]);
    let softmax =
        model(&[node("Softmax", &["x"], &["y"], &[int("axis", 0)])], &[row("x", 2)], &[row("y", 2)]);
    let sum = node("ReduceSum", &["x", "first"], &["y"], &[int("keepdims", 1)]);
    let sum = model(
        &[sum, whole("first", &[1], &[0])],
        &[row("x", 2)],
        &[value("y", 1, &[Size::Called("m"), Size::Is(2)])],
    );
    let values = [[1.0, 2.0], [3.0, 5.0]];
    let material = |values| Material { window: Some(Window { values, channels: 2 }), ..Material::default() };
    let materials = [material(&values[0][..]), material(&values[1][..])];
    for kind in kinds() {
        let mut mixed = stage(&softmax, kind, "batch = 2");
        let error = mixed.prove(&materials).unwrap_err();
        assert!(matches!(&error, StepError::Mixed { output } if output == "y"), "{error}");
        let mut one = stage(&sum, kind, "batch = 2");
        let error = one.prove(&materials).unwrap_err().to_string();
        assert_eq!(error, "`y` came as [1, 2], which is not what 2 looks give, one after the other");
        // Asked all the same, it answers each alone.
        let answers = one.steps(&materials);
        assert_eq!(answers[1].as_ref().unwrap().fields[1].1, Field::Number(5.0));
    }
}

#[test]
fn networks_of_others_share_runs_or_say_why_not() {
    let Some(folder) = data("onnx-models") else { return };
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    for kind in kinds() {
        let refused = |file: &str, recipe: &str| {
            let network = Network::load(&read(file), &options(kind)).unwrap();
            Stage::new(network, toml::from_str::<Recipe>(recipe).unwrap()).unwrap_err().to_string()
        };
        let why = refused("ultraface/version-RFB-320.onnx", &format!("batch = 4\n{FACES}"));
        assert!(why.contains("input float32[1×3×240×320] has a first dimension of 1"), "{why}");
        let voice = "batch = 4\n[inputs.input]\nfrom = \"numbers\"\n[inputs.state]\nfrom = \"state\"\noutput = \"stateN\"\nshape = [2, 1, 128]\n[inputs.sr]\nfrom = \"constant\"\nvalues = [16000]\n";
        let why = refused("silero-vad/silero_vad_16k_op15.onnx", voice);
        assert!(why.contains("`state` carries state"), "{why}");
        let content = |at: usize| {
            let list = (0..2048).map(|of| ((of * (at + 5) * 13 + at) % 128) as i32).collect();
            let bytes = Tensor::new(vec![1, 2048], Data::I32(list)).unwrap();
            Material { given: [("bytes".to_owned(), bytes)].into(), ..Material::default() }
        };
        let contents: Vec<Material<'_>> = (0..5).map(content).collect();
        let recipe = "[inputs.bytes]\nfrom = \"given\"\n[[answers]]\nas = \"classes\"\noutput = \"target_label\"\ntop = 3\n";
        let mut alone = stage(&read("magika/model.onnx"), kind, recipe);
        let mut together = stage(&read("magika/model.onnx"), kind, &format!("batch = 4\n{recipe}"));
        together.prove(&contents).unwrap();
        for (content, answer) in contents.iter().zip(together.steps(&contents)) {
            let (expected, answer) = (alone.step(content).unwrap(), answer.unwrap());
            assert_eq!(answer.ranked[0].label, expected.ranked[0].label);
            assert!((answer.ranked[0].p - expected.ranked[0].p).abs() < 1e-4, "{answer:?} {expected:?}");
        }
        println!("{}: kinds of files are told alike, one by one and four together", kind.word());
    }
}
