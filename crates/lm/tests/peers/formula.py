"""Numbers of the tiny models: a formula of (model, tensor, index) that Rust computes too (`families/formula.rs`).

Nothing here is a random generator of a library, so the weights stay the same in ten years and in another language.
"""

import numpy as np

MASK = (1 << 64) - 1


def fnv1a(text: str) -> int:
    """FNV-1a, 64 bits, of the text's UTF-8 bytes."""
    state = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def splitmix(seed: int, count: int) -> np.ndarray:
    """The first `count` outputs of splitmix64 started at `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(model: str, tensor: str, count: int) -> np.ndarray:
    """f32 in [-1, 1) on a grid of 1/2048: times the spreads of matrices below it is exact in f16 too."""
    top = (splitmix(fnv1a(f"{model}/{tensor}"), count) >> np.uint64(52)).astype(np.int64) - 2048
    return (top / 2048).astype(np.float32)


def centre_and_spread(tensor: str, arch: str) -> tuple[float, float]:
    """Weights are centre + spread * uniform; chosen so that logits spread over several units and attention is neither flat nor one-hot."""
    if "norm" in tensor and tensor.endswith(".weight"):
        return 1.0, 0.5
    if tensor.endswith(".bias"):
        return 0.0, 0.25
    if tensor == "token_embd.weight":
        return 0.0, 0.5 if arch.startswith("gemma") else 1.0
    if tensor in ("position_embd.weight", "token_types.weight", "output.weight"):
        return 0.0, 0.5
    return 0.0, 0.25


def weights(model: str, arch: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor as a GGUF file holds it: rows first (`shape` is numpy's order), f32."""
    centre, spread = centre_and_spread(tensor, arch)
    count = int(np.prod(shape))
    return (np.float32(centre) + np.float32(spread) * uniform(model, tensor, count)).reshape(shape)


def prompt(model: str, vocabulary: int, first: int, count: int) -> list[int]:
    """`count` token ids in [first, vocabulary)."""
    return [int(first + z % (vocabulary - first)) for z in splitmix(fnv1a(f"{model}/prompt"), count).tolist()]
