"""The overview: one page that shows how the embedded platform is doing, in place of Grafana."""
