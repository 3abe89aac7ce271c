"""The ledger: money, providers, deployments and leases, as a pure function of the blocks.

It reads through a `Store` port and never writes: executing a block yields the writes, and the node puts them
on disk in one transaction with the block. Integers and block time only; nothing here may depend on hash order,
floats, clocks or locale.
"""
