"""The bounded run and the parts it shares with the follower: records become stored decisions and labels."""
