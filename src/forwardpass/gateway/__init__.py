"""The gateway: models that are elsewhere, and models made of others, behind the same doors as any.

    request ─► a queue as any model has (scheduler) ─► remote: a batch to the least busy of several servers
                                                     └► cascade: rows to the first member, the unsure ones further

``compose`` is handed to the control plane, which calls it for a model without an artifact. Runs on devices too: knows
no web library, only asyncio's streams and h11.
"""
