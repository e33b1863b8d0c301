#!/usr/bin/env python3
"""Makes a tiny random Hugging Face folder of each family that `forge::import` reads, and what transformers answers.

    tiny_hf.py OUT [NAME ...]

OUT/NAME/ is the folder; OUT/NAME.json holds token ids and the logits (an encoder: the states) that transformers gives
for them in float32, and texts with the ids that the folder's own tokenizer gives. Needs torch, transformers, tokenizers
and sentencepiece; without them it says so and ends with 3. Deterministic.
"""

import copy
import io
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

try:
    import sentencepiece
    import tokenizers
    import torch
    import transformers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError as error:
    print(error)
    sys.exit(3)

TEXT = """The quick brown fox jumps over the lazy dog. A journey of a thousand miles begins with a single step.
Pack my box with five dozen liquor jugs! How vexingly quick daft zebras jump; 1234567890 and 3.14159, or 42%.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Voix ambiguë d'un cœur qui préfère les jattes.
def main(argument):\n    for index in range(10):\n        print(index, argument[index])\n    return None
нещо на Български. 我想在apple工作1314151天～ こんにちは世界。 I've been told he's there, you're sure it'll work?
The model reads sensors at the edge, decides what matters, and writes a record that nobody can change later.
""".splitlines() * 8

LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(regex):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level(folder, pre, special, bos=None, eos=None, nfc=False, template=None, chat=None, tokenizer_class=None):
    """A byte-level BPE tokenizer.json."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([tokenizers.AddedToken("<tool_call>", normalized=False), tokenizers.AddedToken("  two spaces")])
    if template:
        start = tokenizer.token_to_id(template)
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=f"{template} $A", pair=f"{template} $A {template}:1 $B:1", special_tokens=[(template, start)]
                ),
            ]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    if chat:
        fast.chat_template = chat
    fast.save_pretrained(folder)
    if tokenizer_class:
        edit(folder, "tokenizer_config.json", lambda config: config.update(tokenizer_class=tokenizer_class))
    return len(fast)


def sentence_piece(folder, size=420, config=None, added=(), prefix=True):
    """A SentencePiece BPE tokenizer.model with byte fallback, and a tokenizer_config.json. Spaces stay as they are."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=out, vocab_size=size, model_type="bpe", byte_fallback=True,
        character_coverage=0.99, minloglevel=2, num_threads=1, user_defined_symbols=["<start_of_turn>"],
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=prefix,
    )
    with open(os.path.join(folder, "tokenizer.model"), "wb") as file:
        file.write(out.getvalue())
    content = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "add_bos_token": True, "add_eos_token": False,
        "added_tokens_decoder": {
            str(size + index): {"content": text, "special": special} for index, (text, special) in enumerate(added)
        },
        **(config or {}),
    }
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(content, file)
    return size + len(added)


def byte_fallback(folder):
    """A tokenizer.json as Hugging Face makes it of a SentencePiece model: BPE over characters with byte fallback."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    # Bytes are plain entries of the vocabulary there, not added tokens.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 3]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["[INST]", "[/INST]"])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return len(fast)


def word_piece(folder):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    return len(fast)


def edit(folder, name, change):
    path = os.path.join(folder, name)
    with open(path) as file:
        content = json.load(file)
    change(content)
    with open(path, "w") as file:
        json.dump(content, file, indent=2)


def put(folder, name, content):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))


BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=256)
CHAT = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"


def llama(folder):
    vocabulary = sentence_piece(folder, added=[("<|im_start|>", True), ("▁▁pad", False)])
    put(folder, "README.md", "---\nlicense: apache-2.0\nlanguage:\n- en\n- de\ntags:\n- tiny\n---\n# Tiny\n")
    put(folder, "chat_template.jinja", CHAT)
    config = transformers.LlamaConfig(**BASE, vocab_size=vocabulary + 2, num_key_value_heads=2, rms_norm_eps=1e-5)
    return transformers.LlamaForCausalLM(config)


def llama3(folder):
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    vocabulary = byte_level(
        folder, split(LLAMA3), special, "<|begin_of_text|>", "<|eot_id|>", template="<|begin_of_text|>", chat=CHAT
    )
    rope = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)
    config = transformers.LlamaConfig(
        **BASE, vocab_size=vocabulary, num_key_value_heads=1, head_dim=32, rope_parameters=rope, tie_word_embeddings=True
    )
    return transformers.LlamaForCausalLM(config)


def smollm(folder):
    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    vocabulary = byte_level(folder, digits, ["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>")
    config = transformers.LlamaConfig(**BASE, vocab_size=vocabulary, num_key_value_heads=2, tie_word_embeddings=True,
                                      attention_bias=True, mlp_bias=False)
    return transformers.LlamaForCausalLM(config)


def mistral(folder):
    vocabulary = byte_fallback(folder)
    config = transformers.MistralConfig(**BASE, vocab_size=vocabulary, num_key_value_heads=2, sliding_window=None)
    return transformers.MistralForCausalLM(config)


def nemo(folder):
    special = ["<unk>", "<s>", "</s>", "[INST]"]
    vocabulary = byte_level(folder, split(TEKKEN), special, "<s>", "</s>", template="<s>")
    config = transformers.MistralConfig(**BASE, vocab_size=vocabulary, num_key_value_heads=2, head_dim=32, sliding_window=None)
    return transformers.MistralForCausalLM(config)


def qwen2(folder):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = byte_level(folder, split(QWEN2), special, None, "<|im_end|>", nfc=True, chat=CHAT)
    rope = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=64)
    config = transformers.Qwen2Config(**BASE, vocab_size=vocabulary + 5, num_key_value_heads=2, rope_parameters=rope)
    return transformers.Qwen2ForCausalLM(config)


def qwen3(folder):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = byte_level(folder, split(QWEN2), special, None, "<|im_end|>", nfc=True, chat=CHAT)
    config = transformers.Qwen3Config(**BASE, vocab_size=vocabulary, num_key_value_heads=2, head_dim=32)
    return transformers.Qwen3ForCausalLM(config)


GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>"}


def gemma2(folder):
    vocabulary = sentence_piece(folder, added=[("<bos>", True), ("<eos>", True), ("<unused0>", False)], config=GEMMA, prefix=False)
    config = transformers.Gemma2Config(
        **BASE, vocab_size=vocabulary, num_key_value_heads=2, head_dim=32, sliding_window=8, query_pre_attn_scalar=32
    )
    return transformers.Gemma2ForCausalLM(config)


def gemma3(folder):
    vocabulary = sentence_piece(folder, added=[("<bos>", True), ("<eos>", True)], config=GEMMA, prefix=False)
    config = transformers.Gemma3TextConfig(
        **{**BASE, "num_hidden_layers": 7}, vocab_size=vocabulary, num_key_value_heads=1, head_dim=32, sliding_window=8,
        query_pre_attn_scalar=32,
    )
    return transformers.Gemma3ForCausalLM(config)


def phi2(folder):
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = byte_level(folder, gpt2, ["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>")
    base = {**BASE, "intermediate_size": 256}
    config = transformers.PhiConfig(**base, vocab_size=vocabulary, partial_rotary_factor=0.5)
    return transformers.PhiForCausalLM(config)


def phi3(folder):
    vocabulary = sentence_piece(folder, added=[("<|endoftext|>", True), ("<|user|>", True)])
    factors = [1.0 + 0.25 * index for index in range(8)]
    rope = dict(rope_type="longrope", rope_theta=10000.0, short_factor=factors, long_factor=[2 * f for f in factors],
                original_max_position_embeddings=64)
    config = transformers.Phi3Config(
        **BASE, vocab_size=vocabulary, num_key_value_heads=2, rope_parameters=rope, pad_token_id=0, sliding_window=48,
        original_max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    )
    return transformers.Phi3ForCausalLM(config)


def phi4(folder):
    special = ["<|endoftext|>", "<|end|>", "<|user|>"]
    vocabulary = byte_level(
        folder, split(GPT4O), special, "<|endoftext|>", "<|endoftext|>", tokenizer_class="GPT2Tokenizer", chat=CHAT
    )
    factors = [1.0 + 0.25 * index for index in range(6)]
    rope = dict(rope_type="longrope", rope_theta=10000.0, short_factor=factors, long_factor=[2 * f for f in factors],
                original_max_position_embeddings=64, partial_rotary_factor=0.75)
    config = transformers.Phi3Config(
        **BASE, vocab_size=vocabulary, num_key_value_heads=2, rope_parameters=rope, pad_token_id=0, sliding_window=None,
        original_max_position_embeddings=64, partial_rotary_factor=0.75, tie_word_embeddings=True,
    )
    return transformers.Phi3ForCausalLM(config)


def bert(folder):
    vocabulary = word_piece(folder)
    put(folder, "modules.json", [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}])
    put(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    config = transformers.BertConfig(**BASE, vocab_size=vocabulary, hidden_act="gelu")
    return transformers.BertModel(config)


def old_llama3(folder):
    """As config.json was written before transformers 5."""

    def change(config):
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
        del config["head_dim"]

    model = llama3(folder)
    model.config.head_dim = 16
    model = transformers.LlamaForCausalLM(model.config)
    return model, change


def old_phi3(folder):
    def change(config):
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope["rope_theta"]
        config["rope_scaling"] = {"type": "su", "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}

    return phi3(folder), change


def nested_gemma3(folder):
    """The text model inside of one that sees, in the old form."""

    def change(config):
        text = dict(config)
        for key in list(config):
            del config[key]
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope["full_attention"]["rope_theta"]
        text["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        text["sliding_window_pattern"] = text.pop("_sliding_window_pattern")
        for key in ("layer_types", "architectures", "rms_norm_eps"):
            del text[key]
        config.update(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3", text_config=text)

    return gemma3(folder), change


FAMILIES = dict(llama=llama, llama3=llama3, smollm=smollm, mistral=mistral, nemo=nemo, qwen2=qwen2, qwen3=qwen3,
                gemma2=gemma2, gemma3=gemma3, phi2=phi2, phi3=phi3, phi4=phi4, bert=bert,
                old_llama3=old_llama3, old_phi3=old_phi3, nested_gemma3=nested_gemma3)

SAMPLES = [
    "The quick brown fox jumps over the lazy dog!",
    "  leading and   inner spaces, 1234567 and 3.14159\n\n\tindented(line)\n",
    "Zwölf Boxkämpfer, cœur, нещо, 我想在apple工作, こんにちは ~ I've HE'S we'll",
    "unseen: Ωμέγα 🚀 end",
]


def tokenized(folder):
    """What the folder's own tokenizer makes of the samples, without what is added to every text."""
    if os.path.exists(os.path.join(folder, "tokenizer.model")):
        own = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        return [own.encode(text) for text in SAMPLES]
    own = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    return [own.encode(text, add_special_tokens=False).ids for text in SAMPLES]


def make(out, name):
    torch.manual_seed(len(name) + ord(name[-1]))
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    made = FAMILIES[name](folder)
    model, change = made if isinstance(made, tuple) else (made, None)
    model.eval()
    with torch.no_grad():
        for weights in model.parameters():
            # Norms away from 1 and biases away from 0, so that a forgotten one is seen.
            if weights.dim() == 1:
                weights.add_(torch.randn_like(weights) * 0.1)
            else:
                weights.normal_(0, 0.08)
        # Some of them in bfloat16 and in shards: the other form that folders come in. Only weights are rounded, not the
        # tables of angles that the model computes with.
        half = name in ("llama3", "qwen3", "gemma3", "phi4")
        if half:
            for weights in model.parameters():
                weights.copy_(weights.bfloat16())
            copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
        else:
            model.save_pretrained(folder)
        if change:
            edit(folder, "config.json", change)
        if name == "qwen2":
            put(folder, "generation_config.json", {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1})
        vocabulary = model.config.vocab_size
        ids = torch.randint(3, vocabulary - 8, (1, 24))
        answer = model(ids)
        values = answer.last_hidden_state if name == "bert" else answer.logits
    values = values[0].float()
    texts = [{"text": text, "ids": ids} for text, ids in zip(SAMPLES, tokenized(folder))]
    put(out, f"{name}.json", {
        "ids": ids[0].tolist(), "columns": values.shape[1], "values": values.flatten().tolist(), "texts": texts,
    })


def main():
    out, names = sys.argv[1], sys.argv[2:] or list(FAMILIES)
    for name in names:
        make(out, name)


main()
