"""The HTTP door: bytes to rows, rows to bytes.

Predict requests take the fast lane on the parser's callbacks (``connection``); everything else is
an ordinary ASGI application (``app``) behind the same port.
"""
