"""Scripts: prepare, train, evaluate, recommend, quickstart."""
