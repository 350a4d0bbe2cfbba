#!/usr/bin/env python3
"""Make `variants/`: what transformers and float64 NumPy say about variants, on sequences that were edited here.

    python data/golden/variants.py            write variants/{reference.fa,calls.vcf,expected.tsv}
    python data/golden/variants.py --check    make them again and print how far the files here differ

Needs what make.py needs; runs on the CPU, offline, in some 20 s. It shares no code with the project: each allele is put into
its contig, the contig is reversed and complemented for the minus strand, and the model runs over the whole of it.

A line of expected.tsv: model, record (0-based, of calls.vcf), contig, place, REF, ALT, strand; then log P(ALT) - log P(REF) over the
allele and the WINDOW bases behind it given all bases before it, the difference of the two means a base, and the Euclidean
distance of the mean final hidden states over the same bases: first by transformers' MambaForCausalLM (slow path, f32), then in
float64. A contig's first base has nothing before it and is not scored, but counts as a base.
"""

import sys

sys.dont_write_bytecode = True
import make  # sets up transformers for the CPU, offline
import numpy as np
import torch
from transformers import MambaForCausalLM

HERE = make.HERE
OUT = HERE / "variants"
WINDOW = 60
MODELS = ("d13-n16-k4-e2", "d24-n8-k3-e1", "d29-n4-k2-e1")
IDS = {"A": 0, "C": 1, "G": 2, "T": 3}  # all else: 4, as MAMBA_SEQ in bench_model.py says
PAIR = str.maketrans("ACGTRYKM", "TGCAYRMK")

# contig, 0-based place, bases of REF, ALTs. `*`, `<...>` and breakends have no letters and no line in expected.tsv.
CALLS = [
    ("left", 0, 1, "{0}"),  # a contig's first base
    ("left", 40, 1, "{0},{1},{2}"),  # every other base at one place
    ("left", 41, 1, "{0},<DEL>,*"),
    ("left", 95, 4, "{f}"),  # a deletion that keeps its first base
    ("left", 95, 1, "{f}GATTACA"),  # an insertion at the same place
    ("left", 120, 3, "TTA,C"),  # several bases for several, and for one
    ("left", 60, 1, "{0}"),  # a place before those above
    ("left", 200, 1, "{0}"),  # an N of the reference, in both windows
    ("left", 203, 1, "N"),
    ("left", 230, 1, "{0}"),  # the window ends with the contig
    ("left", 239, 1, "{0}"),  # its last base
    ("short", 2, 2, "{f},ACGTACGTACGTACGTACGTACGTACGTACGTA"),
    ("short", 8, 1, "{0}"),
]


def reference():
    rng = np.random.Generator(np.random.PCG64(20_261_126))
    left = "".join(rng.choice(list("ACGT"), 240))
    left = left[:199] + "NNR" + left[202:]
    return {"left": left, "short": "".join(rng.choice(list("ACGT"), 9))}


def calls(contigs):
    out = []
    for name, at, length, alts in CALLS:
        ref = contigs[name][at : at + length]
        others = [b for b in "ACGT" if b != ref[0]]
        out.append((name, at, ref, alts.format(*others, f=ref[0]).split(",")))
    return out


def encode(text):
    return np.array([IDS.get(base, 4) for base in text], np.int64)


def flip(text):
    return text[::-1].translate(PAIR)


class Oracles:
    def __init__(self, folder):
        self.hf = MambaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        weights = {k: v.detach().numpy().astype(np.float64) for k, v in self.hf.state_dict().items()}
        self.head = weights["lm_head.weight"]
        self.model = dict(w=weights, layers=self.hf.config.num_hidden_layers, eps=self.hf.config.layer_norm_epsilon,
                          rms=True, embedding="backbone.embeddings.weight")
        self.cache = {}

    def run(self, text):
        """Of each oracle: what every base costs (the first nothing), and the final hidden states."""
        if text not in self.cache:
            ids = encode(text)
            with torch.inference_mode():
                hidden = self.hf.backbone(torch.from_numpy(ids)[None]).last_hidden_state[0]
                logits = self.hf(torch.from_numpy(ids)[None]).logits[0]
            logits = logits.numpy()
            _, last, _ = make.forward(self.model, ids)
            self.cache[text] = [(cost(logits, ids), hidden.numpy().astype(np.float64)), (cost(last @ self.head.T, ids), last)]
        return self.cache[text]


def cost(logits, ids):
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[:, 0]
    nll = np.zeros(len(ids), np.float64)
    nll[1:] = log_sum[:-1] - logits[np.arange(len(ids) - 1), ids[1:]]
    return nll


def effect(oracles, whole, at, ref, alt):
    """(llr, per base, distance) by each oracle."""
    assert whole[at : at + len(ref)] == ref
    behind = min(WINDOW, len(whole) - at - len(ref))
    edited = whole[:at] + alt + whole[at + len(ref) :]
    out = []
    for (ref_nll, ref_hidden), (alt_nll, alt_hidden) in zip(oracles.run(whole), oracles.run(edited)):
        of_ref, of_alt = slice(at, at + len(ref) + behind), slice(at, at + len(alt) + behind)
        a, b = ref_nll[of_ref], alt_nll[of_alt]
        distance = np.linalg.norm(ref_hidden[of_ref].mean(axis=0) - alt_hidden[of_alt].mean(axis=0))
        out += [a.sum() - b.sum(), a.mean() - b.mean(), distance]
    return out


def main():
    contigs = reference()
    records = calls(contigs)
    rows, moved = [], 0
    for name in MODELS:
        oracles = Oracles(HERE / name)
        worst = np.zeros(3)
        for i, (contig, at, ref, alts) in enumerate(records):
            for alt in alts:
                if alt == "*" or alt.startswith("<"):
                    continue
                for strand in "+-":
                    whole, place, was, new = contigs[contig], at, ref, alt
                    if strand == "-":
                        whole, place, was, new = flip(whole), len(whole) - at - len(ref), flip(ref), flip(alt)
                    values = effect(oracles, whole, place, was, new)
                    worst = np.maximum(worst, np.abs(np.subtract(values[:3], values[3:])))
                    moved += abs(values[3]) > 0.1
                    rows.append([name, i, contig, at + 1, ref, alt, strand] + [f"{v:.9g}" for v in values])
        print(name, "transformers to float64:", *(f"{w:.1e}" for w in worst))
        assert (worst < 5e-5).all()
    # A wrong window, strand or edit must show.
    assert moved > len(rows) // 2, moved
    vcf = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    for contig, at, ref, alts in records:
        # VCF writes the first base that an IUPAC code stands for; here none is a REF.
        vcf += f"{contig}\t{at + 1}\t.\t{ref}\t{','.join(alts)}\t.\t.\t.\n"
    fasta = "".join(f">{name}\n{text}\n" for name, text in contigs.items())
    tsv = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    OUT.mkdir(exist_ok=True)
    for file, text in {"reference.fa": fasta, "calls.vcf": vcf, "expected.tsv": tsv}.items():
        if "--check" not in sys.argv[1:]:
            (OUT / file).write_text(text)
            continue
        old = [line.split("\t") for line in (OUT / file).read_text().splitlines()]
        new = [line.split("\t") for line in text.splitlines()]
        cut = 7 if file == "expected.tsv" else None
        assert [line[:cut] for line in old] == [line[:cut] for line in new], file
        off = [abs(float(a) - float(b)) for x, y in zip(old, new) for a, b in zip(x[7:], y[7:])] if cut else [0.0]
        print(file, max(off))


if __name__ == "__main__":
    main()
