"""Genomes to packed arrays: one byte a base (A 0, C 1, G 2, T 3, anything else 4).

    python prepare.py --genomes GENOMES --out DATA

Writes train.npy, dev.npy, the held-out arrays and split.json (sizes, and each species' span of train.npy and dev.npy).
The split:

  train     first half of E. coli, yeast without chrIV, first nine tenths of the human piece, the C. elegans pieces;
            records are joined with 16 unknown tokens, as a gap in an assembly is
  dev       2 % of every training record above 100 kb (from 40 % to 42 % of its trained span), cut out of train: for
            learning rates, stopping and the Markov models' smoothing
  held out  yeast chrIV, second half of E. coli, last tenth of the human piece, phage lambda: only for reporting
"""

import argparse
import gzip
import json
import pathlib

import numpy as np

UNKNOWN = 4
GAP = 16
CODES = np.full(256, UNKNOWN, dtype=np.uint8)
for index, pair in enumerate((b"Aa", b"Cc", b"Gg", b"Tt")):
    CODES[list(pair)] = index


def read_fasta(path):
    """Records of a FASTA file (plain or gzip) as {first word of the header: uint8 array}."""
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
    with opened as handle:
        text = handle.read()
    records = {}
    for part in text.split(b">")[1:]:
        header, _, body = part.partition(b"\n")
        letters = np.frombuffer(body.translate(None, b"\r\n \t"), dtype=np.uint8)
        records[header.split()[0].decode()] = CODES[letters]
    return records


def split(genomes):
    """Returns (training spans, held-out spans), both {name: array}."""
    (ecoli,) = read_fasta(genomes / "ecoli_k12_mg1655.fa.gz").values()
    (human,) = read_fasta(genomes / "human_chr20_1mb.fa.gz").values()
    (phage,) = read_fasta(genomes / "phage_lambda.fa").values()
    yeast = read_fasta(genomes / "yeast_s288c_r64.fa.gz")
    worm = read_fasta(genomes / "celegans_1pct.fa.gz")
    half, tenth = len(ecoli) // 2, len(human) * 9 // 10

    train = {"ecoli": ecoli[:half]}
    train.update({f"yeast_{name}": bases for name, bases in yeast.items() if name != "IV"})
    train["human"] = human[:tenth]
    train.update({f"celegans_{name}": bases for name, bases in worm.items()})
    held_out = {"ecoli": ecoli[half:], "yeast_chrIV": yeast["IV"], "human": human[tenth:], "lambda": phage}
    return train, held_out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genomes", type=pathlib.Path, required=True, help="folder with the FASTA files")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    train, held_out = split(args.genomes)
    gap = np.full(GAP, UNKNOWN, dtype=np.uint8)
    kept, dev, summary = [], [], {"train": {}, "dev": {}, "held_out": {}}
    spans, dev_spans, length, dev_length = {}, {}, 0, 0
    for name, bases in train.items():
        pieces, species = [bases], name.split("_")[0]
        if len(bases) > 100_000:
            start, end = len(bases) * 40 // 100, len(bases) * 42 // 100
            pieces = [bases[:start], bases[end:]]
            dev += [bases[start:end], gap]
            summary["dev"][name] = end - start
            dev_spans.setdefault(species, [dev_length, 0])[1] = dev_length + end - start + GAP
            dev_length += end - start + GAP
        summary["train"][name] = sum(map(len, pieces))
        spans.setdefault(species, [length, 0])
        for piece in pieces:
            kept += [piece, gap]
            length += len(piece) + GAP
        spans[species][1] = length
    np.save(args.out / "train.npy", np.concatenate(kept))
    np.save(args.out / "dev.npy", np.concatenate(dev))
    for name, bases in held_out.items():
        summary["held_out"][name] = len(bases)
        np.save(args.out / f"held_out_{name}.npy", bases)
    totals = {part: sum(sizes.values()) for part, sizes in summary.items()}
    report = {"bases": summary, "totals": totals, "train_spans": spans, "dev_spans": dev_spans}
    (args.out / "split.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
