"""Segmentations as masks on the grid of their image."""
