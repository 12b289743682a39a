"""Tiny weights in the published file layouts, and what the evaluators make of them.

The files are written from a formula, so nothing binary has to travel, and read by the same code
that reads the published ones. ``soar-bench doctor`` scores with them, and so do the tests.
"""
