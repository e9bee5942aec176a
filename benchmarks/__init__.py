"""Speed and quality, measured by scripts that anyone can rerun; each writes its JSON beside it."""
