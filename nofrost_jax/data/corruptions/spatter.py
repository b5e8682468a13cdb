"""Spatter."""

TABLE = {}
