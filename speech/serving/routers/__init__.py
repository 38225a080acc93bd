"""Holds the routes of the HTTP API, one module a group.

In: requests.
Out: responses.
"""
