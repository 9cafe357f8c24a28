"""Feedback: the cases that wait, what people and banks report, and what their reports are worth."""
