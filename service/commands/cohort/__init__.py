"""``mirv cohort``: the papers' analyses on tables."""
