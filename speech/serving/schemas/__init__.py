"""Defines the options of requests and the bodies of responses.

In: parameters of requests.
Out: typed options and response bodies.
"""
