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
IMAGE_HEADER_BYTES = 1 * MIB
"""One extended tar header: long names, PAX records."""
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
