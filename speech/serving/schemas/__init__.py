"""Defines what requests ask for and what responses contain.

In: parameters of requests.
Out: typed options and response bodies.
"""
