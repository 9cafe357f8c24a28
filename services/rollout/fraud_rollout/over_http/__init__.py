"""The steps of a release over HTTP that come before the gateway gives its replica requests."""
