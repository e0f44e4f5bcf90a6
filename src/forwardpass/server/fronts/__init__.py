"""Several fronts for machines of many cores: processes that listen on the same port.

The first front holds the control plane: it starts workers, and hands a link of each to every other
front, which has its own doors and queues (``follower``). What is not a prediction the others relay to
the first. ``fronts`` is the first one's handle on the others.
"""
