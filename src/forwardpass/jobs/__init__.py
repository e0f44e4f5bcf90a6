"""Jobs: a model run over a whole data set, resumable, each row exactly once.

In flow a data set and a model, out flow a data set of predictions, one of rows that were set aside,
and a manifest that says what became of every row. Parts are planned first and kept in a ledger;
worker processes, each with an engine of its own, take parts and commit them. Knows no server.
"""
