"""The command line: parses and checks what a user typed, then calls the library."""
