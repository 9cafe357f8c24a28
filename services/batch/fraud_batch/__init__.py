"""Batch prediction: scores files and intervals of stored transactions, with any model version."""
