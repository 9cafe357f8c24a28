"""Model versions: loaded, exported, registered, and the runs that made them."""
