"""The jobs that a server takes: kept in a file, run beside it one after the other, shown to callers.

Also batches of requests in the shape of OpenAI's API. Knows no HTTP: the server is handed this by ``cli``.
"""
