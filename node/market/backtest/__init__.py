"""What a way of choosing would have done: recorded orders and bids, decided again under the time of then.

    recording = Recording(connection)
    report = replay(recording, strategy, since=..., where=query)

A strategy is given what could be known at the moment of each decision, and nothing later: attestations that were
there, outages that had been. What came of the provider it chose is only then looked up.
"""

from fondaco.node.market.backtest.deciding import Report, replay
from fondaco.node.market.backtest.recording import Recording

__all__ = ["Recording", "Report", "replay"]
