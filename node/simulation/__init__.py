"""The seeded world: the real engine and codec, a heap of events, and faults drawn from one seed."""
