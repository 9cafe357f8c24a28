"""The domain: pure functions and types. No I/O, no environment, no clock."""
