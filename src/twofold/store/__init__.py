"""Where model files live on this machine, which ones are known by name, and how a known one gets here."""
