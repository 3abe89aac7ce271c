"""How large a query may be."""

QUERY_CHARACTERS = 4_096
QUERY_DEPTH = 32
"""Brackets and `not` within each other."""
QUERY_NUMBER_CHARACTERS = 32
