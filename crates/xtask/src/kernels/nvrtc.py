"""Compiles CUDA sources with NVRTC: python nvrtc.py LIBRARY, then requests on stdin, answers on stdout.

A script, and not Rust, because calling a C library takes `unsafe`, which this workspace does without.

A request is a line of JSON: {"name", "source", "options", "ptx"}; the answer too: {"name", "log", "code"} with the
machine code or PTX in hexadecimal, or no "code" when the source does not compile. The first answer is
{"version": "12.9"}.
"""

import ctypes
import json
import sys


def main():
    nvrtc = ctypes.CDLL(sys.argv[1])
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(name, *args):
        code = getattr(nvrtc, name)(*args)
        if code != 0:
            raise RuntimeError(f"{name}: {nvrtc.nvrtcGetErrorString(code).decode()}")

    def text(kind, program):
        size = ctypes.c_size_t()
        call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        call(f"nvrtcGet{kind}", program, buffer)
        return buffer.raw

    def answer(**fields):
        print(json.dumps(fields), flush=True)

    major, minor = ctypes.c_int(), ctypes.c_int()
    call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    answer(version=f"{major.value}.{minor.value}")
    for line in sys.stdin:
        request = json.loads(line)
        program = ctypes.c_void_p()
        name, source = request["name"].encode(), request["source"].encode()
        call("nvrtcCreateProgram", ctypes.byref(program), source, name, 0, None, None)
        options = [option.encode() for option in request["options"]]
        code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = text("ProgramLog", program).rstrip(b"\0\n").decode(errors="replace")
        if code == 0:
            # PTX text comes with its zero byte, as the driver wants it.
            answer(name=request["name"], log=log, code=text("PTX" if request["ptx"] else "CUBIN", program).hex())
        else:
            answer(name=request["name"], log=log or nvrtc.nvrtcGetErrorString(code).decode())
        call("nvrtcDestroyProgram", ctypes.byref(program))


main()
