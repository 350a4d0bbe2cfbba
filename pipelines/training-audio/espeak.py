"""espeak-ng through its C library (Debian: libespeak-ng1): samples and when each phoneme begins.

A process start for every word would cost more than the synthesis.
"""

import ctypes
import math

import numpy as np
from scipy.signal import resample_poly

SYNCHRONOUS, PHONEME_EVENTS, UTF8 = 2, 1, 1
RATE, PITCH, RANGE = 1, 3, 4
END, PHONEME = 0, 7
STRESS = "',%=_:|;"


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_uint), ("text", ctypes.c_int), ("length", ctypes.c_int),
                ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("name", _Name)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    def __init__(self, library="libespeak-ng.so.1"):
        self.lib = ctypes.CDLL(library)
        self.native = self.lib.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
        if self.native <= 0:
            raise SystemExit("espeak-ng does not start: is espeak-ng-data installed?")
        self.callback = _Callback(self._receive)
        self.lib.espeak_SetSynthCallback(self.callback)

    def _receive(self, samples, count, events):
        if samples and count > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        at = 0
        while events[at].type != END:
            if events[at].type == PHONEME:
                name = bytes(events[at].name.string).split(b"\0")[0].decode("utf-8", "replace")
                self.phonemes.append((events[at].sample / self.native, name.strip(STRESS)))
            at += 1
        return 0

    def say(self, text, voice, speed=170, pitch=50, spread=50, rate=16000):
        """Samples in [-1, 1] at `rate` and [(seconds, phoneme)]; None when there is no such voice or no sound."""
        if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            return None
        for parameter, value in ((RATE, speed), (PITCH, pitch), (RANGE, spread)):
            self.lib.espeak_SetParameter(parameter, int(value), 0)
        self.parts, self.phonemes = [], []
        data = text.encode() + b"\0"
        self.lib.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, UTF8, None, None)
        self.lib.espeak_Synchronize()
        if not self.parts:
            return None
        samples = np.concatenate(self.parts).astype(np.float32) / 32768
        common = math.gcd(rate, self.native)
        return resample_poly(samples, rate // common, self.native // common).astype(np.float32), self.phonemes
