"""Frozen feature spaces: reduction, fitting, files."""
