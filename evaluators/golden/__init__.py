"""Tiny weights in the published file layouts, and the evaluators' values with them.

The files are written from a formula, so that no binary is packaged, and read by the code that reads
the published ones. ``soar-bench doctor`` and the tests score with them.
"""
