"""The stream consumer: records become stored decisions and labels, none lost, none doubled."""
