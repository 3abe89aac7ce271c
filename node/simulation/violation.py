"""What a run of the simulator can end with."""


class Violation(AssertionError):
    """The simulated world broke a promise; the message says where."""
