"""The bounded run, and what it shares with the follower: records become stored decisions and labels."""
