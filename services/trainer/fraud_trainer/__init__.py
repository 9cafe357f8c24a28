"""The trainer: from labelled transactions to a gated, registered model version."""
