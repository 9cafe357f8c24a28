"""Dead letters: published, listed, and put back on the topic they came from."""
