"""Files in, arrays out: sources, expectations and quarantine, splits, transforms."""
