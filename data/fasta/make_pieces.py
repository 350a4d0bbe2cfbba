"""Pieces of phage lambda as a table: `python make_pieces.py > lambda_pieces.csv`."""

genome = "".join(line.strip() for line in open("lambda.fa") if not line.startswith(">"))
print("id,start,gc,sequence")
for start in range(0, 24_000, 240):
    piece = genome[start : start + 200]
    gc = sum(base in "GC" for base in piece) / len(piece)
    print(f"lambda:{start}-{start + 200},{start},{gc:.3f},{piece}")
