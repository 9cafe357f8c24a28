"""The stream consumer: stores each record's decision or label exactly once."""
