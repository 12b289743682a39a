"""``soar-bench drift``: is a model worse at the states of its own sampler than at ideal ones?

:mod:`~soar_bench.drift.walk` measures one batch, :mod:`~soar_bench.drift.measure` a checkpoint,
:mod:`~soar_bench.drift.figures` says with which error, and :mod:`~soar_bench.drift.show` writes and
draws it. docs/drift.md defines what is measured and how to read it.
"""
