"""Holds the routes of the HTTP API. Each module's `router` defines one group of routes.

The name of a route's function is a part of its operation id in /openapi.json.

In: requests.
Out: responses.
"""
