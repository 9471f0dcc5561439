"""The formats of export files: how one is recognized, and its rows read."""
