"""The configuration schema and its checks. Imports no torch."""
