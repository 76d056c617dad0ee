"""``mirv demo``: a synthetic patient through the whole line."""
