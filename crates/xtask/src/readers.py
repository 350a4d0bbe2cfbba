"""Opens one Parquet file with pyarrow, DuckDB and Polars: they must agree on rows, columns, and the first and last row.
A bigWig file is opened with pyBigWig: its intervals must be finite, in order and within their contigs.

    cargo xtask readers FILE.parquet
    cargo xtask readers FILE.bw

Any file of the program will do, of any size: nothing but the two rows is read. Every value of a small file, all types and
the Arrow stream are compared by crates/mseq-sink/tests/readers.py.
"""

import math
import sys

import duckdb
import polars as pl
import pyBigWig
import pyarrow as pa
import pyarrow.parquet as pq


def plain(value):
    """Lists of floats, whatever type a reader wraps them in; all of f16 and f32 fit a Python float exactly."""
    if isinstance(value, (list, tuple, pl.Series)) or type(value).__module__ == "numpy" and getattr(value, "ndim", 0):
        return [float(x) for x in value]
    return value


def with_pyarrow(path):
    file = pq.ParquetFile(path)
    print(file.schema_arrow.to_string(show_field_metadata=False, show_schema_metadata=False))
    keys = sorted(key.decode() for key in file.schema_arrow.metadata or {})
    print("metadata:", ", ".join(keys) or "none")
    groups = [g for g in range(file.num_row_groups) if file.metadata.row_group(g).num_rows]
    ends = []
    if groups:
        first, last = file.read_row_group(groups[0]), file.read_row_group(groups[-1])
        ends = [first.slice(0, 1).to_pylist()[0], last.slice(last.num_rows - 1).to_pylist()[0]]
    return file.metadata.num_rows, file.schema_arrow.names, ends


def with_duckdb(path):
    db = duckdb.connect()

    def ask(sql, *parameters):
        return db.execute(sql, [path, *parameters])

    rows = ask("select count(*) from read_parquet(?)").fetchall()[0][0]
    names = [row[0] for row in ask("describe select * from read_parquet(?)").fetchall()]
    ends = [
        dict(zip(names, row))
        for at in ([0, rows - 1] if rows else [])
        for row in ask("select * from read_parquet(?) limit 1 offset ?", at).fetchall()
    ]
    return rows, names, ends


def with_polars(path):
    frame = pl.scan_parquet(path, glob=False)
    rows = frame.select(pl.len()).collect().item()
    ends = [frame.slice(at, 1).collect().to_dicts()[0] for at in ([0, rows - 1] if rows else [])]
    return rows, frame.collect_schema().names(), ends


def track(path):
    print(f"pyBigWig {pyBigWig.__version__}")
    with pyBigWig.open(path) as file:
        count = 0
        for contig, length in file.chroms().items():
            intervals = file.intervals(contig) or ()
            count += len(intervals)
            before = 0
            for start, end, value in intervals:
                if not (before <= start < end <= length and math.isfinite(value)):
                    sys.exit(f"error: {path}: {contig}:{start}-{end} of {length} holds {value}")
                before = end
            mean = file.stats(contig, exact=True)[0]
            print(f"{contig}: {length} bases, {len(intervals)} intervals, mean {mean}")
    if not count:
        sys.exit(f"error: {path}: no interval")


def main(path):
    with open(path, "rb") as file:
        magic = file.read(4)
    # Whichever way round its bytes are.
    if magic in (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26"):
        return track(path)
    print(f"pyarrow {pa.__version__}, duckdb {duckdb.__version__}, polars {pl.__version__}")
    wanted = None
    for name, reader in [("pyarrow", with_pyarrow), ("duckdb", with_duckdb), ("polars", with_polars)]:
        rows, columns, ends = reader(path)
        got = rows, columns, [{key: plain(value) for key, value in row.items()} for row in ends]
        wanted = wanted or got
        if not all(math.isfinite(x) for row in got[2] for v in row.values() if isinstance(v, list) for x in v):
            sys.exit(f"error: {path}: the first or last row holds a number that is not finite ({name})")
        for what, ours, theirs in zip(["row count", "columns", "first and last row"], wanted, got):
            if ours != theirs:
                sys.exit(f"error: {path}: {what} differ\n  pyarrow: {ours}\n  {name}: {theirs}")
    rows, columns, ends = wanted
    for which, row in zip(["first", "last"], ends):
        line = {k: v if not isinstance(v, list) else f"{len(v)} values, {v[:3]}..." for k, v in row.items()}
        print(f"{which}:", ", ".join(f"{key}={value}" for key, value in line.items()))
    print(f"three readers agree: {rows} rows, {len(columns)} columns")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
