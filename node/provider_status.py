"""How a provider does, as its own home tells: its books, and what its node's market database knows of it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from fondaco.node import bid_trial
from fondaco.node.config import NodeConfig
from fondaco.node.keys.keystore import Keystore
from fondaco.node.market.log import view
from fondaco.node.market.service import DATABASE
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused

_PROVIDER = """
SELECT registered_at, bond,
  (SELECT coalesce(sum(amount), 0) FROM payments WHERE account = ?1 AND kind = 'payment') AS earned_ucredit
FROM providers WHERE address = ?1
"""
_LEASES = "SELECT state, count(*) FROM leases WHERE provider = ? GROUP BY state ORDER BY state"
_ANSWERS = """
SELECT 'bid' AS answer, order_id, group_index, seen_at, price_per_hour, serial, NULL AS reasons, NULL AS instead
  FROM bids WHERE provider = ?1
UNION ALL
SELECT 'decline', order_id, group_index, seen_at, NULL, NULL, reasons, counter_offers
  FROM declines WHERE provider = ?1
ORDER BY seen_at DESC, order_id LIMIT ?2
"""


def status(config: NodeConfig, *, answers: int) -> dict[str, Any]:
    """Plain values; None for what only a market database would know. Raises `Refused`."""
    told = bid_trial.settings(config)
    books = bid_trial.books(config, told)
    address = addresses.encode(Keystore(config.keys).info("provider").public_key)
    found: dict[str, Any] = {
        "address": address,
        "pricing": "linear" if config.provider is None else config.provider.pricing,
        "promised": sum(one.lease is None for one in books.reservations),
        "let": sum(one.lease is not None for one in books.reservations),
        "used_permille": books.utilisation(),
        "market": False,
        "registered_at_ms": None,
        "bond_ustake": None,
        "earned_ucredit": None,
        "leases": None,
        "answers": None,
    }
    try:
        connection = view(config.market_home / DATABASE)
    except Refused:
        return found
    try:
        return found | _known(connection, address, answers)
    except sqlite3.Error as error:
        raise Refused("market.unreadable", f"{config.market_home / DATABASE}: {error}") from None
    finally:
        connection.close()


def _known(connection: sqlite3.Connection, address: str, answers: int) -> dict[str, Any]:
    registered = connection.execute(_PROVIDER, (address,)).fetchone() or (None, None, None)
    rows = connection.execute(_ANSWERS, (address, answers)).fetchall()
    return {
        "market": True,
        "registered_at_ms": registered[0],
        "bond_ustake": registered[1],
        "earned_ucredit": registered[2],
        "leases": dict(connection.execute(_LEASES, (address,)).fetchall()),
        "answers": [
            {
                "answer": answer,
                "order": order,
                "group": group,
                "seen_at_ms": seen_at,
                "price_per_hour_ucredit": price,
                "serial": serial,
                "reasons": json.loads(reasons or "[]"),
                "counter_offers": json.loads(instead or "[]"),
            }
            for answer, order, group, seen_at, price, serial, reasons, instead in rows
        ],
    }
