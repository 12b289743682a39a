"""``soar-bench report``: records as one folder that a browser opens from disk.

``boards`` says what stands beside what, ``words`` and ``plots`` how it is told, ``pictures`` and
``samples`` fill the gallery, ``page`` puts it together. Imports no torch.
"""
