"""Offline DeepAugment: distorted copies of a folder of images."""
