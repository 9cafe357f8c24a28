"""The rollout: validates a model version, and drives its release by canary through the API."""
