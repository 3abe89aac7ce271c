"""Ways to a peer that is not simply dialled: through a relay, and by asking others where it is."""
