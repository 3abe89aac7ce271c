"""A process that freed large blocks is small again, whatever sizes came before."""

import pytest
from tests.support.children import run

from fondaco.node.memory import c_function

SCRIPT = """
import sys
import psutil
from fondaco.node.memory import return_freed_memory

if sys.argv[1] == "told":
    assert return_freed_memory()
first = bytearray(16 * 2**20)
del first  # the habit: from now on blocks up to this size come from the heap
before = psutil.Process().memory_info().rss
blocks, kept = [], []
for _ in range(64):
    blocks.append(bytearray(b"x" * 2**20))
    kept.append(bytearray(b"x" * 50_000))
del blocks
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


@pytest.mark.skipif(c_function("mallopt") is None, reason="the C library has no mallopt")
def test_large_blocks_go_back_to_the_system_though_small_ones_lie_between_them() -> None:
    assert int(run(SCRIPT, "told").strip()) < 8
    assert int(run(SCRIPT, "not").strip()) > 32, "else there is no reason for this"


def test_a_function_that_the_c_library_has_not_is_none() -> None:
    assert c_function("no_such_function") is None
