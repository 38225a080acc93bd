"""Defines the absl flags that several doors share, and turns them into settings.

In: absl's FLAGS, read by a door's main.
Out: frozen dataclasses.
"""
