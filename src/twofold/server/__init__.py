"""HTTP: the protocols that clients speak, over one `Serving`."""
