"""What llama.cpp's own quantiser makes of small models: formats of all tensors, and a digest of their bytes.

The models are those of `../goldens/models.json`, with weights from a formula that `../mixes.rs` computes too; only their
rows are few. llama.cpp is the library in the wheel `xllamacpp`, which leaves out one file: `src/llama-quant.cpp`. It is
compiled here from a source of the same version (that of llama_cpp_python 0.3.36 is) and finds the rest in the wheel.

    compress.py LLAMA_CPP_SOURCE --out ../goldens/mixes.txt     writes the goldens
    compress.py LLAMA_CPP_SOURCE --check ../goldens/mixes.txt   compares fresh ones with them
    compress.py LLAMA_CPP_SOURCE --quantise IN OUT TYPE         what llama-quantize does, timed; threads: --threads
"""

import argparse
import ctypes
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from ctypes import c_bool, c_char_p, c_float, c_int32, c_size_t, c_void_p
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent
TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_0": 8, "Q5_1": 9,
         "Q4_K_M": 15, "Q4_K_S": 14, "Q4_0": 2, "Q4_1": 3, "IQ4_NL": 25, "IQ4_XS": 30, "Q3_K_L": 13, "Q3_K_M": 12,
         "Q3_K_S": 11, "Q2_K": 10}


class Params(ctypes.Structure):
    """`llama_model_quantize_params` of llama.h."""
    _fields_ = [("nthread", c_int32), ("ftype", c_int32), ("output_tensor_type", c_int32),
                ("token_embedding_type", c_int32), ("allow_requantize", c_bool), ("quantize_output_tensor", c_bool),
                ("only_copy", c_bool), ("pure", c_bool), ("keep_split", c_bool), ("dry_run", c_bool),
                ("imatrix", c_void_p), ("kv_overrides", c_void_p), ("tt_overrides", c_void_p),
                ("prune_layers", c_void_p), ("max_buf_size", c_size_t)]


class Row(ctypes.Structure):
    """`llama_model_imatrix_data`."""
    _fields_ = [("name", c_char_p), ("data", ctypes.POINTER(c_float)), ("size", c_size_t)]


class Quantiser:
    """llama.cpp's `llama_model_quantize`."""

    def __init__(self, source, folder):
        import xllamacpp
        wheel = xllamacpp.xllamacpp.__file__
        library = Path(folder) / "libquant.so"
        # The wheel was built with the strings of before C++11.
        include = [f"-I{source}/{part}" for part in ("include", "src", "ggml/include", "ggml/src")]
        subprocess.run(["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=0", *include,
                        f"{source}/src/llama-quant.cpp", "-o", str(library)], check=True)
        wheel = ctypes.CDLL(wheel, mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(library))
        self.library.llama_model_quantize_default_params.restype = Params
        self.lines = []
        # llama_log_set keeps the pointer, so the callback must live as long as this object.
        self.listen = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(self.log)
        wheel.llama_log_set(self.listen, None)
        wheel.llama_backend_init()

    def log(self, level, text, _):
        if level >= 4:
            self.lines.append(text.decode("utf-8", "replace"))

    def run(self, path, to, file_type, rows=None, threads=1):
        params = self.library.llama_model_quantize_default_params()
        assert params.quantize_output_tensor and params.max_buf_size == 8 << 30, "llama.h has changed"
        params.ftype, params.nthread = file_type, threads
        if rows:
            table = (Row * (len(rows) + 1))()
            for slot, (name, row) in zip(table, rows.items()):
                slot.name, slot.size = name.encode(), row.size
                slot.data = row.ctypes.data_as(ctypes.POINTER(c_float))
            params.imatrix = ctypes.cast(table, c_void_p)
        status = self.library.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(params))
        if status != 0:
            raise RuntimeError(f"llama.cpp does not make {to}: {''.join(self.lines)}")


def fractions(name, count):
    """`count` numbers from -1 to below 1: SplitMix64 of the name's FNV-1a hash and the index."""
    key = 0xcbf29ce484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001b3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(count, dtype=np.uint64) + np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def tensors(model):
    """Names with dimensions, columns first."""
    cols, down, rows = model["cols"], model["down"], 2
    found = {"token_embd.weight": [cols, rows], "output_norm.weight": [cols]}
    if model["arch"] == "bert":
        found = {"token_embd.weight": [cols, rows], "position_embd.weight": [cols, rows],
                 "token_types.weight": [cols, rows], "token_embd_norm.weight": [cols], "token_embd_norm.bias": [cols]}
    if model["output"]:
        found["output.weight"] = [cols, rows]
    parts = {"attn_output": cols, "ffn_down": down, "ffn_up": cols}
    parts |= {"attn_qkv": cols} if model["parts"] == "fused" else {"attn_q": cols, "attn_k": cols, "attn_v": cols}
    parts |= {"ffn_gate": cols} if model["parts"] in ("split", "biases") else {}
    for layer in range(model["layers"]):
        for part, columns in parts.items():
            found[f"blk.{layer}.{part}.weight"] = [columns, rows]
            if model["parts"] in ("biases", "plain"):
                found[f"blk.{layer}.{part}.bias"] = [rows]
        found[f"blk.{layer}.attn_norm.weight"] = [cols]
    return found


def write(model, path):
    writer = gguf.GGUFWriter(path, model["arch"])
    arch = model["arch"]
    for key, value in {"context_length": 64, "embedding_length": model["cols"], "block_count": model["layers"],
                       "feed_forward_length": model["down"], "attention.head_count": model["heads"][0],
                       "attention.head_count_kv": model["heads"][1], "vocab_size": 2,
                       "rope.dimension_count": model["cols"] // model["heads"][0], "attention.sliding_window": 32}.items():
        writer.add_uint32(f"{arch}.{key}", value)
    for key in ("layer_norm_rms_epsilon", "layer_norm_epsilon"):
        writer.add_float32(f"{arch}.attention.{key}", 1e-5)
    writer.add_bool(f"{arch}.attention.causal", arch != "bert")
    for name, dims in tensors(model).items():
        numbers = fractions(f"{model['name']}/{name}", int(np.prod(dims)))
        writer.add_tensor(name, numbers.reshape(dims[::-1]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def importance(model):
    """Sums of squares over 7 tokens, divided: of every matrix of a block but the last block's way down."""
    rows, last = {}, f"blk.{model['layers'] - 1}.ffn_down.weight"
    for name, dims in tensors(model).items():
        if name.startswith("blk.") and len(dims) == 2 and name != last:
            sums = np.square(fractions(f"{model['name']}/{name}/in", dims[0])) * np.float32(3)
            rows[name] = sums / np.float32(7)
    return rows


def order(name):
    layer = re.match(r"blk\.(\d+)\.", name)
    return (int(layer[1]) if layer else -1, name)


def line(path, parts):
    """What each part of a model became, layer by layer, after the first 16 digits of its bytes' SHA-256."""
    found, digest = {}, hashlib.sha256()
    for tensor in sorted(gguf.GGUFReader(path).tensors, key=lambda tensor: order(tensor.name)):
        digest.update(tensor.data.tobytes())
        if len(parts[tensor.name]) == 2:
            part = tensor.name.removesuffix(".weight").split(".")[-1]
            found.setdefault(part, []).append(tensor.tensor_type.name)
    said = {}
    for part in sorted(found):
        runs = []
        for name in found[part]:
            if runs and runs[-1][0] == name:
                runs[-1][1] += 1
            else:
                runs.append([name, 1])
        text = ",".join(name if count == 1 else f"{count}*{name}" for name, count in runs)
        said.setdefault(text, []).append(part)
    return digest.hexdigest()[:16] + " " + " ".join(f"{'+'.join(parts)}={text}" for text, parts in said.items())


def goldens(quantiser, folder):
    lines = []
    for model in json.loads((HERE / "../goldens/models.json").read_text()):
        source, to = Path(folder) / "in.gguf", Path(folder) / "out.gguf"
        write(model, source)
        rows = importance(model)
        for name, file_type in TYPES.items():
            quantiser.run(source, to, file_type)
            lines.append(f"{model['name']} {name} plain {line(to, tensors(model))}")
            if name not in ("F32", "F16", "BF16"):
                quantiser.run(source, to, file_type, rows)
                lines.append(f"{model['name']} {name} weighed {line(to, tensors(model))}")
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--check", type=Path)
    arguments.add_argument("--quantise", nargs=3, metavar=("IN", "OUT", "TYPE"))
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quantiser = Quantiser(asked.source, folder)
        if asked.quantise:
            source, to, name = asked.quantise
            begun = time.perf_counter()
            quantiser.run(source, to, TYPES[name], threads=asked.threads)
            print(f"{name}: {time.perf_counter() - begun:.3f} s")
            return 0
        fresh = goldens(quantiser, folder)
    if asked.out:
        asked.out.write_text(fresh)
    if asked.check and asked.check.read_text() != fresh:
        print(f"{asked.check} differs from what llama.cpp makes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
