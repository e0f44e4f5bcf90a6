"""Who does the parts of a job: worker processes here, or actors of a Ray cluster.

``create_crew`` picks; each takes parts from the ledger and says what became of them.
"""
