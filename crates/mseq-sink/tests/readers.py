"""Reads what the `throughput` example writes with pyarrow, Polars and DuckDB, and compares the values.

    pip install pyarrow polars duckdb numpy
    cargo build --release -p mseq-sink --example throughput
    python crates/mseq-sink/tests/readers.py target/release/examples/throughput
"""

import os
import subprocess
import sys
import tempfile

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, DIM = 20_000, 128
COLUMNS = ["source", "record", "record_index", "start", "end", "strand", "embedding"]


def matrix(lists):
    return np.stack(list(lists)).astype("f4")


def check(writer, folder, rows, dtype, kind):
    path = os.path.join(folder, f"{dtype}-{kind}-{rows}.parquet")
    subprocess.run([writer, path, str(rows), dtype, kind], check=True, stderr=subprocess.DEVNULL)
    stream = subprocess.run([writer, "-", str(rows), dtype, kind], check=True, capture_output=True).stdout

    item = pa.float32() if dtype == "f32" else pa.float16()
    wanted = pa.list_(item, DIM if kind == "fixed" else -1)
    table = pq.read_table(path)
    arrow = pa.ipc.open_stream(stream).read_all()
    assert table.schema.names == COLUMNS and table.schema.field("embedding").type == wanted, table.schema
    assert table.schema.metadata[b"mamba_seq.model"] == b"random walk", table.schema.metadata
    assert arrow.schema.equals(table.schema, check_metadata=True)
    assert arrow.equals(table)

    polars = pl.read_parquet(path)
    inner = pl.Float32 if dtype == "f32" else pl.Float16
    assert polars.schema["embedding"] == (pl.Array(inner, DIM) if kind == "fixed" else pl.List(inner)), polars.schema
    assert polars.height == rows
    assert pl.read_ipc_stream(stream).equals(polars)

    duck = duckdb.sql(f"select * from '{path}'")
    assert duck.columns == COLUMNS and str(duck.types[-1]) == "FLOAT[]", duck.types
    pairs = duckdb.sql(f"select decode(key), decode(value) from parquet_kv_metadata('{path}')").fetchall()
    assert ("mamba_seq.model", "random walk") in pairs, pairs
    assert duckdb.sql(f"select count(*) from '{path}' where start >= 5000").fetchall() == [(max(0, rows - 5),)]

    if rows:
        values = matrix(table["embedding"].to_numpy())
        assert values.shape == (rows, DIM) and np.isfinite(values).all()
        assert np.array_equal(values, matrix(polars["embedding"].to_numpy()))
        duck_values = duckdb.sql(f"select embedding from '{path}' order by start").fetchnumpy()["embedding"]
        assert np.array_equal(values, matrix(duck_values))
        assert table["end"][rows - 1].as_py() == 1000 * rows
    return os.path.getsize(path)


def main():
    print(f"pyarrow {pa.__version__}, polars {pl.__version__}, duckdb {duckdb.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ["f32", "f16"]:
            for kind in ["fixed", "variable"]:
                for rows in [0, 1, ROWS]:
                    size = check(os.path.abspath(sys.argv[1]), folder, rows, dtype, kind)
                    print(f"ok: {dtype} {kind}, {rows} rows, {size} bytes")


main()
