"""What a node counts and measures, as Prometheus reads it: `/metrics` of the API.

Nothing is counted here: at each scrape the counters that the parts keep anyway are read once. Labels are topics,
kinds, reasons and codes, all words of our own; a peer is never one, for those `fondaco net peers` is.

    model        a metric, and a reading of it      network, gossip, market, chain, machine   the metrics by area
    exposition   all of them as text
"""
