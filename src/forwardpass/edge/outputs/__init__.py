"""Outputs of the agent: where predictions go, and what the rules of a model have done about them.

In flow messages (what JSON can say), out they go to a broker, a URL, a file or a program, each from a
bounded queue of its own, so that none can delay a prediction. One file per kind behind the contract
in ``base.py``. Knows no model, and nothing of where predictions come from.
"""

from forwardpass.edge.message import message_of
from forwardpass.edge.outputs.actions import Actions
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.create import create_output

__all__ = ["Actions", "Output", "create_output", "message_of"]
