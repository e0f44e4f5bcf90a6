"""Inputs of the agent: what comes in on a device by another way than HTTP.

In flow messages, files, lines and pictures, out flow rows (V1 instances) to the predictor, each
with its source. One file per kind behind the contract in ``base.py``; ``create_input`` loads the one
that ``agent.yaml`` names. Knows no model, and nothing of where answers go.
"""

from forwardpass.edge.inputs.base import Input, Predict
from forwardpass.edge.inputs.create import create_input

__all__ = ["Input", "Predict", "create_input"]
