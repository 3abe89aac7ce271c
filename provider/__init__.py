"""A provider: decides what to bid, runs what it leased. The world comes in through `ports`."""
