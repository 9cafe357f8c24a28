"""Feedback: what people and banks report about decisions, and what follows from it."""
