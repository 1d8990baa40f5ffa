#!/usr/bin/env python3
"""Prints the golden bytes of protocol version 1 (v1.txt), made from docs/PROTOCOL.md and docs/FORMAT.md alone.

Another language on purpose: a mistake that our reader and our writer share would not be seen otherwise. The file stays
as it is; this says where it comes from.
"""
import struct
import zlib

PARTITION = bytes.fromhex("00112233445566778899aabbccddeeff")


def crc(data):
    return zlib.crc32(data)


def frame(opcode, request_id, body, self_checked=False):
    head = b"MFN1" + struct.pack("<BBHQQ", 1, opcode, 1 if self_checked else 0, request_id, len(body))
    head += struct.pack("<I", 0 if self_checked else crc(body))
    return head + struct.pack("<I", crc(head)) + body


def batch(events, producer, epoch, sequence, salt=0, base=0, synced_end=0, data_at=0, incarnation=0, timestamp=0):
    entries = b"".join(struct.pack("<IIQ", len(m), crc(m), len(d)) for m, d in events)
    pieces = [d[at : at + 65536] for _, d in events for at in range(0, len(d), 65536)]
    table = entries + b"".join(struct.pack("<I", crc(piece)) for piece in pieces)
    metadata = b"".join(m for m, _ in events)
    data = b"".join(d for _, d in events)
    checked = struct.pack("<HHIQQQQQQQ", 1, 0, len(events), salt, base, synced_end, data_at, len(data), producer, sequence)
    checked += struct.pack("<IIQQIII20x", epoch, incarnation, timestamp, 0, len(metadata), len(pieces), crc(table))
    whole = b"MFB1" + struct.pack("<I", crc(checked)) + checked + table + metadata
    return whole + bytes(-len(whole) % 8), data


def descriptor(location, base_bytes, selected_bytes, *selections):
    head = struct.pack("<QQQ", selected_bytes, base_bytes, len(location)) + location
    return head + struct.pack("<Q", len(selections)) + b"".join(selections)


EVENTS = [(b'{"a":1}', b"hello mofka"), (b"{}", b"")]


def golden():
    hello = b'{"version_min":1,"version_max":1,"client":"golden"}'
    yield "hello_request", frame(0x01, 1, hello)
    yield "ping_request", frame(0x02, 2, b"")
    error = b'{"code":21,"name":"sequence_gap","message":"batch 3 is missing","details":{"expected":3}}'
    yield "error", frame(0xFF, 3, error)
    whole, data = batch(EVENTS, 7, 1, 4)
    prefix = PARTITION + struct.pack("<B11x", 3)
    yield "produce_request", frame(0x20, 4, prefix + struct.pack("<I", crc(prefix)) + whole + data, True)
    yield "produce_answer", frame(0xA0, 4, struct.pack("<QII", 42, 2, 1))
    yield "flush_request", frame(0x21, 5, PARTITION)
    yield "credit_request", frame(0x32, 6, struct.pack("<QI4x", 9, 16))
    stored, data = batch(EVENTS, 7, 1, 4, salt=0x5A17, base=42, synced_end=40, data_at=4096, incarnation=2, timestamp=1000)
    head = struct.pack("<QQQQII", 42, 44, 50, 3, 1, 1)
    head += struct.pack("<I20x", crc(head))
    items = struct.pack("<QQ", len(stored), len(data)) + stored + data + bytes(-len(data) % 8)
    yield "feed", frame(0x33, 9, head + items, True)
    event = struct.pack("<Q", 42)
    wanted = [
        descriptor(event, 1000, 1000),
        descriptor(event, 1000, 10, struct.pack("<BQQ", 1, 5, 10)),
        descriptor(event, 1000, 30, struct.pack("<BQQQQ", 2, 100, 3, 10, 90)),
        descriptor(event, 1000, 7, struct.pack("<BQQQQQ", 3, 2, 0, 3, 500, 4)),
    ]
    body = PARTITION + struct.pack("<I4x", len(wanted)) + b"".join(struct.pack("<I", len(d)) + d for d in wanted)
    yield "fetch_request", frame(0x34, 7, body)
    parts = [b"hello", b"mofka!"]
    table = b"".join(struct.pack("<H2xIQ", 0, crc(part), len(part)) for part in parts)
    table += struct.pack("<H2xIQ", 32, 0, 0)
    count = struct.pack("<I", 3)
    body = count + struct.pack("<I", crc(count + table)) + table + b"".join(parts)
    yield "fetch_answer", frame(0xB4, 7, body, True)
    name = "zähler".encode()
    yield "acknowledge_request", frame(0x35, 8, PARTITION + struct.pack("<QH6x", 44, len(name)) + name)
    yield "acknowledge_answer", frame(0xB5, 8, struct.pack("<Q", 44))


for name, whole in golden():
    print(name, whole.hex())
