"""Which bid a tenant takes, and why.

A strategy is a pure function of the group that was asked for, the bids that qualify, and what is known of the
bidders; it scores, lower is better, and says why. `rank` does the rest: it sets aside what cannot be taken or does
not fit the tenant's own query, keeps each provider's latest word, and breaks ties by the hash of the bid, so that
being first on the wire wins nothing.

    ranking = rank(group, candidates, now=now, strategy=STRATEGIES["balanced"], known=known, where=query)
    ranking.best, ranking.explain()
"""

from fondaco.protocol.selection.candidates import Candidate, Offered, candidate, show_credits
from fondaco.protocol.selection.facts import NOTHING_KNOWN, Knowledge, ProviderFacts, ProviderSubject
from fondaco.protocol.selection.latency import Latency, Sample, summarise, worst
from fondaco.protocol.selection.ranking import Ranked, Ranking, SetAside, rank
from fondaco.protocol.selection.rules import Rules, read_rules
from fondaco.protocol.selection.stock import Stock
from fondaco.protocol.selection.strategies import STRATEGIES, Score, Strategy, Weights, balanced

__all__ = [
    "NOTHING_KNOWN",
    "STRATEGIES",
    "Candidate",
    "Knowledge",
    "Latency",
    "Offered",
    "ProviderFacts",
    "ProviderSubject",
    "Ranked",
    "Ranking",
    "Rules",
    "Sample",
    "Score",
    "SetAside",
    "Stock",
    "Strategy",
    "Weights",
    "balanced",
    "candidate",
    "rank",
    "read_rules",
    "show_credits",
    "summarise",
    "worst",
]
