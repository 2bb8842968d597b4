"""The embedded task beside `seppo_core.toy`: what its bases learn, sets as files, the bases and their training."""
