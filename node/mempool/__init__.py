"""Transactions waiting for a block: checked on the way in, bounded, fair between accounts; decision 0025.

mempool = Mempool(chain)
mempool.add(raw)                        # one, here and now: raises why not
await mempool.add_many(items)           # a batch of gossip: signatures are checked in threads
chain.ledger.prepare_proposal(candidates=mempool.candidates(), ...)
"""

from fondaco.node.mempool.pool import Mempool, Outcome

__all__ = ["Mempool", "Outcome"]
