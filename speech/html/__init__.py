"""Renders HTML pages from templates, and draws their charts.

In: values and templates of other rooms.
Out: HTML pages; charts as inline SVG.
"""
