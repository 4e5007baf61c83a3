"""The parts of `experiments/compare.py`: what is trained, what is read off it, how it is shown.

arms -> runs -> records (a list of dicts, compare.jsonl) -> terminal, page. Everything that is shown
is read from the records.
"""
