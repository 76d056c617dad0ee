"""Arithmetic on masks: growing and shrinking, axes, agreement of two."""
