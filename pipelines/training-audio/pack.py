"""Audio that has to travel: audio.npy as Ogg Opus parts of ten minutes and back (a tenth of the size).

    python pack.py --data DATA --out PACKED --bitrate 20      needs opusenc (Debian: opus-tools)
    python pack.py --data PACKED --unpack --out DATA          needs soundfile

The committed model was trained on audio that went through this, at 20 kbit/s.
"""

import argparse
import concurrent.futures
import pathlib
import shutil
import subprocess

import numpy as np

RATE, PART = 16000, 600 * 16000
OTHERS = ("phonemes.npy", "clips.npz", "sources.json")


def pack(args):
    audio = np.load(args.data / "audio.npy")
    for index, start in enumerate(range(0, len(audio), PART)):
        command = ["opusenc", "--quiet", "--raw", "--raw-rate", str(RATE), "--raw-chan", "1", "--raw-bits", "16",
                   "--bitrate", str(args.bitrate), "--comp", "10", "-", str(args.out / f"part{index:03d}.opus")]
        subprocess.run(command, input=audio[start:start + PART].astype("<i2").tobytes(), check=True)
    (args.out / "samples.txt").write_text(f"{len(audio)}\n")


def unpack(args):
    import soundfile

    def decode(path):
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE and samples.ndim == 1, (path, rate, samples.shape)
        return samples

    count = int((args.data / "samples.txt").read_text())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = list(pool.map(decode, sorted(args.data.glob("part*.opus"))))
    # Every part but the last has PART samples, whatever the codec padded.
    parts = [np.pad(part, (0, max(0, PART - len(part))))[:PART] for part in parts]
    np.save(args.out / "audio.npy", np.concatenate(parts)[:count])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("--bitrate", type=float, default=20.0, help="kbit/s")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (unpack if args.unpack else pack)(args)
    for name in OTHERS:
        shutil.copy(args.data / name, args.out / name)


if __name__ == "__main__":
    main()
