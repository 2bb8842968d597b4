"""The test side of every family: its tiny pipeline, its rows of the contract, and mistakes that it could make."""
