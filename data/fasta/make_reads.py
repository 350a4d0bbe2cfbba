"""Simulated reads of phage lambda, with substitutions, N and qualities: `python make_reads.py > lambda_reads.fq`."""

import random

random.seed(1)
genome = "".join(line.strip() for line in open("lambda.fa") if not line.startswith(">"))
for i in range(100):
    length = random.randint(40, 300)
    start = random.randrange(len(genome) - length)
    read, quality = [], []
    for base in genome[start : start + length]:
        q = random.choice((2, 12, 25, 37, 37, 37, 40))
        if q == 2:
            base = "N"
        elif random.random() < 10 ** (-q / 10):
            base = random.choice("ACGT")
        read.append(base)
        quality.append(chr(33 + q))
    print(f"@sim{i} NC_001416.1:{start + 1}-{start + length}", "".join(read), "+", "".join(quality), sep="\n")
