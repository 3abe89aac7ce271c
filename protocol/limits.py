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
MESSAGE_ITEMS = 65_536
"""Lists and their members that one message may hold in all; a message of fewer bytes needs no counting."""
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

GOSSIP_RPC_BYTES = 1 * MIB
GOSSIP_TOPIC_BYTES = 256
GOSSIP_SUBSCRIPTIONS = 64
"""Topics one peer may subscribe to, and subscription changes one RPC may carry."""
GOSSIP_MESSAGES_PER_RPC = 1_024
GOSSIP_PENDING = 2_048
"""Messages that may wait for a verdict; beyond it newcomers are shed and counted."""
GOSSIP_QUEUE_BATCHES = 256
"""Batches of one topic that may wait for their handler."""
GOSSIP_MEMO_BYTES = 4 * MIB
"""RPCs kept with what they say: copies of a message come within moments of each other."""
GOSSIP_HEARTBEAT_MS = 1_000
GOSSIP_IDS_PER_RPC = 40_000
"""Message ids that one RPC may offer or ask for."""
GOSSIP_CACHE_BYTES = 32 * MIB
"""Messages kept for neighbours that ask for them."""
GOSSIP_ANSWER_BYTES = 4 * MIB
"""Sent to one neighbour on demand between two heartbeats; it asks again, or another."""
GOSSIP_BACKOFFS = 65_536
GOSSIP_BACKOFF_MS = 3_600_000
"""The longest time a neighbour can keep us from grafting it."""
GOSSIP_PROMISES = 65_536
GOSSIP_SCORES_RETAINED = 10_000
"""Bad scores that are remembered of neighbours that left."""
GOSSIP_SUGGESTED_PEERS = 16
"""Others that a PRUNE names."""

# Host
CONNECTIONS = 4_096
CONNECTIONS_PER_PEER = 4
CONNECTIONS_OUTBOUND = 64
"""Of all, kept for those that we dial."""
CONNECTIONS_PER_ADDRESS = 256
CONNECTIONS_PER_NETWORK = 64
"""From one /24, or one /64 of IPv6; near addresses belong to none."""
STREAMS_PER_CONNECTION = 128
"""Streams a peer may have open towards us on one connection."""
STREAM_WINDOW_BYTES = 1 * MIB
"""Received bytes of one stream that may wait for their reader."""
DIAL_TIMEOUT_MS = 5_000
UPGRADE_TIMEOUT_MS = 3_000
"""Encryption and multiplexing of an inbound connection; mute sockets hold their place no longer."""
OPEN_STREAM_TIMEOUT_MS = 5_000
HALF_CLOSED_MS = 5_000
"""A peer may keep its side of a stream open for so long after we ended ours."""
WRITE_STALL_MS = 5_000
"""A connection whose socket takes no byte for so long is closed."""
KEEPALIVE_INTERVAL_MS = 5_000
KEEPALIVE_TIMEOUT_MS = 5_000
REDIAL_MS = (100, 15_000)
"""First and longest wait before dialling again."""
PEER_FAULTS = 8
"""Faults within `PEER_FAULT_MS` that get a peer banned."""
PEER_FAULT_MS = 60_000
BAN_MS = 600_000
BANS = 10_000
CONTACTS = 4_096
"""Peers whose failed dials and ended connections a host remembers."""
SEND_QUEUE_FRAMES = 65_536
HELLO_BYTES = 1 * KIB

# Requests
RPC_STREAM_WINDOW_BYTES = 1 * MIB
"""Items of one server stream that may wait for the client's application."""
RPC_ITEM_OVERHEAD_BYTES = 64
"""Counted for every item besides its bytes, so that many tiny ones are bounded too."""

# Market
ORDER_LIFE_MS = 3_600_000
BID_LIFE_MS = 120_000
BID_SERIALS = 6
"""A bid and five improvements."""
PROVIDERS_LISTED = 1_000
LIVE_LEASES_LISTED = 10_000
"""Of one provider, to a light client."""
BOOK_ORDERS = 50_000
BOOK_ORDER_BYTES = 128 * MIB
"""Of all open orders, counted as signed, with `BOOK_ITEM_OVERHEAD_BYTES` each."""
BOOK_ORDERS_PER_TENANT = 2_500
BOOK_ORDERS_PER_PEER = BOOK_ORDERS // 2
"""Orders in the book that came from one neighbour."""
BOOK_ANSWERS = 100_000
BOOK_ANSWER_BYTES = 128 * MIB
BOOK_ANSWERS_PER_PROVIDER = 10_000
BOOK_ANSWERS_PER_PEER = BOOK_ANSWERS // 2
BOOK_ANSWERS_PER_ORDER = 256
BOOK_EARLY_ANSWERS = 8_192
"""Answers whose order is not known yet, kept until it comes."""
BOOK_EARLY_BYTES = 16 * MIB
BOOK_EARLY_PER_PROVIDER = 1_024
BOOK_EARLY_PER_PEER = BOOK_EARLY_ANSWERS // 2
BOOK_ITEM_OVERHEAD_BYTES = 512
"""Counted for every item besides its bytes, for what is kept around it."""
BOOK_REMEMBERED = 65_536
"""Ids of what is over, or was not wanted, that a book remembers, of each kind."""
BOOK_REMEMBER_MS = 120_000
"""So long after its end an id is remembered: neighbours whose chain lags may still offer it."""
BOOK_RETRY_MS = 10_000
"""Block time after which what the ledger's state did not allow is looked at again."""
BOOK_SHED_MS = 60_000
"""Block time after which what was shed may be pulled again; by then there may be room."""
DECLINE_REASONS = 16
DECLINE_COUNTER_OFFERS = 4
REPLY_PEERS = 4
BID_ADDRESSES = 8

# Agreement
VALIDATORS = 64
BLOCK_BYTES = 1 * MIB
BLOCK_TRANSACTIONS = 5_000
BLOCK_PACE_MS = 100
BLOCK_PACE_MS_PER_TRANSACTION = 10
"""Where transactions come thick, a block begins no sooner after the one below than so long for each of those
in that, up to the former: most of a block's cost is not its transactions'."""
BLOCK_EVIDENCE = 32
"""Pieces of evidence in one block; what does not fit waits for the next."""
UNBONDINGS = 16
"""Amounts of one validator that may be on their way out at once."""
PARAMETER_CHANGES = 64
EVIDENCE_BYTES = 32 * KIB
"""The largest is a light-client attack on 64 validators: two headers, two rows of signatures, one set."""
VOTES_PER_VALIDATOR = 2
"""Kept per (validator, kind, round): the first, and one that contradicts it as evidence."""
FORENSIC_VOTES = 500_000
"""Different votes of one height that are looked through for misbehaviour."""
FORK_BYTES = 64 * KIB
"""Two headers of a height with their signatures and sets, as a light client reports them."""
EVIDENCE_PENDING = 256
"""Pieces of evidence a node keeps until they are in a block."""
VERIFIED_SIGNATURES = 4_096
"""Good signatures remembered, so that a vote met again in a certificate is not verified again."""
COMMIT_REPLIES = 256
"""Peers a height remembers having answered with the last commit certificate."""
MEMPOOL_TRANSACTIONS = 20_000
MEMPOOL_BYTES = 16 * MIB
MEMPOOL_ACCOUNT_TRANSACTIONS = 256
MEMPOOL_ACCOUNT_BYTES = 1 * MIB
"""Of one account, so that it takes many to fill a mempool."""
MEMPOOL_LATER = 500
MEMPOOL_RECHECKS = 256
"""Transactions checked again after one block, at most; the others wait for the next, or until proposed."""
MEMPOOL_SWEEP = 64
"""How many of those are looked at in turn, though nothing says that the block has to do with them."""
MEMPOOL_KNOWN = 32_768
"""Transactions of which a node remembers that they were included, or why they were refused."""
VERIFIED_AT_ONCE = 64
"""Signatures that a thread checks in one go; a burst is split into so many."""
VERIFIED_INLINE = 32
"""So few, 2 ms of them, are checked where they are: handing the interpreter to a thread and back costs more."""

# Transactions
TX_BYTES = 128 * KIB
TX_MESSAGES = 16
TX_LIFE_MS = 120_000
TX_ID_BUCKET_MS = 10_000
INCLUSIONS = 20_000
"""Recent transactions whose outcome a node remembers."""
CLOCK_SLACK_MS = 30_000
"""How far a message's times may lie beyond a node's newest block: idle chains make few blocks."""
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
RESERVATIONS_PER_TENANT = 32
"""Reservations (not leases) one tenant may hold at one provider."""
RESERVATIONS = 4_096
RECLAMATION_WINDOW_MS = (3_600_000, 720 * 3_600_000)
DEPOSITORS = 16
GRANTS = 64
"""Spending grants that one account may have given at a time."""
GRANT_LIFE_MS = 366 * 86_400_000
GRANTS_FORGOTTEN_PER_BLOCK = 500
LEASE_GENERATIONS = range(1, 256)
"""Of leases that took another one's place: so often may a group of a deployment change its provider."""
RETIREMENT_LEASES = 16
"""That one message of a retiring provider ends at most."""

# Trust
AUDITORS_PER_PROVIDER = 32
"""Auditors whose word on one provider is kept at once."""
AUDITORS_PER_PLACEMENT = 16
"""Auditors that one group may name in each of all_of and any_of."""
ATTESTATION_LIFE_MS = 366 * 86_400_000
"""An auditor looks again after a year at the latest."""
ATTESTATIONS_FORGOTTEN_PER_BLOCK = 500
AUDITOR_ALIASES = 1_000
"""Foreign addresses that genesis, or a file of one's own, may give a meaning to."""

# Governance and templates
PROPOSALS_OPEN = 16
"""Proposals voted on at once; each stake that grows is noted for every one of them."""
PROPOSAL_TITLE_BYTES = 128
PROPOSAL_TEXT_BYTES = 2 * KIB
PROPOSALS_PER_BLOCK = 4
"""Proposals that are decided or forgotten in one block at most; the rest follow in the next."""
PROPOSAL_KEPT_MS = 7 * 86_400_000
"""So long after its end it stays on the ledger; older headers prove it from then on."""
BALLOTS_FORGOTTEN_PER_BLOCK = 200
TEMPLATE_TITLE_BYTES = 128
TEMPLATE_FORKS = 4
"""How many times over a template may be made of another one."""
ROYALTY_BASIS_POINTS = 2_000
"""Of a payment, for all authors of a template together."""

# Files a person hands in
SDL_BYTES = 256 * KIB
SDL_DEPTH = 64
SDL_EVENTS = 50_000
MANIFEST_BYTES = 512 * KIB
MANIFEST_LIST_ITEMS = 50_000
SDL_PROBLEMS = 64
"""How many problems of one file are reported; a person reads no more."""

# Channel
CHANNEL_FRAME_BYTES = 256 * KIB
CHANNEL_WINDOW_BYTES = 512 * KIB
"""Unacknowledged bytes one direction of a forward may have under way."""
CHANNEL_HELLO_BYTES = 1 * KIB
CHANNEL_REQUEST_BYTES = MANIFEST_BYTES + 64 * KIB
"""A request carries a whole sealed manifest."""
CHANNEL_ITEM_OVERHEAD_BYTES = 64
"""Counted for every data frame besides its bytes, so that many tiny ones are bounded too."""
CHANNEL_NONCES = 16_384
"""Nonces of proven tenants that a provider remembers, the newest."""
CHANNEL_STREAMS = 1_024
"""Calls a provider serves at once, of all peers."""
CHANNEL_STREAMS_PER_PEER = 64
EXECS = 64
"""Commands a provider runs inside workloads at once; each costs a small process beside the command."""
EXECS_PER_LEASE = 8
EXEC_ARGUMENTS = 1_024
EXEC_ARGUMENT_BYTES = 128 * KIB
EXEC_VARIABLES = 128
EXEC_VARIABLE_BYTES = 32 * KIB
HANDOFFS_AT_ONCE = 16
"""Workloads being brought up at once; further ones wait their turn."""
HANDOFF_FILE_BYTES = 2 * CHANNEL_REQUEST_BYTES  # while an update comes up, with the one before
HTTP_BODY_BYTES = 16 * MIB
"""The longest answer that a GET through the channel collects in memory."""
LOG_FOLLOWERS_PER_LEASE = 8
"""Of its logs, events and usage together."""
LEASE_EVENTS = 256
"""Of one lease, the newest, that its provider keeps."""
LEASE_EVENT_BYTES = 1 * KIB
"""The longest one; its detail is cut to a quarter of it."""
LOG_TAIL_LINES = 10_000
PROGRESS_ITEMS = 256
"""Progress kept of one lease's hand-off, the newest."""
PROBE_TIMEOUT_MS = 30_000
"""Time a service has to accept connections after its start."""

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

# Sync
SYNC_BATCH_BLOCKS = 50
SYNC_BATCH_BYTES = 1 * MIB

# Snapshots and pruning
KEEP_BLOCKS = 100
"""A node keeps so many blocks at least, for peers that are a little behind."""
PRUNED_PER_BLOCK = 100
"""Old blocks that are deleted with each new one, at most."""
SNAPSHOT_CHUNK_BYTES = 1 * MIB
SNAPSHOT_CHUNK_ENTRIES = 8_192
"""Records and ids in one chunk, since a message may hold only so many parts."""
SNAPSHOT_CHUNKS = 16_384
SNAPSHOTS_LISTED = 8
"""Snapshots that one peer may offer."""
SNAPSHOT_REQUESTS = 4
"""Chunks fetched at once."""

# Market database
MARKET_HEARD = 10_000
"""Orders and answers heard that may wait to be logged; beyond it newcomers are shed and counted."""
MARKET_STEP_BLOCKS = 50
"""Blocks logged and indexed between two looks at whether the node shall stop."""
MARKET_EVENTS_KEPT = 256
"""Blocks whose events are logged, before they are deleted from the chain's database, all at once."""
MARKET_LOG_BYTES = 4 * GIB
"""What the event log may take; beyond it its oldest quarter goes."""
MARKET_ROWS = 1_000
"""Rows of one answer."""
MARKET_QUERY_MS = 2_000
"""Time one question may take."""
MARKET_QUERIES = 8
"""Questions answered at once."""
WHY_CANDIDATES = 20
"""Ids shown for a prefix that many have."""
WHY_EVENTS = 200
"""Events in one causal chain; beyond it those in the middle are left out."""

# Agreement at its host
AGREEMENT_INBOX = 4_096
"""Consensus messages waiting for the engine; beyond it a node drops what its peers will say again."""
JOURNAL_HEIGHTS = 1_000
"""Segments of the journal that are kept behind the newest."""

# Ledger
SUPPLY = 10**18
"""All the credits, or stake, a chain may ever hold, in millionths: every sum of money stays far below 2^63."""
BLOCK_TIME_MS = 2**53
"""The last moment a ledger knows, some 285,000 years away: moments beyond it are never."""
BLOCK_WORK = 10_000
"""Work of one block: 1 a transaction, and for each message what it weighs (`MESSAGE_WORK`)."""
MESSAGE_WORK = 25
"""Of a message that loads a deployment or checks signatures; 1 for any other. A lease opened counts each bid."""
DEPLOYMENT_UNITS_BYTES = GOSSIP_ITEM_BYTES
"""Resources offered in all leases of one deployment: they are read again whenever one of its leases is touched."""
RECORDS_DECODED_BYTES = 1 * MIB
"""Records kept decoded, counted in the bytes they came in; in memory they take up to twenty times as many."""
TRANSACTIONS_DECODED_BYTES = 1 * MIB
"""Transactions kept decoded, counted likewise."""
ORDERS_JUDGED_BYTES = 1 * MIB
"""Orders with their bids whose signatures and limits were found good, counted likewise."""
MEMO_ITEM_OVERHEAD_BYTES = 64
"""Counted for every such item besides its bytes, so that many tiny ones are bounded too."""

# Genesis
GENESIS_BYTES = 64 * MIB
"""A genesis document; what is larger begins with records in a file of their own."""
GENESIS_RECORD_BYTES = MESSAGE_BYTES
"""The largest record of the state that a chain begins with; its key counts, too."""
GENESIS_BATCH_RECORDS = 5_000
"""Records that are put into the tree together when a chain begins; what an import takes in memory."""

# Light client
PROOF_STEPS = 64
"""Headers on the way of one proof: bisecting from genesis takes about as many as the set changed by a third."""
BACKWARD_HEADERS = 1_000
"""How far down a light client follows hashes."""
LIGHT_BLOCKS_KEPT = 64
"""Verified headers a light client remembers, to compare what other nodes show."""
TRUST_FILE_BYTES = 64 * KIB
WITNESS_MS = 3_000
"""Time that other nodes have to confirm a header before something that cannot be taken back."""
