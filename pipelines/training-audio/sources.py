"""Where the training audio comes from: generators of (samples at 16 kHz in [-1, 1], labels) from Debian packages."""

import pathlib
import re
import struct
import subprocess
import tempfile

import numpy as np
import soundfile
from math import gcd
from scipy.signal import resample_poly

from espeak import Espeak
from words import DIGITS, WORDS

RATE = 16000
ACCENTS = ["en", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"]
VARIANTS = pathlib.Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v")


def to_rate(samples, rate):
    if samples.ndim > 1:
        samples = samples.mean(1)
    common = gcd(RATE, rate)
    return resample_poly(samples, RATE // common, rate // common).astype(np.float32) if rate != RATE else samples


def read(path):
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return to_rate(samples, rate)


def trimmed(samples, floor=0.01):
    """Without the quiet ends (below 1 % of the peak, in frames of 10 ms); and how much was cut in front."""
    frames = len(samples) // 160
    if not frames:
        return samples, 0
    level = np.abs(samples[:frames * 160]).reshape(frames, 160).max(1)
    loud = np.flatnonzero(level > floor * level.max())
    start, end = loud[0] * 160, min(len(samples), (loud[-1] + 1) * 160 + 160)
    return samples[start:end], start


def clip(samples, **labels):
    return {"samples": samples, "word": -1, "voice": None, "kind": "speech", "phonemes": (), "source": "", **labels}


def spoken(espeak, rng, text, voice, settings, **labels):
    said = espeak.say(text, voice, *settings)
    if said is None or np.abs(said[0]).max() < 1e-3:
        return None
    samples, cut = trimmed(said[0])
    phonemes = [(seconds - cut / RATE, name) for seconds, name in said[1]]
    return clip(samples, voice=f"{voice}/{settings[1]}", phonemes=phonemes, source="espeak-ng", **labels)


def espeak_words(rng, voices, per_voice, verses):
    """Each voice says the digits twice, other words, and three verses."""
    espeak = Espeak()
    variants = sorted(path.name for path in VARIANTS.iterdir())
    made = 0
    while made < voices:
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
        settings = (int(rng.integers(130, 230)), int(rng.integers(20, 80)), int(rng.integers(30, 80)))
        if espeak.say("one", voice, *settings) is None:
            continue
        made += 1
        others = rng.choice(np.arange(len(DIGITS), len(WORDS)), per_voice, replace=False)
        for word in [*range(len(DIGITS)), *range(len(DIGITS)), *others]:
            pace = (int(settings[0] * rng.uniform(0.8, 1.25)), settings[1], settings[2])
            one = spoken(espeak, rng, WORDS[word], voice, pace, word=int(word))
            if one:
                yield one
        for verse in rng.choice(verses, 3, replace=False):
            one = spoken(espeak, rng, str(verse), voice, settings)
            if one:
                yield one


def espeak_numbers(rng, per_language):
    """Numbers in every language of espeak-ng: speech of many sounds without any text."""
    espeak = Espeak()
    table = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout
    names = sorted({line.split()[1] for line in table.splitlines()[1:] if "mb/" not in line})
    variants = sorted(path.name for path in VARIANTS.iterdir())
    for name in names:
        if name in ACCENTS:
            continue
        voice = f"{name}+{rng.choice(variants)}"
        settings = (int(rng.integers(130, 200)), int(rng.integers(20, 80)), int(rng.integers(30, 80)))
        for _ in range(per_language):
            text = " ".join(str(rng.integers(0, 10 ** int(rng.integers(1, 5)))) for _ in range(2))
            one = spoken(espeak, rng, text, voice, settings)
            if one and len(one["samples"]) < 8 * RATE:
                yield one


def flite_words(rng, per_voice):
    """Voices made from recordings (unit selection, diphones): three ways of speaking each."""
    for voice in ("kal16", "awb", "rms", "slt"):
        for way, (stretch, pitch) in enumerate(((1.0, None), (0.85, 1.12), (1.2, 0.9))):
            base = {"kal16": 105, "awb": 130, "rms": 100, "slt": 180}[voice]
            setting = ["--setf", f"duration_stretch={stretch}"]
            if pitch:
                setting += ["--setf", f"int_f0_target_mean={base * pitch:.0f}"]
            others = rng.choice(np.arange(len(DIGITS), len(WORDS)), per_voice, replace=False)
            with tempfile.TemporaryDirectory() as folder:
                for word in [*range(len(DIGITS)), *others]:
                    path = f"{folder}/x.wav"
                    subprocess.run(["flite", "-voice", voice, *setting, "-t", WORDS[word], "-o", path], check=True)
                    yield clip(trimmed(read(path))[0], word=int(word), voice=f"flite/{voice}/{way}", source="flite")


def festival_words(rng, per_voice):
    for voice in ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts"):
        for way, stretch in enumerate((1.0, 1.2)):
            others = rng.choice(np.arange(len(DIGITS), len(WORDS)), per_voice, replace=False)
            chosen = [*range(len(DIGITS)), *others]
            with tempfile.TemporaryDirectory() as folder:
                script = f"(voice_{voice})\n(Parameter.set 'Duration_Stretch {stretch})\n"
                for word in chosen:
                    script += (f'(set! u (Utterance Text "{WORDS[word]}"))(utt.synth u)'
                               f'(utt.save.wave u "{folder}/{word}.wav" \'riff)\n')
                pathlib.Path(folder, "say.scm").write_text(script)
                subprocess.run(["festival", "-b", f"{folder}/say.scm"], check=True, capture_output=True)
                for word in chosen:
                    yield clip(trimmed(read(f"{folder}/{word}.wav"))[0], word=int(word),
                               voice=f"festival/{voice}/{way}", source="festival")


def midi(tracks, tempo_us=500000, division=480):
    """A standard MIDI file (format 0) from events (tick, bytes)."""
    def varlen(value):
        out = [value & 127]
        while value := value >> 7:
            out.insert(0, value & 127 | 128)
        return bytes(out)
    body, last = b"\0\xff\x51\x03" + struct.pack(">I", tempo_us)[1:], 0
    for tick, event in sorted(tracks, key=lambda pair: pair[0]):
        body += varlen(tick - last) + event
        last = tick
    body += varlen(division) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, division) + b"MTrk" + struct.pack(">I", len(body)) + body


def render(events, font):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "x.mid").write_bytes(midi(events))
        subprocess.run(["fluidsynth", "-ni", "-g", "0.5", "-r", str(RATE), "-F", f"{folder}/x.wav", font,
                        f"{folder}/x.mid"], check=True, capture_output=True)
        return read(f"{folder}/x.wav")


SLOT = 1.5
CHORDS = ((0,), (0, 4, 7), (0, 3, 7), (0, 7), (0, 4, 7, 10), (0, 3, 6), (0, 12))


def music(rng, fonts, slots):
    """Every General MIDI instrument: notes, chords and runs, one in each slot of 1.5 s (960 ticks a second)."""
    for name, font in fonts.items():
        events, at = [], 0
        for program in range(128):
            for _ in range(slots):
                start = int(at * SLOT * 960)
                events.append((start, bytes([0xC0, program])))
                root, loud = int(rng.integers(40, 84)), int(rng.integers(60, 127))
                notes = [(0, 1000, root + step) for step in CHORDS[rng.integers(len(CHORDS))]]
                if rng.random() < 0.3:
                    notes = [(k * 240, 220, root + int(rng.integers(-7, 8))) for k in range(4)]
                for begin, length, key in notes:
                    events.append((start + begin + 1, bytes([0x90, key, loud])))
                    events.append((start + begin + length, bytes([0x80, key, 0])))
                at += 1
        samples = render(events, font)
        for slot in range(at):
            piece = samples[int(slot * SLOT * RATE):int((slot + 1) * SLOT * RATE)]
            if len(piece) and np.abs(piece).max() > 1e-3:
                yield clip(trimmed(piece)[0], voice=f"instrument/{slot // slots}", kind="music", source=name)


def ensembles(rng, fonts, seconds):
    """Three instruments and drums at once, at random: music that nobody wrote."""
    for name, font in fonts.items():
        events = []
        for bar in range(int(seconds / 2)):
            for channel in (0, 1, 2):
                events.append((bar * 1920, bytes([0xC0 | channel, int(rng.integers(0, 112))])))
                for beat in range(0, 8, int(rng.integers(1, 5))):
                    key, start = int(rng.integers(36, 90)), bar * 1920 + beat * 240
                    events.append((start + 1, bytes([0x90 | channel, key, int(rng.integers(50, 120))])))
                    events.append((start + 230, bytes([0x80 | channel, key, 0])))
            for beat in range(8):
                if rng.random() < 0.6:
                    events.append((bar * 1920 + beat * 240 + 1,
                                   bytes([0x99, int(rng.integers(35, 82)), int(rng.integers(40, 110))])))
        samples = render(events, font)[:int(seconds * RATE)]
        for start in range(0, len(samples) - RATE, 8 * RATE):
            yield clip(samples[start:start + 8 * RATE], kind="music", source=name)


LETTER_FOLDERS = ("klettres-data", "ktuberling-data")


def recordings(rng, packages, package, limit):
    """People and things recorded, from an unpacked package; a folder or language is a voice."""
    files = sorted(path for path in (packages / package).rglob("*")
                   if path.suffix.lower() in (".wav", ".ogg", ".oga", ".flac", ".mp3"))
    order = rng.permutation(len(files))
    used = {}
    # The English digits first: they are few.
    for path in sorted((files[i] for i in order), key=lambda path: english_digit(package, path) < 0):
        relative = path.relative_to(packages / package)
        voice = voice_of(package, relative)
        if used.get(voice, 0) > limit:
            continue
        try:
            samples = read(path)
        except (RuntimeError, soundfile.LibsndfileError):
            continue
        if len(samples) < RATE // 5 or np.abs(samples).max() < 1e-3:
            continue
        samples = trimmed(samples)[0][:8 * RATE]
        used[voice] = used.get(voice, 0) + len(samples) / RATE
        yield clip(samples, voice=voice, word=english_digit(package, path), source=package,
                   kind="speech" if voice else "sound")


def voice_of(package, relative):
    """A name where the recordings of a package are one person's voice, as far as names tell."""
    text = str(relative)
    if package.startswith("asterisk-core"):
        return package if "/en_US" in text or "beep" not in text else None
    if package.startswith("asterisk-prompt"):
        return package
    if package in LETTER_FOLDERS:
        match = re.search(r"klettres/([^/]+)/|ktuberling/sounds/([^/]+)/", text)
        return match and f"{package}/{match[1] or match[2]}"
    if package.startswith("tuxpaint"):
        match = re.search(r"_desc_([a-z]{2})\.", text) or re.search(r"_(en_GB)\.", text)
        return match and f"{package}/{match[1]}"
    return None


def english_digit(package, path):
    if package == "asterisk-core-sounds-en-wav" and path.parent.name == "digits" and re.fullmatch(r"\d", path.stem):
        return int(path.stem)
    match = re.fullmatch(r"(\d)_en_GB", path.stem)
    return int(match[1]) if match and package.startswith("tuxpaint") and path.parent.name == "math" else -1


def field_recording(path):
    samples = read(path)
    for start in range(0, len(samples) - RATE, 10 * RATE):
        yield clip(samples[start:start + 10 * RATE], kind="sound", source=path.name)
