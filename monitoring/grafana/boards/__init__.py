"""The dashboards, a module each: the questions they answer, and the queries that do."""
