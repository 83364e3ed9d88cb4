"""The commands that train, evaluate and describe; `sparl.cli` imports them."""
