//! Models larger than 4 GiB, and models in several files.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use kernels::format::Format;
use lm::gguf::Gguf;
use lm::gguf::metadata::Metadata;
use lm::gguf::value::Value;
use lm::gguf::write::Writer;

/// Writes only the front of a file, and `marks` into its data; the rest is a hole.
fn sparse(path: &Path, writer: &Writer, marks: &[(&str, u64, &[u8])]) -> std::io::Result<()> {
    let mut front = Vec::new();
    let data_bytes: u64 = writer.tensors().iter().map(|tensor| tensor.bytes.next_multiple_of(32)).sum();
    writer.write_to(&mut front, &mut |_, _| Err("only the front is wanted".into())).unwrap_err();
    let mut file = File::create(path)?;
    file.write_all(&front)?;
    file.set_len(front.len() as u64 + data_bytes)?;
    for (name, at, bytes) in marks {
        let tensor = writer.tensors().iter().find(|tensor| tensor.name == *name).unwrap();
        file.seek(SeekFrom::Start(front.len() as u64 + tensor.offset + at))?;
        file.write_all(bytes)?;
    }
    Ok(())
}

#[test]
#[cfg(target_pointer_width = "64")]
fn tensors_beyond_4_gib_are_read_right() {
    const GIB: u64 = 1 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    let mut writer = Writer::new(Metadata::new()).unwrap();
    writer.tensor("small", &[4], Format::F32).unwrap();
    writer.tensor("large", &[1 << 15, 1 << 13, 5], Format::F32).unwrap();
    writer.tensor("after", &[32, 2], Format::Q8_0).unwrap();
    let marks: [(&str, u64, &[u8]); 4] = [
        ("small", 0, b"head"),
        ("large", 4 * GIB - 2, b"seam"),
        ("large", 5 * GIB - 4, b"tail"),
        ("after", 64, b"last"),
    ];
    if let Err(error) = sparse(&path, &writer, &marks) {
        println!("skipped: a file of 5 GiB: {error}");
        return;
    }
    let gguf = Gguf::open(&path).unwrap();
    assert!(gguf.file_bytes() > 5 * GIB);
    assert!(gguf.tensor("after").unwrap().offset > u64::from(u32::MAX));
    for (name, at, expected) in marks {
        let bytes = gguf.bytes_of(gguf.tensor(name).unwrap());
        let at = usize::try_from(at).unwrap();
        assert_eq!(&bytes[at..at + 4], expected, "{name}");
    }
}

/// Three parts with a tensor each, as llama.cpp's gguf-split writes them; `change` may spoil one.
fn parts(folder: &Path, change: impl Fn(u16, &mut Metadata)) {
    for number in 0..3_u16 {
        let mut metadata = Metadata::new();
        if number == 0 {
            metadata.set("general.architecture", "llama");
        }
        metadata.set("split.no", number);
        metadata.set("split.count", 3_u16);
        metadata.set("split.tensors.count", 3_i32);
        change(number, &mut metadata);
        let mut writer = Writer::new(metadata).unwrap();
        writer.tensor(&format!("tensor.{number}"), &[8], Format::F32).unwrap();
        let path = folder.join(format!("m-{:05}-of-00003.gguf", number + 1));
        writer.write(&path, &mut |_, sink| Ok(sink.write_all(&[number as u8; 32])?)).unwrap();
    }
}

#[test]
fn a_split_model_is_opened_by_its_first_part() {
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), |_, _| ());
    let first = folder.path().join("m-00001-of-00003.gguf");
    for gguf in [Gguf::open(&first).unwrap(), Gguf::read(&first).unwrap()] {
        assert_eq!((gguf.part_count(), gguf.tensors().len()), (3, 3));
        assert_eq!(gguf.metadata().string("general.architecture"), Ok("llama"));
        for number in 0..3_u8 {
            let tensor = gguf.tensor(&format!("tensor.{number}")).unwrap();
            assert_eq!(gguf.bytes_of(tensor), vec![number; 32]);
            gguf.will_need(tensor);
        }
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let first = path("m-00001-of-00003.gguf");
    let refusal = |path: &Path| {
        let text = Gguf::open(path).map(|gguf| gguf.part_count()).unwrap_err().to_string();
        text.replace(&format!("{}/", folder.path().display()), "")
    };

    parts(folder.path(), |_, _| ());
    assert_eq!(
        refusal(&path("m-00002-of-00003.gguf")),
        "m-00002-of-00003.gguf is part 2 of 3 of a split model: open the first part"
    );
    std::fs::copy(&first, path("other.gguf")).unwrap();
    assert!(
        refusal(&path("other.gguf")).starts_with("other.gguf is the first of 3 parts, but is not called")
    );
    std::fs::copy(path("m-00003-of-00003.gguf"), path("m-00002-of-00003.gguf")).unwrap();
    assert!(refusal(&first).starts_with("m-00002-of-00003.gguf is not part 2 of the model"));
    std::fs::remove_file(path("m-00002-of-00003.gguf")).unwrap();
    assert_eq!(refusal(&first), "cannot open m-00002-of-00003.gguf");

    parts(folder.path(), |_, metadata| metadata.set("split.tensors.count", Value::I32(4)));
    assert_eq!(refusal(&first), "the parts of the model have 3 tensors together, but should have 4");
    parts(folder.path(), |number, metadata| {
        if number == 2 {
            metadata.remove("split.count");
        }
    });
    assert!(refusal(&first).starts_with("m-00003-of-00003.gguf is not part 3 of the model"));

    parts(folder.path(), |_, _| ());
    let mut metadata = Metadata::new();
    metadata.set("split.no", 1_u16);
    metadata.set("split.count", 3_u16);
    let mut writer = Writer::new(metadata).unwrap();
    writer.tensor("tensor.2", &[1], Format::F32).unwrap();
    writer.write(&path("m-00002-of-00003.gguf"), &mut |_, sink| Ok(sink.write_all(&[0; 4])?)).unwrap();
    assert_eq!(refusal(&first), "the tensor \"tensor.2\" is in two parts of the model");
}
