"""How two order books become one: digests to compare, rounds to pull what is lacking, and shares of the room.

Pure: who is asked, when, and over which stream is the node's affair (`node.book`). An item is known by the first
16 bytes of the hash of what its author signed, so one content has one id whatever signature it carries.
"""
