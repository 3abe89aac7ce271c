"""The state tree as databases held it at first: each node a row at `m/<depth in two bytes><path so far>`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from fondaco.protocol.signing import sha256

EMPTY, LEAF, INNER = bytes(32), b"\x00", b"\x01"


def nodes_of(records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Every node of the tree over these records, by its old key."""
    nodes: dict[bytes, bytes] = {}

    def build(leaves: list[tuple[bytes, bytes]], depth: int, prefix: int) -> bytes:
        if not leaves:
            return EMPTY
        node = LEAF + b"".join(leaves[0])
        if len(leaves) > 1:
            halves: tuple[list[tuple[bytes, bytes]], ...] = ([], [])
            for path, value in leaves:
                halves[path[depth // 8] >> 7 - depth % 8 & 1].append((path, value))
            left, right = (build(half, depth + 1, prefix << 1 | side) for side, half in enumerate(halves))
            node = INNER + left + right
        width = -(-depth // 8)
        nodes[depth.to_bytes(2, "big") + (prefix << width * 8 - depth).to_bytes(width, "big")] = node
        return sha256(node)

    build([(sha256(key), sha256(value)) for key, value in records.items()], 0, 0)
    return nodes


def make_old(path: Path) -> None:
    """Put the tree of a database into its old form, and forget that it ever had another."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT key, value FROM records WHERE key >= ? AND key < ?", (b"r/", b"r0")).fetchall()
        db.execute("DELETE FROM records WHERE key >= ? AND key < ?", (b"m/", b"m0"))
        nodes = nodes_of({key[2:]: value for key, value in rows})
        db.executemany("INSERT INTO records VALUES (?, ?)", ((b"m/" + key, node) for key, node in nodes.items()))
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'tree_pages'")
    db.close()
