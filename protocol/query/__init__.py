"""The one query language: for offers, bids, providers and rules files, in commands, the SDK and the API alike.

    gpu.model in [h100, h200] and price < 2.5 and region = us-* and audited by Acme and latency.p95 < 50
    gpu.ram in 24GB..80GB (region = eu-* or region = us-*) not tee = sgx

    query = parse(text, BIDS)           # Refused with the place of what is wrong
    matches(query, subject)             # subject: what is known of one offer, bid or provider
    failures(query, subject)            # why not: one line for each comparison that turned it down

| word | meaning |
|---|---|
| `a and b`, `a b` | both; `and` may be left out |
| `a or b` | either; binds less than `and` |
| `not a`, `(a)` | as usual |
| `= != < <= > >=` | text is compared without regard to case, and `*` stands for any run of characters |
| `in [x, y]` | any of them |
| `in x..y` | from x to y, both included; either may be left out |
| `audited by NAME` | NAME is among those who attest it; `audited` alone: anybody is |

A field that holds several values, such as the models of GPUs, matches if one of them does. What is not known of a
subject is neither true nor false: it matches no comparison and no comparison's contrary.
"""

from fondaco.protocol.query.evaluate import Subject, compiled, failing, failures, matches
from fondaco.protocol.query.fields import BIDS, OFFERS, PROVIDERS, Field, Kind, Schema
from fondaco.protocol.query.parser import parse
from fondaco.protocol.query.syntax import And, Comparison, Not, Or, Query, fields_of

__all__ = [
    "BIDS",
    "OFFERS",
    "PROVIDERS",
    "And",
    "Comparison",
    "Field",
    "Kind",
    "Not",
    "Or",
    "Query",
    "Schema",
    "Subject",
    "compiled",
    "failing",
    "failures",
    "fields_of",
    "matches",
    "parse",
]
