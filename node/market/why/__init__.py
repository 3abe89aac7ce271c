"""`fondaco why ID`: from what somebody said to what came of it, each step with who signed it.

message -> certificate -> block -> events; and what this node heard meanwhile
"""

from __future__ import annotations

from fondaco.node.market.why.chains import why
from fondaco.node.market.why.find import Ambiguous, Candidate, find
from fondaco.node.market.why.sources import Sources
from fondaco.node.market.why.steps import Answer, Step, as_text

__all__ = ["Ambiguous", "Answer", "Candidate", "Sources", "Step", "as_text", "find", "why"]
