"""Recognizes the formats of export files and reads their rows."""
