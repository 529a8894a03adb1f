"""The commands of `jaxmlp ...`, one file for each group; `jaxmlp.cli` puts them together."""
