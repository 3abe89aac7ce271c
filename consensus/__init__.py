"""Agreement and the ledger. Pure: one input in, an ordered tuple of effects out; the host carries them out."""
