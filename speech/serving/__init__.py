"""Serves models over HTTP and WebSocket, and the page.

In: requests.
Out: responses in the forms of `schemas`.
"""
