"""Goldens of the stories260K files: greedy tokens by llama.cpp, log-probabilities and perplexities in float64.

    python3 stories.py SHARED_DATA ../goldens/stories260K.json

The float64 values are `transformers` over the dequantised weights (gguf-py), so they hold no rounding of activations:
an engine that computes in f32 comes within 1e-4, one that rounds activations to int8 as close as int8 allows.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

import engines
import goldens

FORMATS = ["f32", "f16", "q8_0", "q4_0"]
PROMPTS = [[1], [1, 403, 407, 261, 378]]  # nothing, and "Once upon a time"
STEPS = 96


def reference(path):
    """The file as a float64 model of transformers."""
    reader = gguf.GGUFReader(path)

    def says(key):
        return reader.fields[key].contents()

    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=says("llama.embedding_length"),
        intermediate_size=says("llama.feed_forward_length"),
        num_hidden_layers=says("llama.block_count"),
        num_attention_heads=says("llama.attention.head_count"),
        num_key_value_heads=says("llama.attention.head_count_kv"),
        max_position_embeddings=says("llama.context_length"),
        rms_norm_eps=says("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": (
                says("llama.rope.freq_base") if "llama.rope.freq_base" in reader.fields else 10000.0
            ),
        },
        tie_word_embeddings=not any(tensor.name == "output.weight" for tensor in reader.tensors),
    )
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config).double().eval()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    stored = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    state = model.state_dict()
    for name in state:
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        data = stored[names.get_name(name, try_suffixes=(".weight",))].reshape(state[name].shape)
        if name.endswith("q_proj.weight"):
            data = goldens.unpermute(data, config.num_attention_heads)
        if name.endswith("k_proj.weight"):
            data = goldens.unpermute(data, config.num_key_value_heads)
        state[name].copy_(torch.from_numpy(data.astype(np.float64)))
    model.load_state_dict(state)
    if config.tie_word_embeddings:
        model.tie_weights()
    return model


def log_probabilities(model, ids):
    """[positions, vocabulary], float64."""
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1).numpy()


def main():
    data, out = Path(sys.argv[1]) / "slm", Path(sys.argv[2])
    llama_cpp = engines.LlamaCpp()
    stories = json.loads((data / "stories260K.perplexity.json").read_text())["token_ids"]
    golden = {"transformers": transformers.__version__, "llama_cpp": f"xllamacpp {llama_cpp.version}"}
    for name in FORMATS:
        path = data / f"stories260K-{name}.gguf"
        model = reference(path)
        runs = []
        for prompt in PROMPTS:
            ids = list(prompt)
            for _ in range(STEPS):
                ids.append(int(llama_cpp.run(path, ids, 512)[-1].argmax()))
            told = log_probabilities(model, ids)[len(prompt) - 1 : -1]
            ordered = np.sort(told, -1)
            runs.append(
                {
                    "prompt": prompt,
                    "ids": ids[len(prompt) :],
                    "logprobs": [round(float(row[token]), 7) for row, token in zip(told, ids[len(prompt) :])],
                    "best": [int(token) for token in told.argmax(-1)],
                    "least_margin": round(float((ordered[:, -1] - ordered[:, -2]).min()), 5),
                }
            )
        surprise = [log_probabilities(model, ids)[np.arange(len(ids) - 1), ids[1:]] for ids in stories]
        nll = -float(np.concatenate(surprise).mean())
        golden[name] = {"nll": round(nll, 9), "perplexity": round(float(np.exp(nll)), 6), "runs": runs}
        agree = [run["ids"] == run["best"] for run in runs]
        print(
            name,
            golden[name]["perplexity"],
            "float64 chooses the same:",
            agree,
            "least margins:",
            [run["least_margin"] for run in runs],
            flush=True,
        )
    out.write_text(goldens.lines(golden))


if __name__ == "__main__":
    main()
