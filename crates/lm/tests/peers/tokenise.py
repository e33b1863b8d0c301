"""Tokenises texts with another engine, so that a test can compare.

    tokenise.py llama VOCABULARY.gguf [PRE]        llama.cpp inside the package xllamacpp, through its C interface
    tokenise.py llama-tokens VOCABULARY.gguf       the bytes of each token as hexadecimal digits, and which end a turn
    tokenise.py tokenizers VOCABULARY.gguf PRE     Hugging Face's tokenizers, with the expressions of tokenizer.json
    tokenise.py tokenizers tokenizer.json          the same from a file of its own

PRE replaces what the file says in `tokenizer.ggml.pre`. On standard input a JSON object a line: {"text": string,
"special": true if special tokens written in the text are meant}; on standard output a JSON array of ids for each.
Exit status 3: a package is not there.
"""

import json
import os
import sys

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD = r"[^\r\n\p{L}\p{N}]?"


def led(numbers, letters=r"\p{L}", tail=r"[\r\n]*", contraction=CONTRACTION + "|"):
    marks = r"\p{M}" if "M" in letters else ""
    return contraction + LEAD + f"[{letters}]+|{numbers}| ?[^\\s\\p{{L}}{marks}\\p{{N}}]+{tail}|" + SPACE


def cased(numbers, contraction):
    c = contraction and CONTRACTION + "?"
    return f"{LEAD}{UPPER}*{LOWER}+{c}|{LEAD}{UPPER}+{LOWER}*{c}|{numbers}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n/]*|" + SPACE


MARKED = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + SPACE
)
KANA = r"[一-龥\x{3040}-\x{30ff}]+"
PORO = r" ?[^(\s|.,!?…。，、।۔،)]+"
EXPRESSIONS = {
    "gpt-2": [GPT_2],
    "llama-bpe": [led(r"\p{N}{1,3}")],
    "smaug-bpe": [led(r"\p{N}{1,3}")],
    "glm4": [led(r"\p{N}{1,3}")],
    "qwen2": [led(r"\p{N}")],
    "qwen35": [led(r"\p{N}", r"\p{L}\p{M}")],
    "ufakzeka": [led(r"\p{N}", contraction="")],
    "laguna": [r"[^\n]+|[\n]+", led(r"\p{N}")],
    "bailingmoe": [led(r"\p{N}")],
    "seed-coder": [led(r"\p{N}", tail="")],
    "minicpm5": [r"\p{N}{1,3}", led(r"\p{N}+")],
    "exaone-moe": [
        CONTRACTION + "|" + LEAD + r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "starcoder": [r"\p{N}", GPT_2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, r"[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥\x{800}-一가-\x{d7ff}]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", KANA, MARKED],
    "spark2_5": [
        r"\p{N}{1,3}",
        KANA,
        MARKED.replace(r"[\p{P}\p{S}]+[\r\n]*", r"[\p{P}\p{S}]+").replace(r"\s*[\r\n]+", r"[\r\n]"),
        r"\p{N}",
    ],
    "gpt-4o": [cased(r"\p{N}{1,3}", True)],
    "granite-embed-multi-97m": [cased(r"\p{N}{1,3}", True)],
    "tekken": [cased(r"\p{N}", "")],
    "youtu": [
        r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\x{303f}\x{fe30}-\x{fe4f}]+|[ㄅ-ㄯ]+|[一-龥\x{3040}-\x{30ff}]+",
        cased(r"\p{N}", True),
    ],
    "poro-chat": [PORO],
    "viking": [PORO, r"\p{N}"],
}
WHOLE = {"llama-bpe", "glm4", "minicpm5", "granite-embed-multi-97m", "tekken", "youtu"}


def llama(path, pre, texts=True):
    import ctypes

    import xllamacpp

    engine = ctypes.CDLL(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so"))
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    engine.llama_log_set(silent, None)

    class Params(ctypes.Structure):
        _fields_ = [
            ("before", ctypes.c_uint8 * 64),
            ("overrides", ctypes.c_void_p),
            ("vocab_only", ctypes.c_bool),
            ("after", ctypes.c_uint8 * 183),
        ]

    class Override(ctypes.Structure):
        _fields_ = [
            ("tag", ctypes.c_int),
            ("key", ctypes.c_char * 128),
            ("padding", ctypes.c_char * 4),
            ("text", ctypes.c_char * 128),
        ]

    engine.llama_model_default_params.restype = Params
    engine.llama_model_load_from_file.restype = ctypes.c_void_p
    engine.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
    engine.llama_model_get_vocab.restype = ctypes.c_void_p
    engine.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    engine.llama_tokenize.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_bool,
        ctypes.c_bool,
    ]
    engine.llama_backend_init()
    params = engine.llama_model_default_params()
    params.vocab_only = True
    overrides = (Override * 2)()
    if pre:
        overrides[0].tag, overrides[0].key, overrides[0].text = 3, b"tokenizer.ggml.pre", pre.encode()
        params.overrides = ctypes.addressof(overrides)
    model = engine.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    vocabulary = engine.llama_model_get_vocab(model)

    if not texts:
        engine.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
        engine.llama_vocab_is_eog.argtypes = [ctypes.c_void_p, ctypes.c_int32]
        engine.llama_vocab_is_eog.restype = ctypes.c_bool
        engine.llama_token_to_piece.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_int32,
            ctypes.c_bool,
        ]
        ids = range(engine.llama_vocab_n_tokens(vocabulary))
        piece = ctypes.create_string_buffer(1 << 16)

        def bytes_of(token):
            size = engine.llama_token_to_piece(vocabulary, token, piece, len(piece), 0, True)
            return piece.raw[:size].hex()

        pieces = [bytes_of(token) for token in ids]
        print(json.dumps([pieces, [token for token in ids if engine.llama_vocab_is_eog(vocabulary, token)]]))
        sys.exit(0)

    def tokenise(text, special):
        text = text.encode()
        ids = (ctypes.c_int32 * (2 * len(text) + 16))()
        count = engine.llama_tokenize(vocabulary, text, len(text), ids, len(ids), False, special)
        return list(ids[:count])

    return tokenise


def tokenizers(path, pre):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if path.endswith(".json"):
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    else:
        from gguf import GGUFReader

        fields = GGUFReader(path).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        merges = [(a, b) for a, b in merges if a in vocabulary and b in vocabulary and a + b in vocabulary]
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in WHOLE))
        stages = [pre_tokenizers.Split(Regex(stage), "isolated") for stage in EXPRESSIONS[pre]]
        stages.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    return lambda text, special: tokenizer.encode(text, add_special_tokens=False).ids


def main():
    engine, path, pre = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    try:
        tokenise = {"llama": llama, "llama-tokens": lambda path, pre: llama(path, pre, False), "tokenizers": tokenizers}[engine](path, pre)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        print(json.dumps(tokenise(asked["text"], asked["special"])))


if __name__ == "__main__":
    main()
