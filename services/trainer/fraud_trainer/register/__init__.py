"""`register`: the version in the registry, its aliases, and the way back."""
