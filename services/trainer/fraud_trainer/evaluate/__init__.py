"""`validate`: figures on held-out rows, the comparison with the champion, the report and the model card."""
