"""Offline DeepAugment: distorted copies of a folder of images, and the conversion of its weights."""
