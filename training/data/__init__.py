"""Captioned images to train on: found, checked, ordered, and encoded once.

``records`` and the forms (``forms``, ``tars``, ``saved``) list what there is, ``checking`` reads it
all, ``views`` cuts images into sizes, ``order`` says which samples a step sees, ``encoding`` makes
what the objective needs. See docs/data.md.
"""

from training.data.forms import METADATA_FILE, ImageFolder, open_listing
from training.data.records import Fault, Listing, Source

__all__ = ["METADATA_FILE", "Fault", "ImageFolder", "Listing", "Source", "open_listing"]
