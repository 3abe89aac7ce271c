"""Messages and rules every party shares. Pure: bytes in, values out, no I/O, no clock, no randomness."""
