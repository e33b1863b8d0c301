"""Compares the metadata and tensors of `families.py` with what llama.cpp's converter makes of the same models.

    python3 converter.py LLAMA_CPP_SOURCE [NAME ...]

The proof that the tiny models are what real conversions look like; run by hand when a family is added, because the
converter is no package. Only its vocabulary step is replaced: the tiny models have no tokenizer of their own. A line of
differences is expected where we say more (a window) or less (a head's width that follows from the rest).
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

if len(sys.argv) < 2:
    sys.exit(__doc__)
source, asked = Path(sys.argv[1]), sys.argv[2:]
sys.path[1:1] = [str(source), str(source / "gguf-py")]

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402

import engines  # noqa: E402
import goldens  # noqa: E402
from families import FAMILIES  # noqa: E402

# What the converter says of every model, and what only the vocabulary step knows.
APART = ("GGUF.", "general.", "tokenizer.")


def pooling(folder, kind):
    """The files of sentence-transformers that say how an encoder pools."""
    (folder / "modules.json").write_text(
        json.dumps(
            [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
        )
    )
    (folder / "1_Pooling").mkdir()
    settings = {
        "pooling_mode_cls_token": kind == 2,
        "pooling_mode_mean_tokens": kind == 1,
        "pooling_mode_max_tokens": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def convert(family, folder):
    """The converter's file for the model in `folder`."""
    out = folder / "converted.gguf"
    with torch.inference_mode():
        settings = ModelBase.load_hparams(folder, False)
        cls = get_model_class(get_model_architecture(settings, ModelType.TEXT))

        def set_vocab(self):
            for key, value in goldens.tokenizer(family).items():
                writer = self.gguf_writer
                add = (
                    writer.add_array
                    if isinstance(value, list)
                    else writer.add_string if isinstance(value, str) else writer.add_uint32
                )
                add(key, value)

        patched = type(cls.__name__, (cls,), {"set_vocab": set_vocab, "model_arch": cls.model_arch})
        patched(folder, gguf.LlamaFileType.ALL_F32, out, eager=True).write()
    return out


def compare(family, folder):
    """Lines that tell how the two files differ."""
    model = engines.build(family)
    tensors = goldens.fill(model, family)
    model.save_pretrained(folder)
    if family.arch == "bert":
        pooling(folder, family.metadata["pooling_type"])
    if family.arch == "gemma3":
        (folder / "tokenizer.json").write_text(
            json.dumps({"model": {"vocab": {str(i): i for i in range(96)}}, "added_tokens": []})
        )
    reader = gguf.GGUFReader(convert(family, folder))
    theirs = {tensor.name: tensor.data for tensor in reader.tensors}
    for name in sorted(tensors.keys() | theirs.keys()):
        if name not in tensors or name not in theirs:
            yield f"tensor {name}: only {'here' if name in tensors else 'there'}"
        elif tensors[name].shape != theirs[name].shape or not np.array_equal(tensors[name], theirs[name]):
            yield f"tensor {name} differs"
    said = {
        field.name: field.contents() for field in reader.fields.values() if not field.name.startswith(APART)
    }
    says = {key: value for key, value in goldens.metadata(family).items() if not key.startswith(APART)}
    for key in sorted(says.keys() | said.keys()):
        here, there = says.get(key), said.get(key)
        if here != there and not (isinstance(here, float) and np.float32(here) == there):
            yield f"{key}: here {here}, there {there}"


def main():
    logging.disable(logging.WARNING)
    for family in FAMILIES:
        # An adapter is merged into the model that `transformers` runs.
        if family.adapted or asked and family.name not in asked:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = list(compare(family, Path(folder)))
        print(
            family.name, "as converted" if not found else "", *[f"\n    {line}" for line in found], flush=True
        )


if __name__ == "__main__":
    main()
