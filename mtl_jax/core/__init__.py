"""Floor 0: types, shape letters, TaskSpec, tree paths, keys by name, masked sums."""
