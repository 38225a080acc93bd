"""Holds the routes of the HTTP API. Each module's `router` makes those of one group.

The name of a route's function is a part of its operation id in /openapi.json.

In: requests.
Out: responses.
"""
