"""`load`: labelled transactions from Postgres, a file or a topic."""
