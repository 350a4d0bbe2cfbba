"""Makes the training audio: speech, music and recordings at 16 kHz mono, laid end to end, and what is known of each clip.

    python prepare.py --packages PACKAGES --soundscape soundscape_60s_32k.flac --out DATA

PACKAGES holds Debian packages unpacked, one folder each (README.md). Writes

  audio.npy      int16 [N]
  phonemes.npy   uint8 [N/160 rounded up]: the phoneme of each 10 ms where espeak-ng said it, else 0
  clips.npz      start, length, word, voice, kind, dev (int64 [clips]; word and voice -1 where unknown)
  sources.json   names of words, voices, kinds and phonemes; seconds and clips by source
"""

import argparse
import collections
import json
import pathlib
import subprocess

import numpy as np

import sources
from words import WORDS

KINDS = ["speech", "music", "sound"]
BOOKS = ("Gen1:1-Gen9:29", "Ps1:1-Ps24:10", "Eccl1:1-Eccl12:14", "Luke1:1-Luke9:62", "Job38:1-Job41:34")
SOUNDS = ("sound-theme-freedesktop", "oxygen-sounds", "lomiri-sounds", "deepin-sound-theme", "bucklespring-data",
          "asterisk-moh-opsound-wav", "colobot-common-sounds", "psi-plus-sounds")
PEOPLE = ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-es-wav", "asterisk-core-sounds-fr-wav",
          "asterisk-core-sounds-it-wav", "asterisk-core-sounds-ru-wav", "asterisk-prompt-it-menardi-wav",
          "klettres-data", "ktuberling-data", "tuxpaint-stamps-default")


def verses():
    """Verses of the King James Bible (public domain) of 40 to 110 letters, by Debian's bible-kjv."""
    text = subprocess.run(["bible", "-f", *BOOKS], capture_output=True, text=True, check=True).stdout
    lines = [line.split(" ", 1)[1] for line in text.splitlines() if " " in line]
    return np.array([line for line in lines if 40 <= len(line) <= 110])


def everything(args, rng):
    packages = args.packages
    fonts = {"fluid-soundfont-gm": packages / "fluid-soundfont-gm/usr/share/sounds/sf2/FluidR3_GM.sf2",
             "timgm6mb-soundfont": packages / "timgm6mb-soundfont/usr/share/sounds/sf2/TimGM6mb.sf2"}
    fonts = {name: str(path) for name, path in fonts.items()}
    small = args.small
    yield from sources.espeak_words(rng, 4 if small else args.voices, 10 if small else args.words, verses())
    yield from sources.espeak_numbers(rng, 1 if small else 6)
    if not small:
        yield from sources.flite_words(rng, 100)
        yield from sources.festival_words(rng, 100)
        yield from sources.music(rng, fonts, 3)
    yield from sources.ensembles(rng, fonts, 16 if small else 240)
    for package in PEOPLE:
        yield from sources.recordings(rng, packages, package, 5 if small else 240 if "asterisk" in package else 100)
    for package in SOUNDS:
        yield from sources.recordings(rng, packages, package, 5 if small else 150)
    yield from sources.field_recording(args.soundscape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=pathlib.Path, required=True)
    parser.add_argument("--soundscape", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--voices", type=int, default=160, help="of espeak-ng")
    parser.add_argument("--words", type=int, default=55, help="of each, beside the digits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a minute of audio (tests)")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    voices, phonemes = {}, collections.Counter()
    clips, parts, at = [], [], 0
    seconds, counts = collections.Counter(), collections.Counter()
    for one in everything(args, rng):
        samples = one["samples"]
        # Each clip begins on a multiple of 160, so that labels of 10 ms serve all.
        length = len(samples) // 160 * 160
        if length < 1600:
            continue
        samples = samples[:length] / max(np.abs(samples[:length]).max(), 1e-6) * 0.9
        parts.append(np.round(samples * 32767).astype(np.int16))
        voice = -1 if one["voice"] is None else voices.setdefault(one["voice"], len(voices))
        clips.append((at, length, one["word"], voice, KINDS.index(one["kind"]), one["phonemes"]))
        phonemes.update(name for _, name in one["phonemes"] if name)
        seconds[one["source"]] += length / sources.RATE
        counts[one["source"]] += 1
        at += length

    inventory = [name for name, _ in phonemes.most_common(160)]
    number = {name: i + 1 for i, name in enumerate(inventory)}
    labels = np.zeros(at // 160, np.uint8)
    for start, length, *_, events in clips:
        row = labels[start // 160:(start + length) // 160]
        for (begin, name), (end, _) in zip(events, list(events[1:]) + [(length / sources.RATE, "")]):
            row[max(0, round(begin * 100)):max(0, round(end * 100))] = number.get(name, 0)

    table = np.array([row[:5] for row in clips], np.int64)
    # One synthetic voice in twelve is kept out of training, to watch.
    names = list(voices)
    held = {i for i, name in enumerate(names) if "+" in name and i % 12 == 5} | {
        i for i, name in enumerate(names) if name.startswith("flite/rms")}
    np.save(args.out / "audio.npy", np.concatenate(parts))
    np.save(args.out / "phonemes.npy", labels)
    np.savez(args.out / "clips.npz", start=table[:, 0], length=table[:, 1], word=table[:, 2], voice=table[:, 3],
             kind=table[:, 4], dev=np.isin(table[:, 3], list(held)).astype(np.int64))
    report = {"seconds": {k: round(v, 1) for k, v in seconds.items()}, "clips": counts,
              "total_seconds": round(at / sources.RATE, 1), "total_clips": len(clips), "words": WORDS,
              "voices": names, "kinds": KINDS, "phonemes": inventory}
    (args.out / "sources.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({k: report[k] for k in ("seconds", "clips", "total_seconds", "total_clips")}))


if __name__ == "__main__":
    main()
