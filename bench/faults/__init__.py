"""Overload and faults, as figures: each module breaks a served model in one way and says what it cost.

``python -m bench.faults NAME`` runs one, ``all`` runs all and writes ``docs/faults.md``. Reading
order: ``figure`` (what is shown, against which bound), ``fault`` (how servers are started and how
long it goes on), ``numbers`` (requests whose answers can be told apart), ``watch`` (memory and
files of processes), then one module per fault. Talks to Forwardpass as a client does.
"""
