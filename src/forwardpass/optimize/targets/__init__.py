"""Where models are measured: on this machine, or on another over SSH.

    Order (a model, rows, for how long) ─► Target ─► Measured, and a file of predictions

    base      what a target is              local     a process here
    ssh       another machine               payload   which files of a model travel there
    link      what both ends say            connection, far   the near and the far end

Knows no candidates and no gate.
"""

from forwardpass.optimize.targets.base import Host, Order, ProbeFailed, Target, TargetFailed

__all__ = ["Host", "Order", "ProbeFailed", "Target", "TargetFailed", "create_target"]


def create_target(text: str, python: str = "python3") -> Target:
    """``local``, or ``[user@]host[:port]``, where ``python`` is the shell's words that start Python there.

    Raises ``InvalidInput`` where the text is no host. Nothing is connected yet.
    """
    from forwardpass.optimize.targets.local import Local
    from forwardpass.optimize.targets.ssh import Ssh, parse_address

    return Local() if text == "local" else Ssh(parse_address(text), python)
