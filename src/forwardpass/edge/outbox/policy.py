"""What an outbox that is full lets go of first. SQL over its table, and nothing that changes anything.

1. what the server refused and was set aside, oldest first
2. samples, those that the model was sure of first, then the others; the oldest of equals
3. escalations past their time
4. records, oldest first
5. escalations that could still be asked about, oldest first

Usage is never dropped, not even where it was refused: where it alone is over the bound, the outbox grows and says so.
"""

from __future__ import annotations

CREDIBLE = 1_735_689_600  # 2025-01-01: a clock that shows less was never set

# Seconds since an entry was made. Of another start of the machine, the time of day must be believed, where it can be:
# it is certainly not less than what this start has lasted.
AGE = f"""(CASE WHEN boot = :boot THEN :up - up
    ELSE max(:up, CASE WHEN at >= {CREDIBLE} THEN :now - at ELSE 0 END) END)"""
EXPIRED = f"(most_age IS NOT NULL AND {AGE} >= most_age)"

DROPPED = (  # which entries, and in which order
    ("aside IS NOT NULL AND kind <> 'usage'", "number"),
    ("kind = 'sample'", "useful, number"),
    (f"kind = 'escalation' AND {EXPIRED}", "number"),
    ("kind = 'record'", "number"),
    ("kind = 'escalation'", "number"),
)
