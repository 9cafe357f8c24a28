"""The servers of the embedded stack: what each is started with."""
