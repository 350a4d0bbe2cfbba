#!/usr/bin/env python3
"""Random FASTA in 24 records of the proportions of human chromosomes, written by all cores: for measurements of whole runs.

    python genome.py OUT.fa --bases 3_100_000_000

Lines of 80 bases, no index. Needs numpy. Same arguments and numpy version, same bytes.
"""

import argparse
import concurrent.futures
import os

import numpy as np

# Millions of bases of chromosomes 1 to 22, X and Y in GRCh38.
SIZES = [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156, 57]
LINE = 80
BLOCK = 100_000 * LINE


def write(path, at, name, bases, seed):
    rng = np.random.Generator(np.random.SFC64(seed))
    letters = np.frombuffer(b"ACGT", np.uint8)
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(b">" + name + b"\n")
        for first in range(0, bases, BLOCK):
            n = min(BLOCK, bases - first)
            block = np.full((-(-n // LINE), LINE + 1), ord("\n"), np.uint8)
            text = letters[rng.integers(0, 4, block.shape[0] * LINE, np.uint8)]
            block[:, :LINE] = text.reshape(-1, LINE)
            text = block.tobytes()
            short = -n % LINE
            f.write(text[: len(text) - short - 1] + b"\n" if short else text)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out")
    ap.add_argument("--bases", type=int, default=3_100_000_000)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    names = [b"chr%d" % (i + 1) for i in range(22)] + [b"chrX", b"chrY"]
    bases = [a.bases * size // sum(SIZES) for size in SIZES]
    at, jobs = 0, []
    for i, (name, n) in enumerate(zip(names, bases)):
        jobs.append((a.out, at, name, n, a.seed * 1000 + i))
        at += len(name) + 2 + n + -(-n // LINE)
    with open(a.out, "wb") as f:
        f.truncate(at)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, *zip(*jobs)))
    assert os.path.getsize(a.out) == at
    print(f"{a.out}: {sum(bases):,} bases in {len(bases)} records, {at:,} bytes")


if __name__ == "__main__":
    main()
