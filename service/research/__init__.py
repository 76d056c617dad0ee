"""Results read back: selected, pseudonymised, analysed as a cohort."""
