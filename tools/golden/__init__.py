"""Run recorded cases of VISSL through ssltyped: `python -m tools.golden INDEX.json`."""
