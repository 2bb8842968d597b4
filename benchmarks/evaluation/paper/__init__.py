"""The paper's tables as published, with what was measured here beside them."""
