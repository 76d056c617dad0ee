"""Statistics over a cohort: associations, survival, exploration, robustness, figures."""
