#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# A plugin in plain Python, without packages: docs/plugins.md specifies what is spoken here. It turns
# text around, line by line, and counts what it has seen by calling the host back.
#
# One thing at a time: while a method runs nothing else is read, pings are not answered either.
import os
import socket
import sys

FIELDS = {"id": 1, "expires": 2, "method": 3, "data": 4, "type": 5, "error": 6,
          "server": 8, "control": 9, "max": 10}
NAMES = {number: name for name, number in FIELDS.items()}
CALL, CANCEL, PING, PONG, HELLO, REPLY, STOP = range(7)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Host:
    def __init__(self, name, methods):
        if "VOUCH_PLUGIN_FD" not in os.environ:
            sys.exit(f"{name} is a plugin: a host program starts it, it does nothing when started by hand")
        self.methods, self.last_id = methods, 0
        self.socket = socket.socket(fileno=int(os.environ["VOUCH_PLUGIN_FD"]))
        self.socket.set_inheritable(False)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(f"vouch-plugin 1 {os.environ['VOUCH_PLUGIN_TOKEN']} 1 {name}\n".encode())
        answer = self.file.readline().decode().split(" ", 3)
        if answer[:3] != ["vouch-plugin", "1", "ok"]:
            sys.exit(f"{name}: the host refused it: {answer}")
        # 8: a peer, 4: knows error types over 4, 2: answers pings. Takes 100 calls at a time.
        self.send(id=100, server=8 + 4 + 2, control=HELLO, max=4 << 20)

    def send(self, **fields):
        body = b""
        for name, value in sorted(fields.items(), key=lambda item: (item[0] == "data", FIELDS[item[0]])):
            number = FIELDS[name]
            if isinstance(value, bytes):
                body += varint(number << 3 | 2) + varint(len(value)) + value
            elif value:
                body += varint(number << 3) + varint(value)
        self.socket.sendall(varint(2 * len(body)) + body)

    def read_varint(self):
        value, shift = 0, 0
        while True:
            byte = self.file.read(1)
            if not byte:
                sys.exit(0)  # the host is gone
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7

    def receive(self):
        body = self.file.read(self.read_varint() // 2)
        message, at = {"id": 0, "control": CALL, "method": b"", "data": b"", "type": 0, "error": b""}, 0

        def number():
            nonlocal at
            value, shift = 0, 0
            while True:
                byte = body[at]
                at += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    return value
                shift += 7

        while at < len(body):
            tag = number()
            value = number()
            if tag & 7 == 2:
                at += value
                value = body[at - value:at]
            message[NAMES.get(tag >> 3)] = value
        return message

    def answer(self, message):
        method = self.methods.get(message["method"].decode())
        if method is None:
            self.send(id=message["id"], control=REPLY, type=1, error=b"no such method")
            return
        try:
            self.send(id=message["id"], control=REPLY, data=method(message["data"]))
        except Exception as error:
            self.send(id=message["id"], control=REPLY, type=4, error=str(error).encode())

    # Deals with one message that is no reply.
    def handle(self, message):
        if message["control"] == CALL:
            self.answer(message)
        elif message["control"] == PING:
            self.send(id=message["id"], control=PONG)
        elif message["control"] == STOP:
            sys.exit(0)

    # Calls the host; what it calls meanwhile is answered.
    def call(self, method, data):
        self.last_id += 1
        self.send(id=self.last_id, expires=2**63 - 1, method=method.encode(), data=data)
        while True:
            message = self.receive()
            if message["control"] != REPLY:
                self.handle(message)
            elif message["id"] == self.last_id:
                if message["type"]:
                    raise RuntimeError(message["error"].decode())
                return message["data"]

    def serve(self):
        while True:
            self.handle(self.receive())


lines = 0


def text(data):
    global lines
    lines += data.count(b"\n")
    return b"".join(line.rstrip(b"\n")[::-1] + b"\n" for line in data.splitlines(keepends=True))


def end(_):
    host.call("progress", f"{lines} lines turned around".encode())
    return b""


host = Host("reverse", {"text": text, "end": end})
host.serve()
