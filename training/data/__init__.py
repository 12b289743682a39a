"""Captioned images to train on: listed, checked, ordered, and encoded once.

``records`` and the forms (``forms``, ``tars``, ``saved``) list the records of a data set,
``checking`` reads them all, ``views`` crops images to sizes, ``order`` says which samples a step
sees, ``encoding`` makes the tensors that the objective needs. See docs/data.md.
"""

from training.data.forms import METADATA_FILE, ImageFolder, open_listing
from training.data.records import Fault, Listing, Source

__all__ = ["METADATA_FILE", "Fault", "ImageFolder", "Listing", "Source", "open_listing"]
