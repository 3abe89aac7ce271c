"""Services on disk, and which bids their replicas may take."""

from __future__ import annotations
