"""Measures of trained trunks: `python -m ssltyped.run recipes.evals.NAME data.path=LABELLED weights=RUN_OR_FILE`."""
