"""One study from objects to results, with or without a network."""
