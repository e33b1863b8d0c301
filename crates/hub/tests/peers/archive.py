"""Reads an archive as others would: pyarrow its files, DuckDB the folders as one table. Recomputes every chain with hashlib alone.

archive.py FOLDER: FOLDER has archive/records and archive/gaps. Writes what it found as JSON; ends with 3 where a program lacks.
"""

import hashlib
import json
import sys
from pathlib import Path

try:
    import duckdb
    import pyarrow.dataset as dataset
    import pyarrow.parquet as parquet
except ImportError as missing:
    print(missing)
    sys.exit(3)

folder = Path(sys.argv[1])
columns = "id node journal stream seq kind boot mono_ns wall_ms clock hash body".split()

# Files one by one: schema, compression, what they are called.
schemas, codecs = set(), set()
for path in sorted((folder / "archive/records").rglob("*.parquet")):
    file = parquet.ParquetFile(path)
    schemas.add(", ".join(f"{field.name} {field.type}{' null' if field.nullable else ''}" for field in file.schema_arrow))
    group = file.metadata.row_group(0)
    codecs |= {group.column(at).compression for at in range(group.num_columns)}
    first, last = (int(part) for part in path.stem.split("-"))
    ids = file.read(columns=["id"]).column("id").to_pylist()
    assert ids == sorted(ids) and (ids[0], ids[-1]) == (first, last), path

# All of it as one table, by the names of folders.
records = dataset.dataset(folder / "archive/records", partitioning="hive")
rows = sorted(records.to_table(columns=columns + ["class", "day"]).to_pylist(), key=lambda row: row["id"])
gaps = {}
for row in dataset.dataset(folder / "archive/gaps", partitioning="hive").to_table().to_pylist():
    gaps[row["node"], row["journal"], row["stream"], row["first"]] = (row["last"], row["hash"])

ends, wrong = {}, []
for row in rows:
    stream = (row["node"], row["journal"], row["stream"])
    seq, before = ends.get(stream, (0, bytes(32)))
    while (gap := gaps.get((*stream, seq + 1))) and seq + 1 < row["seq"]:
        seq, before = gap
    wall_ms = round(row["wall_ms"].timestamp() * 1000)
    header = (
        f"selvedge-record/1\n{before.hex()}\n{row['stream']} {row['seq']} {row['class']} {row['kind']}\n"
        f"{row['boot']} {row['mono_ns']} {wall_ms} {row['clock']}\n"
    )
    if seq + 1 != row["seq"] or hashlib.sha256((header + row["body"]).encode()).digest() != row["hash"]:
        wrong.append(row["id"])
    ends[stream] = (row["seq"], row["hash"])

one = duckdb.connect()
query = f"SELECT class, CAST(day AS VARCHAR), count(*), min(id), max(id) FROM read_parquet('{folder}/archive/records/*/*/*.parquet', hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
summed = f"SELECT count(*), count(DISTINCT node), sum(seq), sum(length(body)) FROM read_parquet('{folder}/archive/records/*/*/*.parquet')"
print(json.dumps({
    "rows": len(rows),
    "bodies": hashlib.sha256("".join(row["body"] for row in rows).encode()).hexdigest(),
    "wrong": wrong,
    "ends": {"/".join(stream): [seq, head.hex()] for stream, (seq, head) in ends.items()},
    "gaps": len(gaps),
    "schemas": sorted(schemas),
    "codecs": sorted(codecs),
    "days": [list(row) for row in one.sql(query).fetchall()],
    "summed": [int(value) for value in one.sql(summed).fetchall()[0]],
}))
