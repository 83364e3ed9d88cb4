"""The commands that train, evaluate and describe agents; `sparl.cli` imports them."""
