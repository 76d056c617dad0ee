"""PyRadiomics' features, computed faster with the same bits."""
