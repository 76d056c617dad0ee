"""The structured reports, written and read back."""
