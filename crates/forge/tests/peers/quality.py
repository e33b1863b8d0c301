"""What llama.cpp says of stories260K on a piece of Shakespeare: perplexity, and the squares of what enters each matrix.

    quality.py SHARED_DATA ../goldens/quality.json

Perplexity as `llama-perplexity` counts (tools/perplexity/perplexity.cpp): the text begins with the model's beginning, each
window's first token is replaced by it, and of the logits from the middle on all but the last count. Importance as
`llama-imatrix` sums (tools/imatrix/imatrix.cpp): of every matrix `blk.*` that meets activations of F32, seen through the
library's own callback on evaluation.
"""

import ctypes
import json
import sys
from ctypes import POINTER, c_bool, c_char, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "../../../lm/tests/peers"))
from engines import LlamaCpp  # noqa: E402

BYTES, WINDOW, VOCABULARY = 6000, 128, 512
MUL_MAT = b"MUL_MAT"


class Tensor(ctypes.Structure):
    """`ggml_tensor` of ggml.h."""


Tensor._fields_ = [("type", c_int32), ("buffer", c_void_p), ("ne", c_int64 * 4), ("nb", c_size_t * 4), ("op", c_int32),
                   ("op_params", c_int32 * 16), ("flags", c_int32), ("src", POINTER(Tensor) * 10),
                   ("view_src", c_void_p), ("view_offs", c_size_t), ("data", c_void_p), ("name", c_char * 64)]


class Watcher(LlamaCpp):
    """The library, with an eye on what enters each matrix."""

    def __init__(self):
        super().__init__()
        self.sums, self.counts, self.watching = {}, {}, False
        self.lib.ggml_op_name.restype = ctypes.c_char_p
        self.see = ctypes.CFUNCTYPE(c_bool, POINTER(Tensor), c_bool, c_void_p)(self.evaluated)
        defaults = self.lib.llama_context_default_params
        def watched():
            params = defaults()
            if self.watching:
                params.cb_eval = ctypes.cast(self.see, c_void_p)
            return params
        self.lib.llama_context_default_params = watched

    def evaluated(self, tensor, ask, _):
        tensor = tensor.contents
        if self.lib.ggml_op_name(tensor.op) != MUL_MAT:
            return False
        name, entering = tensor.src[0].contents.name.decode(), tensor.src[1].contents
        if not name.startswith("blk.") or entering.type != 0:
            return False
        if not ask:
            cols, rows = entering.ne[0], entering.ne[1]
            assert entering.nb[1] == 4 * cols and entering.ne[2] == entering.ne[3] == 1
            x = np.ctypeslib.as_array(ctypes.cast(entering.data, POINTER(c_float)), (rows, cols)).astype(np.float64)
            self.sums[name] = self.sums.get(name, 0.0) + (x * x).sum(axis=0)
            self.counts[name] = self.counts.get(name, 0) + rows
        return True


def tokens_of(engine, path, text):
    params = engine.lib.llama_model_default_params()
    model = engine.lib.llama_model_load_from_file(str(path).encode(), params)
    engine.lib.llama_model_get_vocab.restype = c_void_p
    engine.lib.llama_model_get_vocab.argtypes = [c_void_p]
    engine.lib.llama_tokenize.argtypes = [c_void_p, ctypes.c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]
    out = (c_int32 * (len(text) + 8))()
    count = engine.lib.llama_tokenize(engine.lib.llama_model_get_vocab(model), text, len(text), out, len(out), True, False)
    engine.lib.llama_model_free(model)
    return list(out[:count])


def windows(tokens):
    for start in range(0, len(tokens) - WINDOW + 1, WINDOW):
        yield [tokens[0]] + tokens[start + 1:start + WINDOW]


def main():
    shared, to = Path(sys.argv[1]), Path(sys.argv[2])
    text = (shared / "text/tinyshakespeare.txt").read_bytes()[:BYTES]
    engine, found = Watcher(), {"bytes": BYTES, "window": WINDOW, "perplexity": {}}
    for form in ("f32", "f16", "q8_0", "q4_0"):
        path, nlls = shared / f"slm/stories260K-{form}.gguf", []
        tokens = tokens_of(engine, path, text)
        engine.watching = form == "f32"
        for window in windows(tokens):
            logits = engine.run(path, window, VOCABULARY).astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            nlls += [-probabilities[at, window[at + 1]] for at in range(WINDOW // 2, WINDOW - 1)]
        nlls = np.array(nlls)
        mean = nlls.mean()
        error = np.exp(mean) * np.sqrt(((nlls * nlls).mean() - mean * mean) / (len(nlls) - 1))
        found["perplexity"][form] = {"perplexity": np.exp(mean), "error": error, "tokens": len(nlls)}
    found["tokens"] = len(tokens)
    found["importance"] = {name: {"count": engine.counts[name], "sums": [float(f"{x:.7g}") for x in sums]}
                           for name, sums in sorted(engine.sums.items())}
    lines = [f'"{key}": {json.dumps(value)}' for key, value in found.items() if key != "importance"]
    entries = ",\n".join(f'"{name}": {json.dumps(entry)}' for name, entry in found["importance"].items())
    to.write_text("{\n" + ",\n".join(lines) + ',\n"importance": {\n' + entries + "\n}\n}\n")


main()
