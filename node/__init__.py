"""Everything that touches the world: network, disk, clock, keys, processes, and the command line."""
