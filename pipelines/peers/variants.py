#!/usr/bin/env python3
"""`mamba-seq variants` beside the form that everyone writes first: two windows a variant, one with each allele.

    python pipelines/peers/variants.py yeast.fa.gz WORKDIR --mamba-seq target/release/mamba-seq

1. 10,000 SNVs of contig IV (places and letters by a fixed seed) as a VCF. `variants` on all of them is timed.
2. The first form on 200 of them, evenly taken: for each allele a record of 8,192 bases left of it, the allele, and 1,000 bases
   right, and `mamba-seq score` over allele and right bases (--regions): the same engine, the same options. Half of them run
   before `variants` and half after, and their time is scaled to all. The two answers differ, since 8,192 bases are not all that
   lies left of a place: by how much is printed.
3. 20 of them, most near the contig's start and one near its end, with both alleles run from the contig's first base by
   `mamba-seq score`.

Time is the clock's, and the processor's (user and system, all threads), which a busy machine does not stretch as much. Needs
pyarrow. Prints JSON.
"""

import argparse
import gzip
import json
import pathlib
import random
import resource
import subprocess
import sys
import time

import pyarrow.parquet as pq

LEFT, RIGHT = 8192, 1000


def contig(path, name):
    text, inside = [], False
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
        for line in lines:
            if line.startswith(">"):
                inside = line[1:].split()[0] == name
            elif inside:
                text.append(line.strip().upper())
    return "".join(text)


def snvs(text, count, seed):
    """(0-based place, ALT), sorted."""
    rng = random.Random(seed)
    places = sorted(rng.sample([i for i, base in enumerate(text) if base in "ACGT"], count))
    return [(at, rng.choice([b for b in "ACGT" if b != text[at]])) for at in places]


def run(args, *words):
    """Seconds of the clock and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [args.mamba_seq, *words, "--device", "cpu", "--threads", str(args.threads), "-q"]
    subprocess.run(command, cwd=args.work, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def score(args, records, name):
    """Negative log-likelihood of bases from..to of (id, text, from, to), and the time it took."""
    with open(args.work / f"{name}.fa", "w") as fasta, open(args.work / f"{name}.bed", "w") as bed:
        for record, text, start, end in records:
            fasta.write(f">{record}\n{text}\n")
            bed.write(f"{record}\t{start}\t{end}\t{record}\n")
    took = run(args, "score", f"{name}.fa", "--regions", f"{name}.bed", "--window", "record", "-o", f"{name}.parquet")
    rows = pq.read_table(args.work / f"{name}.parquet", columns=["record", "nll"]).to_pylist()
    return {row["record"]: row["nll"] for row in rows}, took


def naive(args, text, some, name):
    records = []
    for i, (at, alt) in some:
        start, end = max(0, at - LEFT), min(len(text), at + 1 + RIGHT)
        for allele, base in (("ref", text[at]), ("alt", alt)):
            records.append((f"{i}.{allele}", text[start:at] + base + text[at + 1 : end], at - start, end - start))
    nll, took = score(args, records, name)
    return {i: nll[f"{i}.ref"] - nll[f"{i}.alt"] for i, _ in some}, took


def differences(ours, others):
    off = [abs(ours[i] - llr) for i, llr in others.items()]
    size = [abs(llr) for llr in others.values()]
    return {"mean": sum(off) / len(off), "max": max(off), "mean |llr|": sum(size) / len(size), "variants": len(off)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--mamba-seq", default="mamba-seq")
    parser.add_argument("--contig", default="IV")
    parser.add_argument("--snvs", type=int, default=10_000)
    parser.add_argument("--naive", type=int, default=200)
    parser.add_argument("--exact", type=int, default=20)
    parser.add_argument("--near", type=int, default=300_000, help="most of the exact ones lie in the first bases")
    parser.add_argument("--seed", type=int, default=20_261_126)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.mamba_seq = str(pathlib.Path(args.mamba_seq).resolve()) if "/" in args.mamba_seq else args.mamba_seq
    args.work.mkdir(parents=True, exist_ok=True)
    text = contig(args.genome, args.contig)
    variants = snvs(text, args.snvs, args.seed)
    (args.work / "reference.fa").write_text(f">{args.contig}\n{text}\n")
    with open(args.work / "snvs.vcf", "w") as vcf:
        vcf.write("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for at, alt in variants:
            vcf.write(f"{args.contig}\t{at + 1}\t.\t{text[at]}\t{alt}\t.\t.\t.\n")
    numbered = list(enumerate(variants))
    some = numbered[:: max(1, len(numbered) // args.naive)][: args.naive] if args.naive else []
    report = {"bases": len(text), "snvs": len(variants), "threads": args.threads}
    other, times = {}, []
    if some:
        llr, took = naive(args, text, some[::2], "naive.1")
        other |= llr
        times.append(took)
    took = run(args, "variants", "snvs.vcf", "--reference", "reference.fa", "--window", str(RIGHT), "-o", "ours.parquet")
    report["variants"] = {"clock_s": took[0], "cpu_s": took[1]}
    print(json.dumps(report), file=sys.stderr, flush=True)
    rows = pq.read_table(args.work / "ours.parquet", columns=["record_index", "llr"]).to_pylist()
    ours = {row["record_index"]: row["llr"] for row in rows}
    assert len(ours) == len(variants)
    if some:
        llr, took = naive(args, text, some[1::2], "naive.2")
        other |= llr
        times.append(took)
        scale = len(variants) / len(some)
        clock, cpu = (scale * sum(t[i] for t in times) for i in (0, 1))
        report["two windows"] = {"timed": len(some), "parts": times, "clock_s of all": clock, "cpu_s of all": cpu}
        report["times faster"] = {"clock": clock / report["variants"]["clock_s"], "cpu": cpu / report["variants"]["cpu_s"]}
        report["difference to 8,192 bases"] = differences(ours, other)
        print(json.dumps(report), file=sys.stderr, flush=True)
    if args.exact:
        near = [v for v in numbered if v[1][0] < args.near]
        step = max(1, len(near) // max(1, args.exact - 1))
        chosen = near[::step][: args.exact - 1] + [numbered[-10]]
        records = []
        for i, (at, alt) in chosen:
            end = min(len(text), at + 1 + RIGHT)
            for allele, base in (("ref", text[at]), ("alt", alt)):
                records.append((f"{i}.{allele}", text[:at] + base + text[at + 1 : end], at, end))
        nll, took = score(args, records, "exact")
        whole = {i: nll[f"{i}.ref"] - nll[f"{i}.alt"] for i, _ in chosen}
        report["difference to both run from the start"] = differences(ours, whole) | {"clock_s": took[0]}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
