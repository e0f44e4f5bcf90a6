"""The server: models loaded in workers, a data plane that answers for them, and doors to it.

In flow requests in a protocol's own words, out flow answers in the same. ``dataplane`` answers,
``control`` loads and unloads, ``http`` is a door.
"""
