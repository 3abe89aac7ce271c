"""fondaco: an open market for compute without a middleman.

The four packages live at the top of the repository and are linked here:

========== ==============================================================
protocol   messages, codec, signatures, SDL, gossip: pure, no I/O
consensus  agreement and the ledger: pure, no I/O
provider   bidding and running workloads, behind ports
node       everything that touches the world, and the command line
========== ==============================================================
"""

__version__ = "0.1.0"
