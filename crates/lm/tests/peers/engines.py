"""The two engines that the goldens come from, asked for every position's logits or for an embedding.

`transformers` runs the model's reference code (float32, eager attention). `llama.cpp` is the library inside the wheel
`xllamacpp`, spoken to through ctypes; its structures are those of llama.h at the wheel's version, which is checked.
"""

import ctypes
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)

import numpy as np

WHEEL = "2026.10.11549"


class ModelParams(Structure):
    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("rest", c_char * 64),
    ]


class ContextParams(Structure):
    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("rest", c_char * 128),  # left as the library fills it
    ]


class Batch(Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


class OverrideValue(ctypes.Union):
    _fields_ = [("val_i64", c_int64), ("val_f64", c_double), ("val_bool", c_bool), ("val_str", c_char * 128)]


class Override(Structure):
    _fields_ = [("tag", c_int32), ("key", c_char * 128), ("value", OverrideValue)]


class OtherVersion(Exception):
    """A wheel with other structures than those above."""


class LlamaCpp:
    """The library, loaded once."""

    def __init__(self):
        import xllamacpp
        from importlib.metadata import version

        self.version = version("xllamacpp")
        if self.version != WHEEL:
            raise OtherVersion(
                f"xllamacpp {self.version} instead of {WHEEL}, whose structures engines.py knows"
            )
        self.lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
        lib = self.lib
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_context_default_params.restype = ContextParams
        lib.llama_model_load_from_file.restype = c_void_p
        lib.llama_model_load_from_file.argtypes = [c_char_p, ModelParams]
        lib.llama_init_from_model.restype = c_void_p
        lib.llama_init_from_model.argtypes = [c_void_p, ContextParams]
        lib.llama_batch_init.restype = Batch
        lib.llama_batch_init.argtypes = [c_int32, c_int32, c_int32]
        lib.llama_decode.argtypes = [c_void_p, Batch]
        lib.llama_get_logits.restype = POINTER(c_float)
        lib.llama_get_logits.argtypes = [c_void_p]
        lib.llama_get_embeddings_seq.restype = POINTER(c_float)
        lib.llama_get_embeddings_seq.argtypes = [c_void_p, c_int32]
        lib.llama_adapter_lora_init.restype = c_void_p
        lib.llama_adapter_lora_init.argtypes = [c_void_p, c_char_p]
        lib.llama_set_adapters_lora.argtypes = [c_void_p, c_void_p, c_size_t, c_void_p]
        lib.llama_set_embeddings.argtypes = [c_void_p, c_bool]
        for name in ("llama_free", "llama_model_free"):
            getattr(lib, name).argtypes = [c_void_p]
        # llama_log_set keeps the pointer, so the callback must live as long as this object.
        self.silence = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(self.log)
        self.lines = []
        lib.llama_log_set(self.silence, None)
        lib.llama_backend_init()

    def log(self, level, text, _):
        if level >= 3:
            self.lines.append(text.decode("utf-8", "replace"))

    def run(self, path, tokens, width, embed=False, overrides=None, adapter=None):
        """Logits [tokens, width], or the pooled embedding [width], with a cache of f32; `adapter`: a LoRA file."""
        lib, self.lines = self.lib, []
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model_params.use_extra_bufts = False
        if overrides:
            table = (Override * (len(overrides) + 1))()
            for slot, (key, value) in zip(table, overrides.items()):
                slot.tag, slot.key, slot.value.val_i64 = 0, key.encode(), value
            model_params.kv_overrides = ctypes.cast(table, c_void_p)
        model = lib.llama_model_load_from_file(str(path).encode(), model_params)
        if not model:
            raise RuntimeError(f"llama.cpp refuses {path}: {''.join(self.lines)}")
        context_params = lib.llama_context_default_params()
        assert context_params.n_batch == 2048 and context_params.type_k == 1, "llama.h has changed"
        context_params.n_ctx = context_params.n_batch = context_params.n_ubatch = 256
        context_params.n_threads = context_params.n_threads_batch = 1
        context_params.type_k = context_params.type_v = 0
        context_params.flash_attn_type = 0
        context = lib.llama_init_from_model(model, context_params)
        if not context:
            raise RuntimeError(f"llama.cpp makes no context: {''.join(self.lines)}")
        lib.llama_set_embeddings(context, embed)
        if adapter:
            loaded = c_void_p(lib.llama_adapter_lora_init(model, str(adapter).encode()))
            if not loaded or lib.llama_set_adapters_lora(context, byref(loaded), 1, byref(c_float(1.0))) != 0:
                raise RuntimeError(f"llama.cpp refuses the adapter {adapter}: {''.join(self.lines)}")
        batch = lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        status = lib.llama_decode(context, batch)
        if status != 0:
            raise RuntimeError(f"llama.cpp decodes with status {status}: {''.join(self.lines)}")
        if embed:
            out = np.ctypeslib.as_array(lib.llama_get_embeddings_seq(context, 0), (width,)).copy()
        else:
            out = np.ctypeslib.as_array(lib.llama_get_logits(context), (len(tokens), width)).copy()
        lib.llama_free(context)
        lib.llama_model_free(model)
        return out


def build(family):
    """The model of `transformers` with the family's configuration; weights as it made them."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    cls = getattr(transformers, family.model)
    config = cls.config_class(**family.config)
    config._attn_implementation = "eager"
    with torch.no_grad():
        return (
            (cls(config, add_pooling_layer=False) if family.model == "BertModel" else cls(config))
            .float()
            .eval()
        )


def run_transformers(model, family, tokens):
    """Logits [tokens, vocabulary], or the pooled embedding [width], not normalised."""
    import torch

    with torch.no_grad():
        out = model(input_ids=torch.tensor([tokens]))
    if family.model == "BertModel":
        hidden = out.last_hidden_state[0]
        return (hidden.mean(0) if family.metadata["pooling_type"] == 1 else hidden[0]).numpy()
    return out.logits[0].numpy()
