"""Starting, probing and supervising processes."""
