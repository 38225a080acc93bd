"""Writes the parts that HTML pages share: document, style sheet, charts.

In: tables and series of numbers.
Out: HTML and SVG as text.
"""
