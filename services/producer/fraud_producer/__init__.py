"""The producer: a simulator with known difficulty, replay of files, and labels when they are due."""
