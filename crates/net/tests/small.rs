//! Small networks that this test writes: what the face promises, with every runtime of the build, and what strangers may send.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

mod shared;

use net::after::Field;
use net::before::Window;
use net::network::{LoadError, Network, Options, RunError};
use net::recipe::Recipe;
use net::runtime::Kind;
use net::specimen::{Size, bytes, constant, model, node, number, value, whole};
use net::stage::{Material, Stage, StepError};
use net::tensor::{Data, Tensor};
use shared::runtimes::{kinds, options};

fn f32s(shape: &[usize], list: &[f32]) -> Tensor {
    Tensor::of_f32(shape, list.to_vec()).unwrap()
}

/// `y = x w + b`, with as many rows as there are.
fn linear() -> Vec<u8> {
    let parts = [
        node("MatMul", &["x", "w"], &["xw"], &[]),
        node("Add", &["xw", "b"], &["y"], &[]),
        constant("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        constant("b", &[3], &[0.5, 0.0, -0.5]),
    ];
    let x = value("x", 1, &[Size::Called("rows"), Size::Is(2)]);
    model(&parts, &[x], &[value("y", 1, &[Size::Called("rows"), Size::Is(3)])])
}

#[test]
fn a_network_runs_at_each_size_that_it_leaves_free() {
    for kind in kinds() {
        let mut network = Network::load(&linear(), &options(kind)).unwrap();
        assert_eq!(network.inputs()[0].to_string(), "x float32[rows×2]");
        assert_eq!((network.kind(), network.parameters()), (kind, 9));
        for rows in [1, 2, 7, 1, 3, 4, 5, 6, 2] {
            let x: Vec<f32> = (0..2 * rows).map(|at| at as f32).collect();
            let y = network.run(&[f32s(&[rows, 2], &x)]).unwrap();
            let expected: Vec<f32> = x
                .chunks(2)
                .flat_map(|x| {
                    [0.5, 0.0, -0.5]
                        .iter()
                        .enumerate()
                        .map(|(at, b)| x[0] * (at + 1) as f32 + x[1] * (at + 4) as f32 + b)
                })
                .collect();
            assert_eq!(y, [f32s(&[rows, 3], &expected)], "{}", kind.word());
        }
    }
}

#[test]
fn an_input_fits_or_is_refused_before_the_runtime_sees_it() {
    for kind in kinds() {
        let mut network =
            Network::load(&linear(), &Options { value_bytes_max: 1 << 16, ..options(kind) }).unwrap();
        let mut said = |inputs: &[Tensor]| network.run(inputs).unwrap_err().to_string();
        assert_eq!(said(&[]), "0 inputs for a network of 1");
        let unfit = "the input `x` is float32[1, 3], and the network takes x float32[rows×2]";
        assert_eq!(said(&[f32s(&[1, 3], &[0.0; 3])]), unfit);
        assert!(said(&[Tensor::new(vec![1, 2], Data::I64(vec![1, 2])).unwrap()]).contains("int64"));
        assert!(said(&[f32s(&[20_000, 2], &[0.0; 40_000])]).contains("more than the 65536"));
        // The same name is the same size.
        let two = [node("Add", &["a", "b"], &["c"], &[])];
        let port = |name| value(name, 1, &[Size::Called("n")]);
        let mut network =
            Network::load(&model(&two, &[port("a"), port("b")], &[port("c")]), &options(kind)).unwrap();
        let error = network.run(&[f32s(&[2], &[0.0; 2]), f32s(&[3], &[0.0; 3])]).unwrap_err();
        assert!(matches!(error, RunError::Unfit { .. }), "{error}");
        assert_eq!(network.run(&[f32s(&[1], &[1.0]), f32s(&[1], &[2.0])]).unwrap(), [f32s(&[1], &[3.0])]);
    }
}

#[test]
fn what_no_runtime_has_is_refused_by_name() {
    let port = |name| value(name, 1, &[Size::Is(2)]);
    for kind in kinds() {
        let unknown = model(&[node("Quux", &["x"], &["y"], &[])], &[port("x")], &[port("y")]);
        let error = Network::load(&unknown, &options(kind)).unwrap_err().to_string();
        assert!(error.contains("Quux") && error.contains("export"), "{}: {error}", kind.word());
        if kind == Kind::Tract {
            assert!(error.starts_with("tract has no operator Quux: "), "{error}");
        }
        let odd =
            model(&[node("Relu", &["x"], &["y"], &[])], &[value("x", 14, &[Size::Is(2)])], &[port("y")]);
        let error = Network::load(&odd, &options(kind)).unwrap_err().to_string();
        assert!(error.contains("`x` is of kind complex64"), "{error}");
    }
    let missing = [Kind::Tract, Kind::OnnxRuntime].into_iter().find(|kind| !Kind::built().contains(kind));
    if let Some(kind) = missing {
        let error = Network::load(&linear(), &options(kind)).unwrap_err();
        assert!(matches!(error, LoadError::NoRuntime { .. }), "{error}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for kind in kinds() {
        let with = |name: &str, shape: &[usize]| {
            let shapes = [(name.to_owned(), shape.to_vec())].into();
            Network::load(&linear(), &Options { shapes, ..options(kind) })
        };
        assert!(with("x", &[4, 2]).is_ok());
        assert!(with("x", &[4, 3]).unwrap_err().to_string().contains("does not fit `x`"));
        assert!(with("z", &[4, 2]).unwrap_err().to_string().contains("no input"));
        let small = Options { file_bytes_max: 10, ..options(kind) };
        assert!(matches!(Network::load(&linear(), &small), Err(LoadError::TooLarge { .. })));
    }
}

#[test]
fn half_a_file_and_a_changed_one_are_errors_or_networks() {
    let whole = linear();
    for kind in kinds() {
        for end in (0..whole.len()).step_by(3) {
            drop(Network::load(&whole[..end], &options(kind)));
        }
        // Each byte changed, in turn, by a seed that is its place: a network that then runs may compute what it likes.
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            if let Ok(mut network) = Network::load(&changed, &options(kind)) {
                drop(network.run(&[f32s(&[2, 2], &[1.0; 4])]));
            }
        }
    }
}

#[test]
fn constants_outside_of_the_file_and_false_sizes_are_refused() {
    let port = |name| value(name, 1, &[Size::Is(2)]);
    let relu = || node("Add", &["x", "w"], &["y"], &[]);
    let outside = bytes(5, [number(1, 2), number(2, 1), bytes(8, "w"), number(14, 1)].concat());
    for kind in kinds() {
        let error =
            Network::load(&model(&[relu(), outside.clone()], &[port("x")], &[port("y")]), &options(kind));
        assert!(format!("{:?}", error.unwrap_err()).contains("one file"));
        let short = constant("w", &[1 << 40], &[1.0, 2.0]);
        let error = Network::load(&model(&[relu(), short], &[port("x")], &[port("y")]), &options(kind));
        assert!(matches!(error.unwrap_err(), LoadError::NotOnnx(_)));
    }
}

/// `y = x + before`, and `after = y`: a sum that goes on.
fn sum() -> Vec<u8> {
    let parts = [node("Add", &["x", "before"], &["y"], &[]), node("Identity", &["y"], &["after"], &[])];
    let port = |name| value(name, 1, &[Size::Is(1), Size::Is(2)]);
    model(&parts, &[port("x"), port("before")], &[port("y"), port("after")])
}

const SUM: &str = r#"
    [inputs.x]
    from = "numbers"
    [inputs.before]
    from = "state"
    output = "after"
    shape = [1, 2]
    [[answers]]
    as = "numbers"
    output = "y"
    names = ["left", "right"]
"#;

#[test]
fn state_goes_from_step_to_step() {
    let recipe: Recipe = toml::from_str(SUM).unwrap();
    for kind in kinds() {
        let mut stage = Stage::new(Network::load(&sum(), &options(kind)).unwrap(), recipe.clone()).unwrap();
        let mut step = |values: &[f32]| {
            let window = Some(Window { values, channels: 2 });
            stage.step(&Material { window, ..Material::default() }).map(|answer| answer.fields)
        };
        let fields = |left: f64, right: f64| {
            vec![("left".to_owned(), Field::Number(left)), ("right".to_owned(), Field::Number(right))]
        };
        assert_eq!(step(&[1.0, 10.0]).unwrap(), fields(1.0, 10.0));
        assert_eq!(step(&[2.0, 20.0]).unwrap(), fields(3.0, 30.0));
        // What is no number would stay for ever.
        assert!(matches!(step(&[f32::INFINITY, 0.0]), Err(StepError::Lost { .. })));
        assert_eq!(step(&[5.0, 6.0]).unwrap(), fields(5.0, 6.0));
        assert!(matches!(step(&[5.0, 6.0, 7.0, 8.0]), Err(StepError::Fill(_))));
        assert_eq!(step(&[1.0, 1.0]).unwrap(), fields(6.0, 7.0));
        stage.begin().unwrap();
        assert!(matches!(stage.step(&Material::default()), Err(StepError::NoMaterial { .. })));
    }
}

#[test]
fn a_shape_may_be_an_input() {
    let parts = [node("Reshape", &["x", "shape"], &["y"], &[])];
    let inputs = [value("x", 1, &[Size::Called("n")]), value("shape", 7, &[Size::Is(2)])];
    let file = model(&parts, &inputs, &[value("y", 1, &[Size::Called("a"), Size::Called("b")])]);
    for kind in kinds() {
        let mut network = Network::load(&file, &options(kind)).unwrap();
        for shape in [[2, 3], [3, 2], [6, 1], [2, 3]] {
            let inputs = [f32s(&[6], &[1.0; 6]), Tensor::new(vec![2], Data::I64(shape.to_vec())).unwrap()];
            let y = network.run(&inputs).unwrap();
            assert_eq!(y[0].shape(), shape.map(|size| size as usize), "{}", kind.word());
        }
    }
}

#[test]
fn a_value_that_is_too_large_is_refused_before_it_is_made() {
    // 64 numbers times themselves, again and again: a million of them, and then too many.
    let mut parts = vec![whole("axes", &[1], &[0])];
    parts.push(node("Unsqueeze", &["x", "axes"], &["row"], &[]));
    parts.push(node("Transpose", &["row"], &["column"], &[]));
    parts.push(node("MatMul", &["column", "row"], &["y"], &[]));
    let port = |name, sizes: &[Size]| value(name, 1, sizes);
    let file =
        model(&parts, &[port("x", &[Size::Is(4096)])], &[port("y", &[Size::Is(4096), Size::Is(4096)])]);
    for kind in kinds().into_iter().filter(|kind| *kind == Kind::Tract) {
        let small = Options { value_bytes_max: 1 << 20, ..options(kind) };
        let error = Network::load(&file, &small).unwrap_err().to_string();
        assert!(error.contains("67108864 bytes"), "{error}");
        assert!(Network::load(&file, &options(kind)).is_ok());
    }
}
