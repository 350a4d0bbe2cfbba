#!/usr/bin/env python3
"""What mean embeddings of a model tell of labelled DNA: a head fitted on one split, measured on another.

    python pipelines/peers/labelled.py FOLDER WORKDIR --mamba-seq target/release/mamba-seq [--device cuda] [--only NAME]

FOLDER holds the sets, a folder each, with gzipped tables of a sequence and a label: gue_prom_300_tata and gue_prom_core_all
(train and test of GUE's promoters), gue_splice (dev and test; its train split is too large to be passed around), and
gb_human_nontata_promoters (the test split of Genomic Benchmarks, every fifth row of which is held out). Some sequences are in both
splits as published: 6, 42 and 30 of the first three; they stay. For each set: `embed --window record --keep LABEL`, `head fit`,
`head eval`. Prints JSON. Needs nothing but the program.
"""

import argparse
import csv
import gzip
import json
import pathlib
import subprocess

# Name, the split to fit on, the one to measure on, columns of sequence and label.
SETS = [
    ("gue_prom_300_tata", "train.csv.gz", "test.csv.gz", "sequence", "label"),
    ("gue_prom_core_all", "train.csv.gz", "test.csv.gz", "sequence", "label"),
    ("gue_splice", "dev.csv.gz", "test.csv.gz", "sequence", "label"),
    ("gb_human_nontata_promoters", "test.tsv.gz", None, "seq", "label"),
]


def rows(path, sequence, label):
    with gzip.open(path, "rt", newline="") as file:
        table = csv.DictReader(file, delimiter="\t" if ".tsv" in path.name else ",")
        return [(row[sequence], row[label]) for row in table]


def write(path, part):
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "sequence", "label"])
        out.writerows((i, *row) for i, row in enumerate(part))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--mamba-seq", default="mamba-seq")
    parser.add_argument("--model", default="mamba-dna-1m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="append")
    args = parser.parse_args()
    program = str(pathlib.Path(args.mamba_seq).resolve()) if "/" in args.mamba_seq else args.mamba_seq
    model = str(pathlib.Path(args.model).resolve()) if "/" in args.model else args.model
    report = {}
    for name, fit, test, sequence, label in SETS:
        if args.only and name not in args.only:
            continue
        work = args.work / name
        work.mkdir(parents=True, exist_ok=True)
        parts = {"fit": rows(args.folder / name / fit, sequence, label)}
        if test is None:
            whole = parts["fit"]
            parts = {"fit": [row for i, row in enumerate(whole) if i % 5], "test": whole[::5]}
        else:
            parts["test"] = rows(args.folder / name / test, sequence, label)

        def run(*words):
            subprocess.run([program, *words, "-q"], cwd=work, check=True)

        for part, of in parts.items():
            write(work / f"{part}.csv", of)
            options = ["--window", "record", "--keep", "label", "--dtype", "f32", "--device", args.device, "--model", model]
            run("embed", f"{part}.csv", "--id-column", "id", "-o", f"{part}.parquet", *options)
        run("head", "fit", "fit.parquet", "--label", "label", "-o", "head.safetensors")
        run("head", "eval", "head.safetensors", "test.parquet", "--label", "label", "--json", "eval.json")
        both = len({row[0].upper() for row in parts["fit"]} & {row[0].upper() for row in parts["test"]})
        report[name] = {
            "rows fitted on and measured on": [len(parts["fit"]), len(parts["test"])],
            "sequences in both": both,
            **json.loads((work / "eval.json").read_text()),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
