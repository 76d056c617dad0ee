"""Research runs over a cohort: tables in, analyses, tidy tables and provenance out."""
