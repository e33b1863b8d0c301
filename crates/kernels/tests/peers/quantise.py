"""Encodes and decodes with ggml's own code, so that ours can be compared with it byte by byte.

    quantise.py encode VALUES IMPORTANCE COLUMNS FOLDER    f32 rows and one f32 row -> FOLDER/Q4_K.plain, Q4_K.weighted, ...
    quantise.py decode FOLDER                              FOLDER/Q4_K.bytes, ... -> FOLDER/Q4_K.f32, ...

Exits with 3, saying why, where the packages are missing.
"""

import ctypes
import pathlib
import sys

try:
    import numpy
    import xllamacpp
except ImportError as missing:
    print(missing)
    sys.exit(3)

# Name: (ggml's number, numbers in a block, bytes of a block, suffix of its dequantize_row function).
FORMATS = {
    "F16": (1, 1, 2, None),
    "BF16": (30, 1, 2, None),
    "Q4_0": (2, 32, 18, "q4_0"),
    "Q4_1": (3, 32, 20, "q4_1"),
    "Q5_0": (6, 32, 22, "q5_0"),
    "Q5_1": (7, 32, 24, "q5_1"),
    "Q8_0": (8, 32, 34, "q8_0"),
    "Q2_K": (10, 256, 84, "q2_K"),
    "Q3_K": (11, 256, 110, "q3_K"),
    "Q4_K": (12, 256, 144, "q4_K"),
    "Q5_K": (13, 256, 176, "q5_K"),
    "Q6_K": (14, 256, 210, "q6_K"),
    "Q8_K": (15, 256, 292, "q8_K"),
    "IQ4_NL": (20, 32, 18, "iq4_nl"),
    "IQ4_XS": (23, 256, 136, "iq4_xs"),
}

ggml = ctypes.CDLL(next(pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")))
FLOATS, BYTES, COUNT = ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_int64
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, FLOATS, BYTES, COUNT, COUNT, COUNT, FLOATS]
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t


def floats(array):
    return array.ctypes.data_as(FLOATS)


def encode(values, importance, columns, folder):
    values = numpy.fromfile(values, numpy.float32)
    importance = numpy.fromfile(importance, numpy.float32)
    rows = len(values) // columns
    for name, (number, length, size, _) in FORMATS.items():
        if columns % length:
            continue
        for kind, weights in (("plain", None), ("weighted", floats(importance))):
            out = numpy.zeros(len(values) // length * size, numpy.uint8)
            if name == "Q8_K":  # Not offered as a whole, for files do not hold it.
                ggml.quantize_row_q8_K_ref(floats(values), BYTES(out.ctypes.data), COUNT(len(values)))
            else:
                ggml.ggml_quantize_chunk(number, floats(values), out.ctypes.data, 0, rows, columns, weights)
            out.tofile(folder / f"{name}.{kind}")


def decode(folder):
    for name, (_, length, size, suffix) in FORMATS.items():
        file = folder / f"{name}.bytes"
        if suffix is None or not file.exists():
            continue
        data = numpy.fromfile(file, numpy.uint8)
        out = numpy.zeros(len(data) // size * length, numpy.float32)
        row = getattr(ggml, f"dequantize_row_{suffix}")
        row(BYTES(data.ctypes.data), floats(out), COUNT(len(out)))
        out.tofile(folder / f"{name}.f32")


if sys.argv[1] == "encode":
    encode(sys.argv[2], sys.argv[3], int(sys.argv[4]), pathlib.Path(sys.argv[5]))
else:
    decode(pathlib.Path(sys.argv[2]))
