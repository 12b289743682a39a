"""Objectives, a module each: formulas as pure functions, and the class that the loop asks.

``flow`` is the rectified flow that all stand on, ``objective`` what the loop asks of each,
``on_rollouts`` what those on the model's own images share; ``make`` leads from settings to one.
"""
