#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Writes the inputs that the fuzz targets of chunks, envelopes, sessions and protobuf begin with, into
# fuzz/corpus/TARGET/: recorded messages of tests/vectors, and conversations made by hand. The same
# each time.
import itertools
import json
import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX64 = 2**64 - 1


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


FIELDS = {"id": 1, "expires": 2, "method": 3, "data": 4, "type": 5, "error": 6,
          "client": 7, "server": 8, "control": 9, "max": 10}


def message(**fields):
    out = b""
    for name, value in fields.items():
        number = FIELDS[name]
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value & MAX64)
    return out


def chunk(body):
    return varint(2 * len(body)) + body


def chunks(*messages):
    return b"".join(chunk(m) for m in messages)


def call(id, method=b"/m", **fields):
    return message(id=id, method=method, **fields)


def cancel(id):
    return message(id=id, control=1)


def ping(id):
    return message(id=id, control=2)


def recorded(largest):
    for name in ("proto-rpc", "json-rpc"):
        with open(f"{ROOT}/tests/vectors/{name}.jsonl") as lines:
            for line in map(json.loads, lines):
                bytes_ = bytes.fromhex(line["chunk_hex"])
                if len(bytes_) <= largest:
                    yield line["from"], bytes_


def body_of(bytes_):
    size = 1
    while bytes_[size - 1] & 0x80:
        size += 1
    return bytes_[size:]


MALFORMED = [b"\x00", b"\x08", b"\x80\x00", b"\x5b\x5c", b"\x0a\x01x", b"\x18\x01", b"\x22\x05x", b"\x5f\x00",
             b"\x10" + b"\xff" * 9 + b"\x02", b"\x61" + b"1234567", b"\x75" + b"123"]


def envelopes():
    yield from (body_of(bytes_) for _, bytes_ in recorded(90))
    full = {"id": 7, "expires": -1, "method": b"/method", "data": b"data", "type": 4, "error": b"100% wrong",
            "client": 7, "server": 7, "control": 4, "max": 4096}
    for pair in itertools.combinations(full, 2):
        yield message(**{name: full[name] for name in pair})
    yield message(**full)
    yield message(**dict(reversed(full.items())))
    yield message(**full) * 2
    yield from (message(id=1) + bad for bad in MALFORMED)
    yield from (message(id=value, expires=value) for value in (1, 127, 128, 2**31, 2**32 - 1, 2**63, MAX64))
    yield b"\xf8\xff\xff\xff\x0f\x01" + message(id=1)


def chunk_streams():
    for limits in (0x0A, 0x2A, 0x43):  # the largest chunk, and how much more is skipped
        for cuts in (0, 77):
            prefix = bytes([limits, cuts])
            yield prefix + chunks(b"hello", b"", b"x" * 63, b"y" * 64)
            yield prefix + chunks(b"a" * 1100, b"after")
            yield prefix + chunks(b"b" * 3000)[:-1]
            yield prefix + b"\x85\x80\x00"
            yield prefix + b"\x8a\x80\x80\x00hello"
            yield prefix + b"\xff" * 9 + b"\x01"
            yield prefix + b"\xfe" * 9 + b"\x03"
            yield prefix + varint(2 * (2**62)) + b"rest"
    yield from (b"\x0a\x01" + bytes_ for _, bytes_ in recorded(60))


def clients():
    yield chunks(call(1, data=b"question", client=7, max=4096), call(2), cancel(2), ping(9))
    yield chunks(call(1), call(2), call(3), call(4), call(5), call(6), call(7))
    yield chunks(call(4), cancel(4), call(9), cancel(9), call(14))
    yield chunks(call(3, expires=2000000000 * 10**9), call(8, expires=1), call(13, expires=-1))
    yield chunks(call(1, data=b"z" * 3000, client=7), call(2))
    yield chunks(call(1, data=b"z" * 9000))
    yield chunks(message(method=b"/m"), call(2))
    yield chunks(call(4), call(4))
    yield chunks(call(1, client=7), *[ping(n) for n in range(12)])
    yield chunks(call(6, data=b"100% \xff\n", client=0))
    yield chunks(call(6, method=b"/\xff\xfe"), call(11, method=b"m" * 300))
    yield chunks(call(2, client=7, max=40), call(7), call(1, data=b"long text for an error, too long"))
    yield chunks(message(id=1, control=3), message(control=4), message(id=2, control=5))
    yield chunks(b"", call(1))
    for residue in range(10):
        yield chunks(call(residue + 10, client=7), call(residue + 20, data=b"d" * residue * 30), cancel(residue + 10))
        yield chunks(call(residue + 10, data=b"text"), call(residue + 20))[:-residue or None]
    yield from (chunks(call(1), message(id=2) + bad) for bad in MALFORMED)
    yield from (bytes_ for side, bytes_ in recorded(80) if side == "client")


def servers():
    hello = message(server=7, control=4, max=4096)
    yield chunks(hello, message(id=1, data=b"answer"), message(id=2), message(id=3))
    yield chunks(message(id=1), message(id=2), message(id=3), message(id=4), message(id=5))
    yield chunks(hello, *[message(id=n) for n in range(1, 20)])
    yield chunks(message(type=1, error=b"not found"))
    yield chunks(message(id=1), message(id=2), message(type=1, error=b"not found"))
    yield chunks(hello, message(id=2, type=8, error=b"busy"), message(id=3, type=10), message(id=1, error=b"text"))
    yield chunks(hello, ping(1), message(id=1, control=3), message(id=2, control=3))
    yield chunks(message(id=1, data=b"z" * 3000), message(id=2))
    yield chunks(message(id=1, data=b"z" * 9000))
    yield chunks(message(data=b"z" * 3000))
    yield chunks(hello, hello, message(id=1, server=1))
    yield chunks(message(server=7, control=4, max=10), message(id=1), message(id=2))
    for kind in range(7):
        yield chunks(hello, message(id=1, control=kind), message(id=99, control=kind), message(control=kind))
        yield chunks(message(id=2, control=kind, type=kind), message(id=3))
        yield chunks(hello, message(id=1, type=kind, error=b"e"), message(id=2))[:-kind or None]
    yield from (chunks(message(id=1), message(id=2) + bad) for bad in MALFORMED)
    yield from (bytes_ for side, bytes_ in recorded(60) if side == "server")


def peers():
    hello = message(id=4, server=15, control=4, max=4096)
    yield chunks(hello)
    yield chunks(hello, call(1, data=b"body"), call(2), message(id=1, control=5, data=b"answer"), cancel(2))
    yield chunks(hello, *[call(n) for n in range(1, 12)], message(id=1, control=5), message(control=6))
    yield chunks(hello, hello, message(id=1, server=8, control=4), call(1))
    yield chunks(call(1), hello)
    yield chunks(message(server=7, control=4), call(1))
    yield chunks(message(server=8, control=4, max=10), call(1), call(2, data=b"z" * 900))
    yield chunks(hello, call(1, data=b"z" * 3000), message(id=1, control=5, data=b"z" * 3000), call(2))
    yield chunks(hello, call(1), call(1))
    yield chunks(hello, ping(0), ping(7), message(control=3), message(id=7, control=3))
    for kind in range(9):
        yield chunks(hello, message(id=1, control=kind), message(id=99, control=kind), message(control=kind))
        yield chunks(hello, call(1), message(id=1, control=kind, type=kind, error=b"e"))
    yield from (chunks(hello, call(1) + bad) for bad in MALFORMED)


def field(number, value, kind=None):
    """A field: bytes, a number, or with kind 1 or 5 that many fixed bytes."""
    if isinstance(value, bytes) and kind is None:
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3 | (kind or 0)) + (value if kind else varint(value & MAX64))


def nested(depth, number, inner=b""):
    for _ in range(depth - 1):
        inner = field(number, inner)
    return inner


PROTO_BAD = (b"\x08", b"\x08\x80", b"\x00\x01", b"\x0b\x0c", b"\x0a\x05x", b"\x22\x01\xff", b"\x22\x01\x00",
             b"\x08" + b"\xff" * 10 + b"\x01", b"\x88\x80\x80\x80\x80\x00\x01", b"\x2a\xff\xff\xff\xff\x0f")


def proto_messages():
    flat = (field(1, 5) + field(2, b"12345678", 1) + field(3, 1) + field(4, "zwölf".encode()) + field(5, b"a\0b") +
            field(7, b"one") + field(7, b"") + field(8, b"\x01\xac\x02") + field(9, b"\0" * 8) +
            field(10, b"\0\1") + field(11, b"\5") + field(99, b"unknown"))
    every = (field(1, -5) + field(5, b"1234", 5) + field(6, b"12345678", 1) + field(11, b"text") + field(13, flat[:2]) +
             field(16, b"\1\2\3") + field(17, b"\0" * 8) + field(23, field(1, b"key") + field(2, -1)) + field(24, b"name"))
    for kind, whole in ((0, flat), (1, every), (2, field(1, 1) + field(2, b"n") + field(4, b"\1\2")), (3, flat)):
        yield bytes([kind])
        yield bytes([kind]) + whole
        yield bytes([kind]) + whole + whole
        yield from (bytes([kind]) + whole[:cut] for cut in range(1, len(whole), 7))
        yield from (bytes([kind]) + bad for bad in PROTO_BAD)
        yield from (bytes([kind]) + field(6, whole + bad) for bad in PROTO_BAD)
    for depth in (2, 47, 48, 49, 300):
        yield b"\0" + nested(depth, 6)
        yield b"\1" + nested(depth, 13)
        yield b"\1" + nested(depth, 25, field(24, b"n"))
    yield b"\1" + field(13, field(24, b"a")) + field(13, field(26, 5)) + field(25, b"") + field(25, field(1, 1))
    yield b"\0" + field(6, b"") * 300
    yield b"\1" + field(13, b"") * 300
    yield b"\0" + field(8, b"\1" * 500) + field(8, 5) + field(7, b"x") * 50


def proto_streams():
    data, close, ack = (lambda m: b"\1" + m), b"\2", b"\3"
    flat = field(1, 5) + field(4, b"text")
    for ends in range(3):
        start = bytes([ends])
        yield start + chunks(data(b""), data(flat), close, ack)
        yield start + chunks(data(flat), ack, data(flat), close)
        yield start + chunks(close, ack)
        yield start + chunks(ack, close)
        yield start + chunks(close, close)
        yield start + chunks(ack, ack)
        yield start + chunks(close, data(flat))
        yield start + chunks(data(flat), data(flat))
        yield start + chunks(data(b"\x08\x80"), close)
        yield start + chunks(b"", close)
        yield start + chunks(b"\4")
        yield start + chunks(close + b"x")
        yield start + chunks(data(b"x" * 5000))
        yield start + chunks(*[data(flat)] * 70, ack, close)
        yield start + chunks(data(flat))[:-1]
        yield start + b"\x01"


def write(target, inputs):
    directory = f"{ROOT}/fuzz/corpus/{target}"
    os.makedirs(directory, exist_ok=True)
    count = 0
    for count, data in enumerate(inputs, 1):
        with open(f"{directory}/{count:03}", "wb") as file:
            file.write(data)
    print(f"{target}: {count}")


write("fuzz_envelope", envelopes())
write("fuzz_chunk", chunk_streams())
write("fuzz_peer_session", (bytes([n % 251]) + stream for n, stream in enumerate(peers())))
write("fuzz_server_session", (bytes([n % 251]) + stream for n, stream in enumerate(clients())))
write("fuzz_client_session", (bytes([n % 251]) + stream for n, stream in enumerate(servers())))
write("fuzz_proto", proto_messages())
write("fuzz_proto_stream", proto_streams())
