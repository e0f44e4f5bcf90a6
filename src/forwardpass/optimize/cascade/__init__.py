"""When a small model should ask a large one: confidence, temperature and threshold, from labelled rows.

    answers of both ─► one half: temperature, threshold ─► the other half: what it costs ─► report, cascade folder

Rows that were used to choose never judge. Knows no server and no network.
"""
