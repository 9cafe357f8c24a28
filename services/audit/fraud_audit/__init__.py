"""The analysts' web app: people review and label what the models decided."""
