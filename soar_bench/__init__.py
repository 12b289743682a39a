"""soar-bench: is a text-to-image checkpoint really better?"""

__version__ = "0.1.0"
