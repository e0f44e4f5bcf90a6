"""The registry: which models there are, which versions each has, and where their files lie."""

from forwardpass.registry.digest import digest_files
from forwardpass.registry.files import ModelFiles, ModelLocation, find_model, locate_models, read_model

__all__ = ["ModelFiles", "ModelLocation", "digest_files", "find_model", "locate_models", "read_model"]
