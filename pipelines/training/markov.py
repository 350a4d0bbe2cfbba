"""The baseline: interpolated Markov models of order 3 to 12, on the same training bases and both strands.

    python markov.py --data DATA --out markov.json

    p_k(c | context) = (count_k(context, c) + m_k p_{k-1}(c | shorter context)) / (count_k(context) + m_k)

from order 0 (plain frequencies) up; m_k is chosen on the dev pieces, order by order. Bits per base over every base of
a sequence but the first, each a known base after a known base; contexts are cut at the start of a sequence and at unknown
bases, as the recursion stops there.

Each model is fitted twice: on all training bases, and on those of one species alone ("own"), which is told what species
it will see and so is the harder baseline for the small genomes.
"""

import argparse
import json
import pathlib

import numpy as np

HIGHEST = 12
UNKNOWN = 4
CHOICES = (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024, 4096)
OWN = {"ecoli": "ecoli", "yeast_chrIV": "yeast", "human": "human"}
HELD_OUT = ("ecoli", "yeast_chrIV", "human", "lambda")


def reverse_complement(bases):
    return np.where(bases == UNKNOWN, UNKNOWN, 3 - bases.astype(np.int16)).astype(np.uint8)[::-1]


def words(bases, length):
    """Index of the word that ends at each base (base 4 digits, last base lowest), and which words are whole and known."""
    code = np.zeros(len(bases), dtype=np.int32)
    run = np.arange(len(bases), dtype=np.int32)
    last_unknown = np.maximum.accumulate(np.where(bases == UNKNOWN, run, -1))
    for back in range(length):
        code[back:] += (bases[:len(bases) - back].astype(np.int32) & 3) << (2 * back)
    return code, run - last_unknown >= length


def count(train):
    """counts[k][word of k + 1 bases], both strands."""
    counts = []
    for order in range(HIGHEST + 1):
        table = np.zeros(4 ** (order + 1), dtype=np.int32)
        for strand in (train, reverse_complement(train)):
            code, whole = words(strand, order + 1)
            table += np.bincount(code[whole], minlength=len(table)).astype(np.int32)
        counts.append(table)
    return counts


def scored(bases):
    """The bases that are scored: known, after a known one."""
    keep = bases != UNKNOWN
    keep[1:] &= bases[:-1] != UNKNOWN
    keep[0] = False
    return keep


def extend(bases, order, table, shorter, strength):
    """Probability of each base at `order` from that at order - 1 (`shorter`)."""
    code, whole = words(bases, order + 1)
    totals = table.reshape(-1, 4).sum(1)
    seen = table[code].astype(np.float64)
    total = totals[code >> 2].astype(np.float64)
    return np.where(whole, (seen + strength * shorter) / (total + strength), shorter)


def bits(probability, keep):
    return float(-np.log2(probability[keep]).mean())


def run(train, dev, sequences):
    counts = count(train)
    frequency = counts[0] / counts[0].sum()
    everything = {"dev": dev, **sequences}
    keep = {name: scored(bases) for name, bases in everything.items()}
    current = {name: frequency[bases & 3] for name, bases in everything.items()}
    rows = []
    for order in range(1, HIGHEST + 1):
        tried = [bits(extend(dev, order, counts[order], current["dev"], m), keep["dev"]) for m in CHOICES]
        strength = CHOICES[int(np.argmin(tried))]
        row = {"order": order, "strength": strength}
        for name, bases in everything.items():
            current[name] = extend(bases, order, counts[order], current[name], strength)
            row[name] = round(bits(current[name], keep[name]), 5)
        rows.append(row)
        if order >= 3:
            print(json.dumps(row), flush=True)
    return [row for row in rows if row["order"] >= 3]


def check():
    """Against a direct count on a toy sequence."""
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 4, 400).astype(np.uint8)
    bases[200] = UNKNOWN
    table = count(bases)[3]
    both = ["".join("ACGTN"[b] for b in s) for s in (bases, reverse_complement(bases))]
    for word in range(256):
        text = "".join("ACGT"[word >> s & 3] for s in (6, 4, 2, 0))
        assert table[word] == sum(s.startswith(text, i) for s in both for i in range(len(s))), text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    check()
    load = lambda name: np.load(args.data / f"{name}.npy")
    train, dev = load("train"), load("dev")
    held_out = {name: load(f"held_out_{name}") for name in HELD_OUT}
    result = {"all": run(train, dev, held_out)}
    for name, species in OWN.items():
        split = json.loads((args.data / "split.json").read_text())
        mine, its_dev = (slice(*split[f"{part}_spans"][species]) for part in ("train", "dev"))
        result[f"own_{name}"] = run(train[mine], dev[its_dev], {name: held_out[name]})
    result["best"] = {}
    for kind, rows in list(result.items())[:-1]:
        for name in HELD_OUT:
            if name in rows[0]:
                bits_per_base, order = min((row[name], row["order"]) for row in rows)
                result["best"].setdefault(name, {})[kind.split("_")[0]] = {"bits_per_base": bits_per_base, "order": order}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["best"]))


if __name__ == "__main__":
    main()
