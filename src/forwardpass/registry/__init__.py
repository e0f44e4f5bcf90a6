"""The registry: which models there are, which versions each has, and where their files lie."""

from forwardpass.registry.files import ModelFiles, ModelLocation, find_model, locate_models, read_model

__all__ = ["ModelFiles", "ModelLocation", "find_model", "locate_models", "read_model"]
