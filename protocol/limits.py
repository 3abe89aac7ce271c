"""Every cap in one place: whatever a peer can make grow has its bound here."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

# Codec
TEXT_BYTES = 4 * KIB
BLOB_BYTES = 2 * MIB
LIST_ITEMS = 16_384
MESSAGE_BYTES = 4 * MIB
"""The largest message that is ever decoded."""

# Wire
FRAME_BYTES = 4 * MIB
SEND_QUEUE_BYTES = 8 * MIB
"""Bytes that may wait for one peer; beyond it the oldest are shed and counted."""
WRITE_COALESCE_BYTES = 64 * KIB
HANDSHAKE_TIMEOUT_MS = 5_000
REQUEST_TIMEOUT_MS = 10_000
REQUESTS_IN_FLIGHT = 64
"""Requests one peer may have open with us at once."""

# Gossip
GOSSIP_BATCH_WINDOW_MS = 20
GOSSIP_BATCH_ITEMS = 200
GOSSIP_BATCH_BYTES = 64 * KIB
GOSSIP_ITEM_BYTES = 32 * KIB
SEEN_ITEMS = 100_000
SEEN_MS = 120_000

# Market
ORDER_LIFE_MS = 3_600_000
BID_LIFE_MS = 120_000
BOOK_ORDERS = 50_000
BOOK_ANSWERS_PER_ORDER = 256
DECLINE_REASONS = 16
REPLY_PEERS = 4
BID_ADDRESSES = 8

# Agreement
VALIDATORS = 64
BLOCK_BYTES = 1 * MIB
BLOCK_TRANSACTIONS = 5_000
VOTES_PER_VALIDATOR = 2
"""Kept per (validator, kind, round): the first, and one that contradicts it as evidence."""
MEMPOOL_TRANSACTIONS = 20_000
MEMPOOL_BYTES = 16 * MIB

# Transactions
TX_BYTES = 128 * KIB
TX_MESSAGES = 16
TX_LIFE_MS = 120_000
TX_ID_BUCKET_MS = 10_000
MEMO_BYTES = 256

# Resources (market.md, Limits): inclusive bounds
CPU_MILLI = (10, 384_000)
GPU_UNITS = (0, 24)
MEMORY_BYTES = (1 * MIB, 2 * TIB)
VOLUME_BYTES = (5 * MIB, 32 * TIB)
REPLICAS = 50
UNITS_PER_GROUP = 20
GROUPS = 20
VOLUMES_PER_SERVICE = 4
ATTRIBUTES = 64
RECLAMATION_WINDOW_MS = (3_600_000, 720 * 3_600_000)
DEPOSITORS = 16

# Files a person hands in
SDL_BYTES = 256 * KIB
SDL_DEPTH = 64
SDL_EVENTS = 50_000
MANIFEST_BYTES = 512 * KIB
MANIFEST_LIST_ITEMS = 1_024
SDL_PROBLEMS = 64
"""How many problems of one file are reported; a person reads no more."""

# Channel
CHANNEL_FRAME_BYTES = 256 * KIB
CHANNEL_WINDOW_BYTES = 512 * KIB
"""Unacknowledged bytes one direction of a forward may have under way."""
CHANNEL_STREAMS_PER_PEER = 64
LOG_TAIL_LINES = 10_000

# Journal
JOURNAL_ENTRY_BYTES = MESSAGE_BYTES + 64 * KIB
JOURNAL_BUFFER_BYTES = 1 * MIB
"""Entries waiting for a flush beyond this are written at once, though not yet synced."""
JOURNAL_SEGMENT_BYTES = 4 * GIB
"""One height's entries; a height that writes more than this has gone wrong, and the node stops."""

# Keystore
KEY_FILE_BYTES = 16 * KIB
KEY_MEMORY_BYTES = (8 * KIB, 1 * GIB)
"""Memory that a key file may ask argon2id for."""
KEY_PASSES = (1, 16)
KEYS = 1_000
"""Key files in one folder."""

# Storage
SCAN_RECORDS = 100_000
"""Records one scan may return."""
RANGE_BLOCKS = 256
"""Blocks one range read may return, besides its limit in bytes."""
