"""Tells people by e-mail and Slack that something went wrong, and that it works again."""
