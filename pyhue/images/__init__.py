"""Folders of images: one folder for each class, and their division into parts.

_walk (which files are images) -> scan (each is decoded once) -> splits (parts, folds)
decode (one file to pixels)    -> _rgb (what every mode of Pillow becomes)
"""

from pyhue.images.decode import decode_image, load_image
from pyhue.images.scan import Images, scan_images
from pyhue.images.splits import Splits, splits, stratified_folds

__all__ = ["Images", "Splits", "decode_image", "load_image", "scan_images", "splits", "stratified_folds"]
