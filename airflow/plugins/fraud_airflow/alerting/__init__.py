"""Sends alerts by e-mail and Slack when something fails, and when it works again."""
