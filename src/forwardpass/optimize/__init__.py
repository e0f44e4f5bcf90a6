"""Faster versions of a model behind a measured gate: make candidates, measure each, keep the best that passes."""
