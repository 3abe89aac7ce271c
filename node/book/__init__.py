"""The order book: open orders, and what providers answered. Bounded, and emptied by block time."""

from fondaco.node.book.book import Book
from fondaco.node.book.entries import Entry, Place, said
from fondaco.node.book.reconcile import Reconciler

__all__ = ["Book", "Entry", "Place", "Reconciler", "said"]
