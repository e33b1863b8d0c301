"""The tiny models of every family: their transformers configuration and what a GGUF file of them says.

Stands before `goldens.py`, which builds the models, asks the engines and writes the goldens. A model here is what
`transformers` needs (class, configuration) beside what a GGUF file needs (architecture, metadata), written by hand from
the conventions that llama.cpp's converter follows; `converter.py` compares with that converter.
"""

from dataclasses import dataclass, field

WIDTH = 64
VOCABULARY = 96

# Of the LoRA adapters: alpha / rank = 2.
RANK = 4
ALPHA = 8.0


@dataclass
class Family:
    """One tiny model."""

    name: str
    arch: str  # general.architecture
    model: str  # class of transformers
    config: dict
    metadata: dict  # after "<arch>.", values typed by their Python type: int = u32, float = f32
    tokenizer: str = "llama"  # tokenizer.ggml.model
    prompt: int = 48  # tokens
    literals: dict = field(default_factory=dict)  # tensors that are settings, not weights
    llama_cpp: str = "agrees"  # or why that engine says something else here
    overrides: dict = field(default_factory=dict)  # metadata for llama.cpp alone, after "<arch>."
    adapted: tuple = ()  # parts of tensor names that a LoRA adapter corrects
    about: str = ""


def decoder(name, arch, model, config=None, metadata=None, **rest):
    """A decoder of two layers, four heads over two key/value heads, unless told otherwise."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    settings.update(config or {})
    says = {
        "context_length": settings["max_position_embeddings"],
        "embedding_length": settings["hidden_size"],
        "feed_forward_length": settings["intermediate_size"],
        "block_count": settings["num_hidden_layers"],
        "attention.head_count": settings["num_attention_heads"],
        "attention.head_count_kv": settings["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": settings["rms_norm_eps"],
        "rope.freq_base": settings["rope_parameters"].get("rope_theta"),
    }
    says.update(metadata or {})
    return Family(
        name, arch, model, settings, {key: value for key, value in says.items() if value is not None}, **rest
    )


def llama(name, config=None, metadata=None, **rest):
    head = (config or {}).get("head_dim", 16)
    return decoder(
        name,
        "llama",
        "LlamaForCausalLM",
        config,
        {"rope.dimension_count": head, "vocab_size": VOCABULARY} | (metadata or {}),
        **rest,
    )


def llama3_factors(base, dim, factor, low, high, original):
    """Divisors of the rotation frequencies, as Llama 3.1's reference code scales them (bands by wavelength)."""
    import numpy as np

    divisors = []
    for frequency in 1.0 / (base ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))):
        wavelength = 2 * np.pi / float(frequency)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(float(factor))
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return divisors


def phi3(name, config=None, metadata=None, **rest):
    config = {"num_key_value_heads": 2, "original_max_position_embeddings": 512, "sliding_window": None} | (
        config or {}
    )
    heads = config.get("num_attention_heads", 4)
    part = config.get("rope_parameters", {}).get("partial_rotary_factor", 1.0)
    says = {
        "rope.dimension_count": int(part * WIDTH) // heads,
        "rope.scaling.original_context_length": config["original_max_position_embeddings"],
        "attention.sliding_window": config["sliding_window"] or 0,
    }
    return decoder(name, "phi3", "Phi3ForCausalLM", config, says | (metadata or {}), **rest)


def longrope(name, part, window, prompt, about, **rest):
    """Phi's two sets of factors; which of them holds depends on the positions in use."""
    import math

    heads, scale, original = 4, 512 / window, window
    pairs = int(part * WIDTH) // heads // 2
    short = [1.0 + 0.125 * i for i in range(pairs)]
    long = [1.5 + 0.75 * i for i in range(pairs)]
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": short,
        "long_factor": long,
        "partial_rotary_factor": part,
        "original_max_position_embeddings": original,
    }
    attention = math.sqrt(1 + math.log(scale) / math.log(original))
    return phi3(
        name,
        {"rope_parameters": rope, "original_max_position_embeddings": original, "num_attention_heads": heads}
        | rest.pop("config", {}),
        {"rope.scaling.attn_factor": attention},
        literals={"rope_factors_long.weight": long, "rope_factors_short.weight": short},
        prompt=prompt,
        about=about,
        **rest,
    )


def bert(name, pooling, config=None, **rest):
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
    } | (config or {})
    says = {
        "context_length": settings["max_position_embeddings"],
        "embedding_length": WIDTH,
        "feed_forward_length": settings["intermediate_size"],
        "block_count": settings["num_hidden_layers"],
        "attention.head_count": settings["num_attention_heads"],
        "attention.layer_norm_epsilon": settings["layer_norm_eps"],
        "attention.causal": False,
        "pooling_type": {"mean": 1, "cls": 2}[pooling],
    }
    return Family(name, "bert", "BertModel", settings, says, tokenizer="bert", prompt=24, **rest)


IGNORED_WINDOW = "does not know the sliding window of this family: every query sees everything"

FAMILIES = [
    llama("llama", about="grouped heads, untied head"),
    llama(
        "llama-wide",
        {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "head_dim": 64},
        {"rope.dimension_count": 64},
        about="rows of 256, so that every block format fits",
    ),
    llama(
        "llama-headdim",
        {"head_dim": 32},
        {"attention.key_length": 32, "attention.value_length": 32},
        about="heads wider than width/heads",
    ),
    llama(
        "llama3-rope",
        {
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        {"attention.key_length": 32, "attention.value_length": 32},
        tokenizer="gpt2",
        literals={"rope_freqs.weight": llama3_factors(10000.0, 32, 8.0, 1.0, 4.0, 32)},
        about="Llama 3.1's bands of frequencies, as a tensor of divisors",
    ),
    llama(
        "llama-linear",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        about="positions divided by 4",
    ),
    llama(
        "llama-yarn",
        {
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 32,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
            },
        },
        {
            "attention.key_length": 32,
            "attention.value_length": 32,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
            "rope.scaling.yarn_beta_fast": 32.0,
            "rope.scaling.yarn_beta_slow": 1.0,
        },
        about="frequencies blended by a ramp, attention scaled",
    ),
    llama(
        "llama-bias", {"attention_bias": True, "mlp_bias": True}, about="biases in attention and feed-forward"
    ),
    decoder(
        "mistral",
        "llama",
        "MistralForCausalLM",
        {"sliding_window": 16},
        {"rope.dimension_count": 16, "vocab_size": VOCABULARY, "attention.sliding_window": 16},
        llama_cpp=IGNORED_WINDOW,
        about="a window of 16 positions",
    ),
    decoder(
        "qwen2",
        "qwen2",
        "Qwen2ForCausalLM",
        {
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        tokenizer="gpt2",
        about="biases on q, k and v, tied head",
    ),
    decoder(
        "qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        {
            "head_dim": 32,
            "attention_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        {"attention.key_length": 32, "attention.value_length": 32},
        tokenizer="gpt2",
        about="norms on queries and keys",
    ),
    decoder(
        "gemma",
        "gemma",
        "GemmaForCausalLM",
        {
            "head_dim": 32,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "hidden_activation": "gelu_pytorch_tanh",
        },
        {"attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": None},
        about="scaled embeddings, GELU gates, one head of keys for all",
    ),
    decoder(
        "gemma2",
        "gemma2",
        "Gemma2ForCausalLM",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 6.0,
            "tie_word_embeddings": True,
            "num_hidden_layers": 4,
            "hidden_activation": "gelu_pytorch_tanh",
        },
        {
            "attention.key_length": 32,
            "attention.value_length": 32,
            "attention.sliding_window": 16,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 6.0,
            "rope.freq_base": None,
        },
        about="soft caps, every other layer a window of 16, norms before and after",
    ),
    decoder(
        "gemma3",
        "gemma3",
        "Gemma3ForCausalLM",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "tie_word_embeddings": True,
            "num_hidden_layers": 7,
            "hidden_activation": "gelu_pytorch_tanh",
            "intermediate_size": 96,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {
            "attention.key_length": 32,
            "attention.value_length": 32,
            "attention.sliding_window": 16,
            "rope.freq_base": 1000000.0,
            "rope.freq_base_swa": 10000.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        about="five local layers to one global, each with its own rotation; norms on queries and keys",
    ),
    Family(
        "phi2",
        "phi2",
        "PhiForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "hidden_act": "gelu_new",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
        {
            "context_length": 512,
            "embedding_length": WIDTH,
            "feed_forward_length": 4 * WIDTH,
            "block_count": 2,
            "attention.head_count": 4,
            "attention.head_count_kv": 4,
            "attention.layer_norm_epsilon": 1e-5,
            "rope.dimension_count": 8,
        },
        tokenizer="gpt2",
        about="attention and feed-forward side by side, half of each head rotated, biases everywhere",
    ),
    phi3("phi3", about="q, k, v in one tensor; gate and up in one tensor"),
    phi3(
        "phi3-window",
        {"sliding_window": 16},
        llama_cpp=IGNORED_WINDOW,
        about="phi3 with a window of 16 positions",
    ),
    longrope("phi3-longrope", 1.0, 32, 48, "beyond the original 32 positions: the long factors"),
    longrope(
        "phi3-longrope-short",
        1.0,
        64,
        48,
        "within the original 64 positions: the short factors",
        overrides={"rope.scaling.original_context_length": 4096},
    ),
    longrope(
        "phi4mini",
        0.75,
        32,
        48,
        "three quarters of each head rotated, tied head, long factors",
        config={"tie_word_embeddings": True},
        tokenizer="gpt2",
    ),
    llama(
        "llama-lora",
        adapted=("attn_q.", "attn_k.", "attn_v.", "attn_output.", "ffn_", "output."),
        about="a LoRA adapter on every linear, the head included",
    ),
    phi3("phi3-lora", adapted=("attn_qkv.", "ffn_up.", "ffn_down."), about="a LoRA adapter on fused tensors"),
    bert("bert", "mean", about="mean of all positions"),
    bert("bert-cls", "cls", {"num_hidden_layers": 3, "layer_norm_eps": 1e-6}, about="the first position"),
]
