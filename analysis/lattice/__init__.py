"""The resampling lattice: where its points lie in the image, and the values there."""
