"""`market.metadata.json`, next to the database: what Datasette shows of tables and columns, and the canned
queries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fondaco.node.files import write_atomically
from fondaco.node.market.queries import QUERIES
from fondaco.node.market.schema import TABLES


def metadata(database: str) -> dict[str, Any]:
    """For `datasette DATABASE.db -m FILE`."""
    return {
        "title": "fondaco market",
        "description": "What one node knows of its market. Money is ucredit, moments are milliseconds since 1970.",
        "databases": {
            database: {
                "tables": {
                    table.name: {
                        "description": f"{table.meaning} [{table.source}]",
                        "columns": {column.name: column.meaning for column in table.columns},
                    }
                    for table in TABLES.values()
                },
                "queries": {
                    name: {
                        "title": query.title,
                        "description": query.meaning,
                        "sql": query.sql.strip(),
                        "params": list(query.params),
                    }
                    for name, query in QUERIES.items()
                },
            }
        },
    }


def metadata_path(database: Path) -> Path:
    return database.with_name(f"{database.stem}.metadata.json")


def write_metadata(database: Path) -> None:
    """Put it beside a database."""
    text = json.dumps(metadata(database.stem), indent=2)
    path = metadata_path(database)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text.encode(), 0o644)
