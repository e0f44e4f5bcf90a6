"""Message classes of the Open Inference Protocol, generated from ``inference.proto``. Do not edit."""
