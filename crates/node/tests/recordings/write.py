"""Writes a table of readings as Parquet by pyarrow, in the form that is named, and prints its rows as JSON: `write.py FORM FILE`."""

import datetime
import decimal
import json
import sys

import pyarrow
import pyarrow.parquet

form, file = sys.argv[1:]
BEGIN = 1_769_853_600_000
ROWS = 5_000

times = [BEGIN + 250 * row for row in range(ROWS)]
pressure = [None if row % 7 == 3 else row / 8 for row in range(ROWS)]
count = [row - 2_000 for row in range(ROWS)]
big = [2**63 + row * 4096 for row in range(ROWS)]
small = [None if row % 100 == 0 else row % 11 for row in range(ROWS)]
on = [row % 3 == 0 for row in range(ROWS)]
price = [decimal.Decimal(row) / 100 for row in range(ROWS)]
fault = ["normal" if row % 50 else "leak" for row in range(ROWS)]

UTC = datetime.timezone.utc
column = {
    "ms": lambda: pyarrow.array(times, pyarrow.timestamp("ms", tz="UTC")),
    "us": lambda: pyarrow.array([t * 1_000 for t in times], pyarrow.timestamp("us")),
    "ns": lambda: pyarrow.array([t * 1_000_000 for t in times], pyarrow.timestamp("ns", tz="UTC")),
    "int96": lambda: pyarrow.array([t * 1_000_000 for t in times], pyarrow.timestamp("ns")),
    "int": lambda: pyarrow.array(times, pyarrow.int64()),
    "double": lambda: pyarrow.array([t / 1_000 for t in times], pyarrow.float64()),
    "text": lambda: pyarrow.array([datetime.datetime.fromtimestamp(t / 1_000, UTC).isoformat() for t in times]),
}[form]()

table = pyarrow.table(
    {
        "pressure": pyarrow.array(pressure, pyarrow.float64()),
        "nested": pyarrow.array([[1.0, 2.0]] * ROWS),
        "count": pyarrow.array(count, pyarrow.int32()),
        "when": column,
        "big": pyarrow.array(big, pyarrow.uint64()),
        "small": pyarrow.array(small, pyarrow.uint8()),
        "half": pyarrow.array(pressure, pyarrow.float32()),
        "on": pyarrow.array(on),
        "price": pyarrow.array(price, pyarrow.decimal128(9, 2)),
        "site": pyarrow.array(["north"] * ROWS).dictionary_encode(),
        "fault": pyarrow.array(fault),
    }
)
options = {
    "ms": {"compression": "snappy"},
    "us": {"compression": "zstd", "data_page_version": "2.0"},
    "ns": {"compression": "none", "use_dictionary": False},
    "int96": {"use_deprecated_int96_timestamps": True},
    "int": {"row_group_size": 700, "store_decimal_as_integer": True},
    "double": {"data_page_size": 1_000},
    "text": {"row_group_size": 1},
}[form]
if form == "text":
    table = table.slice(0, 200)
pyarrow.parquet.write_table(table, file, **options)

rows = []
for row in range(table.num_rows):
    cells = [pressure[row], count[row], float(big[row]), small[row], pressure[row], on[row]]
    if form == "int":
        cells.append(float(price[row]))
    rows.append([times[row], fault[row] != "normal", *(None if cell is None else float(cell) for cell in cells)])
print(json.dumps(rows))
