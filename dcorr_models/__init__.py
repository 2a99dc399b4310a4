"""Reference trainers for disentangled representations, on top of `dcorr`."""
