"""Builds the tiny models of `families.py`, asks both engines and writes one golden per model.

    python3 goldens.py --out ../goldens [--only NAME] [--gguf DIR]    write goldens (and keep the GGUF files)
    python3 goldens.py --check ../goldens                             compare fresh values with the goldens there

Needs numpy, gguf, torch, transformers and xllamacpp. A golden holds what a GGUF file of the model says, so that the
Rust test builds the same file from it and from the formula of the weights (`formula.py`).
"""

import argparse
import base64
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

PACKAGES = ["numpy", "gguf", "torch", "transformers", "xllamacpp"]
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if missing:
    print(f"missing packages: {' '.join(missing)}")
    sys.exit(3)

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import engines  # noqa: E402
import formula  # noqa: E402
from families import ALPHA, FAMILIES, RANK, VOCABULARY, WIDTH  # noqa: E402

# llama.cpp's logits are kept for every fourth position (3, 7, …), transformers' for all.
EVERY = 4


def permute(weight, heads):
    """Rows of a head from halves to interleaved pairs: how GGUF stores q and k of the architecture `llama`."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def unpermute(weight, heads):
    return (
        weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def adapter(family, tensors):
    """The halves of the family's LoRA adapter, as GGUF names and holds them; empty for most."""
    halves = {}
    for name, data in tensors.items():
        if name.endswith(".weight") and data.ndim == 2 and any(part in name for part in family.adapted):
            rows, cols = data.shape
            for half, shape in (("lora_a", (RANK, cols)), ("lora_b", (rows, RANK))):
                halves[f"{name}.{half}"] = formula.weights(family.name, family.arch, f"{name}.{half}", shape)
    return halves


def fill(model, family):
    """Puts the formula's weights into the model, an adapter merged; gives the tensors as GGUF names and holds them, in order."""
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[family.arch]
    names = gguf.get_tensor_name_map(arch, family.config["num_hidden_layers"])
    tensors = {}
    state = model.state_dict()
    for name in state:
        if family.config.get("tie_word_embeddings") and name == "lm_head.weight":
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise KeyError(f"{family.name}: no GGUF name for {name}")
        data = formula.weights(family.name, family.arch, known, tuple(state[name].shape))
        tensors[known] = data
        for half_a, half_b in zip(*[iter(adapter(family, {known: data}).values())] * 2):
            data = (data + ALPHA / RANK * (half_b.astype(np.float64) @ half_a)).astype(np.float32)
        inner = data
        if family.arch == "llama" and (".attn_q." in known or ".attn_k." in known):
            inner = unpermute(
                data, family.config["num_attention_heads" if ".attn_q." in known else "num_key_value_heads"]
            )
        if family.arch.startswith("gemma") and known.endswith("norm.weight"):
            inner = inner - np.float32(1)
        state[name].copy_(torch.from_numpy(inner.copy()))
    model.load_state_dict(state)
    if family.config.get("tie_word_embeddings"):
        model.tie_weights()
    for name, values in family.literals.items():
        tensors[name] = np.array(values, dtype=np.float32)
    return tensors


def tokenizer(family):
    """A vocabulary of single characters, enough for the engines to load the file."""
    special = {
        "llama": ["<unk>", "<s>", "</s>"],
        "gpt2": ["<|unk|>", "<|begin|>", "<|end|>"],
        "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    }[family.tokenizer]
    letters = [chr(33 + i) for i in range(VOCABULARY - len(special))]
    mark = "\u2581" if family.tokenizer == "bert" else ""
    tokens = special + [mark + letter for letter in letters]
    says = {"tokenizer.ggml.model": family.tokenizer}
    if family.tokenizer == "bert":
        tokens[-1] = "\u2581" + "~"
        says |= {
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.token_type_count": family.config["type_vocab_size"],
        }
    if family.tokenizer == "gpt2":
        says["tokenizer.ggml.pre"] = {
            "llama3-rope": "llama-bpe",
            "qwen2": "qwen2",
            "qwen3": "qwen2",
            "phi4mini": "gpt-4o",
        }.get(family.name, "default")
    says["tokenizer.ggml.tokens"] = tokens
    if family.tokenizer == "llama":
        says["tokenizer.ggml.scores"] = [0.0] * len(special) + [-1.0 * i for i in range(1, len(letters) + 1)]
    says["tokenizer.ggml.token_type"] = [
        2 if family.tokenizer == "llama" and i == 0 else 3 for i in range(len(special))
    ] + [1] * len(letters)
    if family.tokenizer == "gpt2":
        says["tokenizer.ggml.merges"] = ["a b", "c d"]
        tokens[-2:] = ["ab", "cd"]
    if family.tokenizer == "bert":
        return says | {
            "tokenizer.ggml.unknown_token_id": 1,
            "tokenizer.ggml.seperator_token_id": 3,
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.ggml.cls_token_id": 2,
            "tokenizer.ggml.mask_token_id": 4,
        }
    return says | {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


def metadata(family):
    # llama.cpp wants certain tokens of a model whose general.name holds "phi3".
    says = {"general.architecture": family.arch, "general.name": "tiny", "general.file_type": 0}
    for key, value in family.metadata.items():

        says[f"{family.arch}.{key}"] = value
    return says | tokenizer(family)


def adapter_metadata(family):
    return {
        "general.type": "adapter",
        "general.architecture": family.arch,
        "adapter.type": "lora",
        "adapter.lora.alpha": ALPHA,
    }


def write_gguf(path, says, tensors):
    writer = gguf.GGUFWriter(path, says["general.architecture"])
    for key, value in says.items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text(values):
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def numbers(encoded):
    return np.frombuffer(base64.b64decode(encoded), dtype="<f4")


def golden(family, llama_cpp, folder):
    """Everything a golden holds, as a dictionary; the GGUF file is left in `folder`."""
    model = engines.build(family)
    tensors = fill(model, family)
    says = metadata(family)
    path = Path(folder) / f"{family.name}.gguf"
    write_gguf(path, says, tensors)
    halves = adapter(family, tensors)
    correction = None
    if halves:
        correction = path.with_suffix(".lora.gguf")
        write_gguf(correction, adapter_metadata(family), halves)
    embed = family.arch == "bert"
    if embed:
        tokens = [2, *formula.prompt(family.name, VOCABULARY, 5, family.prompt - 2), 3]
    else:
        tokens = [1, *formula.prompt(family.name, VOCABULARY, 3, family.prompt - 1)]
    ours = engines.run_transformers(model, family, tokens)
    overrides = {f"{family.arch}.{key}": value for key, value in family.overrides.items()}
    theirs = llama_cpp.run(path, tokens, WIDTH if embed else VOCABULARY, embed, overrides, correction)
    if not embed:
        theirs = theirs[EVERY - 1 :: EVERY]
    return {
        "name": family.name,
        "about": family.about,
        "metadata": says,
        "tensors": {name: list(data.shape) for name, data in tensors.items() if name not in family.literals},
        "literals": {name: text(np.array(values)) for name, values in family.literals.items()},
        "adapter": (
            {
                "metadata": adapter_metadata(family),
                "tensors": {name: list(data.shape) for name, data in halves.items()},
            }
            if halves
            else None
        ),
        "tokens": tokens,
        "transformers": {
            "version": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "values": text(ours),
        },
        "llama_cpp": {
            "version": f"xllamacpp {llama_cpp.version}",
            "stance": family.llama_cpp,
            "values": text(theirs),
        },
    }


def difference(one, other):
    return float(np.abs(numbers(one["values"]) - numbers(other["values"])).max())


def apart(golden):
    """How far the two engines are from each other."""
    ours, theirs = numbers(golden["transformers"]["values"]), numbers(golden["llama_cpp"]["values"])
    if ours.size != theirs.size:
        ours = ours.reshape(-1, VOCABULARY)[EVERY - 1 :: EVERY].reshape(-1)
    return float(np.abs(ours - theirs).max())


def lines(golden):
    """JSON with a line for each part."""
    return (
        "{\n"
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
        + "\n}\n"
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--check", type=Path)
    arguments.add_argument("--gguf", type=Path)
    arguments.add_argument("--only")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    try:
        llama_cpp = engines.LlamaCpp()
    except engines.OtherVersion as error:
        print(error)
        sys.exit(3)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            if asked.only and family.name != asked.only:
                continue
            fresh = golden(family, llama_cpp, asked.gguf or folder)
            spread = float(numbers(fresh["transformers"]["values"]).std())
            line = (
                f"{family.name:20} transformers and llama.cpp apart {apart(fresh):.1e}, spread {spread:.2f}"
            )
            if asked.out:
                (asked.out / f"{family.name}.json").write_text(lines(fresh))
            if asked.check:
                kept = json.loads((asked.check / f"{family.name}.json").read_text())
                for engine in ("transformers", "llama_cpp"):
                    moved = difference(kept[engine], fresh[engine])
                    line += f", {engine} moved {moved:.1e}"
                    wrong += moved > 1e-4
                wrong += any(
                    kept[part] != fresh[part]
                    for part in ("metadata", "tensors", "literals", "adapter", "tokens")
                )
            print(line, flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
