"""What images and workloads may cost the machine that they come to."""

from __future__ import annotations

from fondaco.protocol.limits import GIB, KIB, MIB

# Images
IMAGE_MANIFEST_BYTES = 4 * MIB
"""Largest manifest, index or image configuration that is read."""
IMAGE_LAYERS = 127
IMAGE_ENTRIES = 1_000_000
"""Files, directories and links in all layers of one image."""
IMAGE_UNPACKED_BYTES = 32 * GIB
IMAGE_PATH_BYTES = 4_095
IMAGE_PATH_DEPTH = 200
"""Directories inside each other: removing them again takes a call of a function for each."""
IMAGE_HEADER_BYTES = 256 * KIB
"""Extended tar headers of one file: long names, PAX records."""
IMAGE_SYMLINK_HOPS = 40

# Workloads
WORKLOAD_PIDS = 512
"""Processes and threads of one workload, where its specification says nothing."""
WORKLOAD_OPEN_FILES = 4_096
WORKLOAD_TMPFS_BYTES = 64 * MIB
"""/tmp, /run and /dev/shm of one workload: each is memory."""
WORKLOAD_LOG_FILE_BYTES = 2 * MIB
WORKLOAD_LOG_FILES = 4
"""Rotated log files kept of one workload, the current one included."""
WORKLOAD_LOG_LINE_BYTES = 16 * KIB
"""A longer line is cut into parts."""
WORKLOAD_EXEC_OUTPUT_BYTES = 1 * MIB
"""Kept of each stream of an executed command; the rest is read and dropped."""
WORKLOAD_BOUND_PATHS = 512
"""Of an image, one by one, where a runner cannot add a mount point to the whole of it."""
WORKLOAD_ENV_BYTES = 128 * KIB
WORKLOAD_START_TIMEOUT_MS = 10_000
WORKLOAD_DIAL_TIMEOUT_MS = 2_000

# What a lease's services reach of each other
LEASE_LINKS = 1_024
"""Ports of others that its replicas may dial, those of each replica counted."""

# Registries
IMAGE_LAYER_BYTES = 16 * GIB
"""One layer, as it comes."""
IMAGE_CACHE_BYTES = 64 * GIB
"""What images and what was downloaded for them may take on the disk, where the operator says nothing."""
IMAGE_PULLS = 6
"""Images being pulled at once; more wait."""
IMAGE_STREAMS = 3
"""Layers of one image being downloaded at once."""
IMAGE_PULL_TIMEOUT_S = 1_800
REGISTRY_CONNECT_S = 10
REGISTRY_READ_S = 30
"""Without a byte from a registry."""
REGISTRY_ATTEMPTS = 4
"""At one request, before the registry counts as unreachable."""
REGISTRY_RETRY_S = (0.5, 30.0)
"""First and longest pause between attempts; a registry may ask for one up to the longest."""
REGISTRY_REDIRECTS = 5
REGISTRY_TOKEN_BYTES = 64 * KIB
REGISTRY_CHUNK_BYTES = 1 * MIB
"""Written and hashed at a time."""
REGISTRY_CHUNK_S = 60
"""For such a part to come, or the connection counts as torn: pulls are few at once, and nobody may sit on one."""
