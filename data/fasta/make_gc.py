#!/usr/bin/env python3
"""lambda_gc.tsv: whether each piece of lambda_pieces.csv is among the half that is richer in G and C.

    python data/fasta/make_gc.py > data/fasta/lambda_gc.tsv
"""

import csv
import pathlib

with open(pathlib.Path(__file__).with_name("lambda_pieces.csv"), newline="") as file:
    pieces = list(csv.DictReader(file))
middle = sorted(float(piece["gc"]) for piece in pieces)[len(pieces) // 2]
print("record\tlabel")
for piece in pieces:
    print(piece["id"], "rich" if float(piece["gc"]) >= middle else "poor", sep="\t")
