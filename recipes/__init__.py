"""Recipes: modules with `recipe`, run by `python -m ssltyped.run recipes.NAME`."""
